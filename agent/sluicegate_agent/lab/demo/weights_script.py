"""What the second act does, in phases, and what it must show to be a success. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from sluicegate_agent.lab.outcomes import Figures, Outcome, figures

STATIC, DYNAMIC = "static", "dynamic"
"""The two load balancers, which get the same requests at the same time."""

CORES: Mapping[str, int] = {"backend-1": 1, "backend-2": 1, "backend-3": 2, "backend-4": 4}
"""Emulated cores by backend. Nobody tells the load balancers: they are given equal weights."""

SLOWED, FAILING = "backend-3", "backend-2"
"""Who slows down, and who fails fast."""

SLOWER = 5

REQUESTS_PER_SECOND = 120.0
WORK_SECONDS = 0.025
PATIENCE_SECONDS = 3.0
"""To each side, mean work of one core, and how long a client waits; one that gives up takes its work with it.

3 of 8 cores are needed. With equal shares that is 0.75 of a core at each backend: the small ones are busy, not
overloaded; the slow one would need 3.75 of its 2.
"""

NOTICE_SECONDS = 5.0
"""A backend that fails must have been noticed, and one that works again must have no old work left, on a busy machine.
"""


class Phase(Enum):
    """The phases in order: title, what happens, and seconds."""

    STEADY = ("steady", "1, 1, 2 and 4 cores; the balancer was told that all are alike", 12.0)
    SLOW = ("slow", f"{SLOWED} takes {SLOWER} times as long for everything", 13.0)
    RECOVERED = ("recovered", f"{SLOWED} is as fast as before", 11.0)
    HOLE = ("black hole", f"{FAILING} resets every request; its health check passes", 11.0)

    def __init__(self, title: str, happens: str, seconds: float) -> None:
        self.title = title
        self.happens = happens
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Change:
    """With what a phase begins: a backend obeys a command (:mod:`sluicegate_agent.lab.emulated`), on both sides.

    ``harmful`` is what should lower its weight.
    """

    backend: str
    command: str
    text: str
    harmful: bool = True


CHANGES: Mapping[Phase, Change] = {
    Phase.SLOW: Change(SLOWED, f"speed {1 / SLOWER}", f"{SLOWED} is {SLOWER} times slower"),
    Phase.RECOVERED: Change(SLOWED, "speed 1", f"{SLOWED} is as fast as before", harmful=False),
    Phase.HOLE: Change(FAILING, "hole", f"{FAILING} resets every request"),
}


@dataclass(frozen=True, slots=True)
class Started:
    """When a phase began, on the monotonic clock."""

    phase: Phase
    at: float


@dataclass(frozen=True, slots=True)
class Row:
    """One phase: what became of the requests that were planned in it.

    ``settled`` are those of them that nothing disturbed, by side: planned :data:`NOTICE_SECONDS` or more after the
    change with which the phase began, and ended before the next change.
    """

    phase: Phase
    static: Figures
    dynamic: Figures
    settled: Mapping[str, Figures]

    @property
    def ratio(self) -> float:
        """How many times lower the dynamic side's p99 is: infinite when only the static one is, nan when both are."""
        if math.isinf(self.static.p99) and math.isinf(self.dynamic.p99):
            return math.nan
        return self.static.p99 / self.dynamic.p99 if self.dynamic.p99 else math.nan

    @property
    def in_words(self) -> str:
        """The ratio for people; of an infinite one that it is more than patience alone would make it."""
        if math.isinf(self.ratio):
            return f"> {PATIENCE_SECONDS / self.dynamic.p99:.0f}×"  # noqa: RUF001  # the sign of multiplication
        return "–" if math.isnan(self.ratio) else f"{self.ratio:.1f}×"  # noqa: RUF001  # a dash and a sign


@dataclass(frozen=True, slots=True)
class Weight:
    """What the agent says of a backend's weight, in the unit of configured weights, and why."""

    configured: int
    effective: float
    reason: str = ""


