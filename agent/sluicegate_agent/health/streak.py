"""Rise and fall: when checks in a row change the state. Pure.

Counted consecutively: one result of the other kind starts the count again, so a busy backend that fails one check
now and then never goes down by adding up.
"""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate_agent.health.model import HealthState


@dataclass(frozen=True, slots=True)
class Streak:
    """A state and the length of the run of results against it."""

    state: HealthState = HealthState.UNKNOWN
    against: int = 0

    def after(self, *, passed: bool, rise: int, fall: int) -> Streak:
        """The streak after one more result.

        The first pass takes a target from UNKNOWN to UP: it was usable before, so there is nothing to wait for.
        """
        if passed:
            if self.state is HealthState.UP or self.state is HealthState.UNKNOWN:
                return Streak(HealthState.UP)
            return self._count(rise, HealthState.UP)
        if self.state is HealthState.DOWN:
            return Streak(HealthState.DOWN)
        return self._count(fall, HealthState.DOWN)

    def _count(self, needed: int, other: HealthState) -> Streak:
        against = self.against + 1
        return Streak(other) if against >= needed else Streak(self.state, against)
