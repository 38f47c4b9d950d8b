"""Pools for tests of weights, and a driver that steps a controller through ticks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluicegate_agent.signals.model import Passive, Reading, Report
from sluicegate_agent.weights.controller import Controller
from sluicegate_agent.weights.model import Decision, Member, Pool, PoolDecision
from sluicegate_api.checks import WeightSource


def seen(latency: float | None = 0.020, *, flows: int = 100, failures: int = 0, active: float = 4.0) -> Passive:
    """A second of a busy backend."""
    return Passive(1.0, active, active, flows, flows, flows, failures, latency)


def heard(at: float, count: int = 10, **report: Any) -> Reading:
    """A good report."""
    return Reading(Report(**report), at, "", count)


class Driver:
    """Steps one pool once a second."""

    def __init__(self, source: WeightSource = WeightSource.PASSIVE, **pool: Any) -> None:
        self.source, self.pool = source, pool
        self.controller = Controller()
        self.now = 1000.0
        self.last = PoolDecision()

    def tick(self, members: Mapping[str, Member], *, ticks: int = 1, jump: float = 1.0) -> dict[str, Decision]:
        """As many steps with the same members, ``jump`` seconds apart; the last decisions."""
        for _ in range(ticks):
            self.now += jump
            self.last = self.controller.step("pool", Pool(self.source, members, **self.pool), self.now)
        return {str(name): each for name, each in self.last.members.items()}

    def report(self, reports: Mapping[str, Mapping[str, Any]], *, ticks: int = 1, **member: Any) -> dict[str, Decision]:
        """As many steps with a new report each; the last decisions."""
        found: dict[str, Decision] = {}
        for _ in range(ticks):
            at = self.now + 0.9
            found = self.tick(
                {name: Member(100, True, reading=heard(at, **each), **member) for name, each in reports.items()}
            )
        return found


def equal(count: int, latency: float | None = 0.020, **slow: float) -> dict[str, Member]:
    """Backends a, b, c, … of weight 100; those that are named have another latency."""
    names = [chr(ord("a") + index) for index in range(count)]
    return {name: Member(100, True, passive=seen(slow.get(name, latency))) for name in names}