def rows(outcomes: Iterable[Outcome], started: Sequence[Started]) -> tuple[Row, ...]:
    """Compare the sides phase by phase; a request belongs to the phase in which it was planned."""
    sides: dict[tuple[int, str], list[Outcome]] = {}
    begins = [start.at for start in started]
    for outcome in outcomes:
        number = max(0, bisect_right(begins, outcome.planned) - 1)
        sides.setdefault((number, outcome.side), []).append(outcome)
    return tuple(
        Row(
            start.phase,
            figures(sides.get((number, STATIC), ())),
            figures(sides.get((number, DYNAMIC), ())),
            {
                side: figures(
                    one
                    for one in sides.get((number, side), ())
                    if one.planned >= start.at + (NOTICE_SECONDS if number else 0.0) and one.ended < end
                )
                for side in (STATIC, DYNAMIC)
            },
        )
        for number, (start, end) in enumerate(zip(started, [*begins[1:], math.inf], strict=True))
    )


def complaints(table: Sequence[Row], weights: Mapping[Phase, Mapping[str, Weight]]) -> Iterator[str]:
    """Why the act does not show what it says; none when it does. ``weights`` are those at the end of each phase.

    Generous on purpose: a machine that is busy with other things makes both sides slower, but not these wrong.
    """
    for row in table:
        for side, seen in ((STATIC, row.static), (DYNAMIC, row.dynamic)):
            where = f"{row.phase.title}, {side}"
            if not seen.answers:
                yield f"{where}: no request was answered"
            if unsent := seen.failures["not sent"]:
                yield f"{where}: {unsent} requests were never sent: too many were waiting"
        check = _CHECKS[row.phase]
        yield from (f"{row.phase.title}: {text}" for text in check(row, weights))
    if missing := [phase.title for phase in Phase if phase not in {row.phase for row in table}]:
        yield f"there was no phase {', '.join(missing)}"


def _steady(row: Row, weights: Mapping[Phase, Mapping[str, Weight]]) -> Iterator[str]:
    del weights
    for side, seen in row.settled.items():
        if seen.failed:
            yield f"{seen.failed} requests to the {side} side failed"
        if missing := CORES.keys() - seen.answers.keys():
            yield f"no answer from {', '.join(sorted(missing))} on the {side} side"


def _slow(row: Row, weights: Mapping[Phase, Mapping[str, Weight]]) -> Iterator[str]:
    if not row.dynamic.p99 < row.static.p99:
        yield f"p99 with dynamic weights is not lower: {row.dynamic.p99:.3f} s against {row.static.p99:.3f} s"
    yield from _lower(SLOWED, weights, before=Phase.STEADY, after=Phase.SLOW)


def _recovered(row: Row, weights: Mapping[Phase, Mapping[str, Weight]]) -> Iterator[str]:
    del weights
    settled = row.settled[DYNAMIC]
    if settled.failed:
        yield f"{settled.failed} requests to the dynamic side failed later than {NOTICE_SECONDS:g} s after it"
    if not settled.answers[SLOWED]:
        yield f"{SLOWED} got no requests on the dynamic side again"


def _hole(row: Row, weights: Mapping[Phase, Mapping[str, Weight]]) -> Iterator[str]:
    if not row.static.failed:
        yield f"{FAILING} failed no request on the static side"
    if row.dynamic.failed * 2 > row.static.failed:
        yield f"{row.dynamic.failed} failures with dynamic weights, against {row.static.failed} with static ones"
    yield from _lower(FAILING, weights, before=Phase.RECOVERED, after=Phase.HOLE)


_CHECKS = {Phase.STEADY: _steady, Phase.SLOW: _slow, Phase.RECOVERED: _recovered, Phase.HOLE: _hole}


def _lower(
    backend: str, weights: Mapping[Phase, Mapping[str, Weight]], *, before: Phase, after: Phase
) -> Iterator[str]:
    old, new = weights.get(before, {}).get(backend), weights.get(after, {}).get(backend)
    if old is None or new is None:
        yield f"the agent does not tell the weight of {backend}"
    elif not new.effective < old.effective:
        yield f"the weight of {backend} did not fall: {old.effective:.0f} before, {new.effective:.0f} at the end"
