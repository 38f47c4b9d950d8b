"""What became of single requests, and what many of them amount to. A request that failed took for ever."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. Times are of the monotonic clock, in seconds.

    ``side`` is which of the peers it was sent to, ``planned`` when it should have been sent, ``lag`` how much later it
    was, ``ended`` when its answer or its failure came. ``backend`` answered, else it is empty and ``failure`` is not.
    """

    side: str
    planned: float
    lag: float
    ended: float
    backend: str = ""
    failure: str = ""

    @property
    def latency(self) -> float:
        """Seconds from the planned time on; infinite when it failed."""
        return math.inf if self.failure else self.ended - self.planned


def to_json(outcomes: Iterable[Outcome]) -> str:
    """One line."""
    return json.dumps([[one.side, one.planned, one.lag, one.ended, one.backend, one.failure] for one in outcomes])


def from_json(line: str) -> list[Outcome]:
    """Read what :func:`to_json` wrote."""
    return [Outcome(*row) for row in json.loads(line)]


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest of these that ``part`` (0..1) of them do not exceed; nan of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Figures:
    """Some requests together. Latencies are in seconds, infinite where more failed than the quantile leaves out."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    p50: float = math.nan
    p99: float = math.nan
    worst_lag: float = 0.0

    @property
    def failed(self) -> int:
        """Those without an answer, of whatever kind."""
        return self.failures.total()

    def share(self, backend: str) -> float:
        """The part of all requests that this backend answered, 0..1."""
        return self.answers[backend] / self.requests if self.requests else 0.0


def figures(outcomes: Iterable[Outcome]) -> Figures:
    """Count them, and order their latencies."""
    taken = list(outcomes)
    latencies = [one.latency for one in taken]
    return Figures(
        len(taken),
        Counter(one.failure for one in taken if one.failure),
        Counter(one.backend for one in taken if not one.failure),
        quantile(latencies, 0.5),
        quantile(latencies, 0.99),
        max((one.lag for one in taken), default=0.0),
    )
