"""What is kept of one service between its ticks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, cast

from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.pools import steer_of
from sluicegate_agent.planning.services import Service
from sluicegate_agent.planning.steer import Steer
from sluicegate_agent.signals.model import Passive
from sluicegate_agent.signals.passive import PassiveMeter
from sluicegate_agent.steering.glide import Glide, Moment
from sluicegate_agent.weights.model import Decision, Member, PoolDecision

TOGETHER_SECONDS: Final = 0.01
"""Pools that are due so close to each other go together: fewer wake-ups."""


class SteeredPool:
    """A service with its meter and its last decision; ``due`` is when the next one is, in the loop's time."""

    def __init__(self) -> None:
        self.meter = PassiveMeter()
        self.glide = Glide()
        self.passive: Mapping[Hashable, Passive] = {}
        self.decisions: Mapping[BackendKey, Decision] = {}
        self.steers: Mapping[BackendKey, Steer] = {}
        self.note = ""
        self.due = 0.0
        self._next_whole = 0.0
        self._first: float | None = None

    def follow(self, service: Service) -> None:
        """Forget backends that are not configured any more, and decide anew at once."""
        known = {backend.key: backend for backend in service.backends}
        self.glide.keep_only(known)
        self.decisions = {key: each for key, each in self.decisions.items() if key in known}
        self.steers = {key: each for key, each in self.steers.items() if key in known}
        self.due = 0.0

    def begin(self, now: float, interval: float) -> bool:
        """Whether this is a whole tick, and not one in haste between two; plan the next."""
        whole = now >= self._next_whole - TOGETHER_SECONDS
        if whole:
            late = now - self._next_whole
            self._next_whole = now + interval if late > interval else self._next_whole + interval
        self.due = self._next_whole
        return whole

    def patient(self, service: Service, now: float) -> bool:
        """Whether a backend that has not said anything may still do so: for a while from the first decision on."""
        if self._first is None:
            self._first = now
        return now < self._first + service.weights.stale_after_seconds

    def take(
        self, service: Service, members: Mapping[BackendKey, Member], decided: PoolDecision, moment: Moment
    ) -> None:
        """Keep a decision."""
        decisions = cast("Mapping[BackendKey, Decision]", decided.members)
        self.decisions = {
            key: self.glide.soften(key, members[key], decision, moment) for key, decision in decisions.items()
        }
        self.note = decided.note
        slow_start = service.slow_start_seconds > 0
        self.steers = {
            key: steer_of(decision, members[key].weight, usable=members[key].usable, slow_start=slow_start)
            for key, decision in self.decisions.items()
        }
