"""What is checked, how one check ended, and what is known of a target's health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from sluicegate_agent.datapath.model import IPAddress
from sluicegate_agent.health.durations import Durations


class HealthState(StrEnum):
    """UNKNOWN until checks have decided; it counts as usable."""

    UNKNOWN = "Unknown"
    UP = "Up"
    DOWN = "Down"


@dataclass(frozen=True, slots=True)
class HttpQuestion:
    """An HTTP check's request and the status codes that pass. ``host`` is None for the address and port themselves."""

    path: str
    host: str | None
    expected: frozenset[int]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to check. ``interval`` and ``timeout`` are seconds, ``rise`` and ``fall`` checks in a row.

    ``http`` is None for a TCP check.
    """

    key: Hashable
    address: IPAddress
    port: int
    interval: float
    timeout: float
    rise: int
    fall: int
    http: HttpQuestion | None = None

    @property
    def question(self) -> tuple[IPAddress, int, HttpQuestion | None]:
        """What is asked of whom. A change of it makes answers to the old question void."""
        return self.address, self.port, self.http


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a target.

    ``reason`` is for an operator. ``since`` (Unix time) is when ``state`` became what it is, ``last_check`` when the
    last check ended and ``last_ms`` how long it took, if it passed. ``checks`` and ``failures`` count all that said
    something about the target, ``inconclusive`` those that this node could not carry out; ``durations`` are of those
    that passed. ``rises`` and ``falls`` count how often the state became UP and DOWN.
    """

    state: HealthState
    reason: str
    since: float
    last_check: float | None = None
    last_ms: float | None = None
    checks: int = 0
    failures: int = 0
    inconclusive: int = 0
    durations: Durations = field(default_factory=Durations)
    rises: int = 0
    falls: int = 0


class Result(Enum):
    """How a check ended. INCONCLUSIVE: this node could not carry it out, which says nothing about the target."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check: its result, why in words, and for an answered one the milliseconds it took."""

    result: Result
    reason: str
    milliseconds: float | None = None


Check = Callable[[Target], Awaitable[Outcome]]
"""Carries out one check. It keeps to the target's timeout and raises nothing that belongs to the target."""
