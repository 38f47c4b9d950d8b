"""Values of one case, one per round, and the rounds themselves."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True, slots=True)
class Series:
    """What one case came to, round by round. Series of one run are paired: value i of each is of the same round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the values: first and third quartile."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = quantiles(self.values, n=4, method="inclusive")
        return low, high

    def __sub__(self, other: Series) -> Series:
        return Series(tuple(mine - its for mine, its in zip(self.values, other.values, strict=True)))

    def __truediv__(self, other: Series) -> Series:
        """Ratios by round, which a machine that got slower half-way does not touch."""
        return Series(
            tuple(mine / its if its else float("inf") for mine, its in zip(self.values, other.values, strict=True))
        )


def interleave(
    cases: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    warm_up: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Series]:
    """Measure every case once per round, in another order each round.

    So a disturbance hits all cases alike instead of one of them. ``warm_up`` rounds are measured and thrown away.
    """

    def alone(name: str) -> Callable[[], Mapping[str, float]]:
        return lambda: {name: cases[name]()}

    return gather([alone(name) for name in cases], rounds, warm_up=warm_up, progress=progress)


def gather(
    groups: Sequence[Callable[[], Mapping[str, float | Sequence[float]]]],
    rounds: int,
    *,
    warm_up: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Series]:
    """The same for groups of cases that must be measured next to each other; no name may be in two of them.

    A group gives one value of each of its cases per round, or as many of each as of the others.
    """
    values: list[dict[str, list[float]]] = [{} for _ in groups]
    source = random.Random(1)  # noqa: S311 - the same orders in every run
    for number in range(1 - warm_up, rounds + 1):
        progress(f"  round {number} of {rounds}" if number > 0 else "  warming up")
        for index in source.sample(range(len(groups)), len(groups)):
            for name, value in groups[index]().items():
                if number > 0:
                    row = values[index].setdefault(name, [])
                    row.extend([value] if isinstance(value, (int, float)) else value)
    return {name: Series(tuple(row)) for group in values for name, row in group.items()}
