"""Who takes part: what backends state, and whether so many are missing that all are used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sluicegate_agent.signals.model import Stated
from sluicegate_agent.weights.model import Member

DRAIN: Final = "drain"
MAINT: Final = "maint"
DOWN: Final = "down"
EJECTED: Final = "ejected"
PROBATION: Final = "probation"
WITHDRAWN: Final = frozenset({DRAIN, MAINT})
"""What a backend asks for on purpose. It is neither healthy nor ill, and panic does not overrule it."""


def stated(member: Member) -> str:
    """What the backend last stated of itself: DRAIN, MAINT, DOWN or nothing of these."""
    report = member.reading.report if member.reading else None
    if report is None:
        return ""
    if report.administrative is Stated.MAINT:
        return MAINT
    if report.administrative is Stated.DRAIN:
        return DRAIN
    return DOWN if report.operational is Stated.DOWN else ""


class Health(NamedTuple):
    """The healthy part of a pool's weight. ``silenced``: all that is left asks for no new flows by a share of 0."""

    healthy: int
    total: int
    silenced: bool = False

    @property
    def panic(self) -> bool:
        """Whether so little is left that it would break under the load of all. Then the signals may be what is
        wrong, and all backends are used at their configured weights."""
        return self.silenced or 2 * self.healthy < self.total

    def __str__(self) -> str:
        if self.silenced:
            return "panic: every backend states a share of 0: configured weights"
        part = 100 * self.healthy // self.total if self.total else 0
        return f"panic: only {part} % of the weight is healthy: all backends at their configured weights"


def health(members: Iterable[tuple[int, bool, bool]]) -> Health:
    """The health of a pool, from weight, being healthy, and stating a share of 0; withdrawn backends are left out."""
    healthy = total = 0
    zero = False
    for weight, well, nothing in members:
        if nothing:
            zero = True
        else:
            total += weight
            healthy += weight if well else 0
    return Health(healthy, total, silenced=zero and total == 0)
