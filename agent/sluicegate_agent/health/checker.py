"""Checks thousands of targets from one event loop and keeps what is known of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

from sluicegate_agent.asking.rounds import MOST_AT_ONCE, Rounds
from sluicegate_agent.health.model import Check, Health, HealthState, Outcome, Result, Target
from sluicegate_agent.health.probe import probe
from sluicegate_agent.health.streak import Streak

_FIRST_WORDS = {
    HealthState.UNKNOWN: "not checked yet",
    HealthState.UP: "up when last seen, not checked since",
    HealthState.DOWN: "down when last seen, not checked since",
}

_BROKEN = Outcome(Result.INCONCLUSIVE, "could not check: an error of this program, see its log")


@dataclass(slots=True, eq=False)
class _Entry:
    """A target under check."""

    key: Hashable
    target: Target
    streak: Streak


class HealthChecker:
    """An async context manager: checks run while it is open.

    A new target is checked at once, then every ``interval`` as :class:`Rounds` describes; at most ``at_once`` checks
    run at a time.
    """

    def __init__(
        self,
        check: Check = probe,
        *,
        at_once: int = MOST_AT_ONCE,
        seed: bytes | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._check = check
        self._now = now
        self._entries: dict[Hashable, _Entry] = {}
        self._states: dict[Hashable, Health] = {}
        self._changed = asyncio.Event()
        self._rounds: Rounds[Outcome] = Rounds(
            self._ask, self._hear, broken=_BROKEN, what="a health check", at_once=at_once, seed=seed
        )

    async def __aenter__(self) -> Self:
        await self._rounds.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._rounds.__aexit__(*exception)

    @property
    def states(self) -> Mapping[Hashable, Health]:
        """A live view: what is known of each target now."""
        return MappingProxyType(self._states)

    async def changed(self) -> None:
        """Return once the state (not merely the reason) of a target changed since this returned last."""
        await self._changed.wait()
        self._changed.clear()

    def update(self, targets: Mapping[Hashable, Target], known: Mapping[Hashable, HealthState] | None = None) -> None:
        """Check these targets, and only these, from now on.

        ``known`` gives the state that a *new* target starts with, UNKNOWN without it. An edited target keeps its
        state; where something else is now asked (another address or port, another HTTP request), it is checked at once.
        """
        for key in self._entries.keys() - targets.keys():
            del self._entries[key], self._states[key]
            self._rounds.remove(key)
        for key, target in targets.items():
            entry = self._entries.get(key)
            if entry is None:
                self._add(key, target, (known or {}).get(key, HealthState.UNKNOWN))
            elif entry.target != target:
                self._edit(entry, target)

    def _add(self, key: Hashable, target: Target, state: HealthState) -> None:
        self._entries[key] = _Entry(key, target, Streak(state))
        self._states[key] = Health(state, _FIRST_WORDS[state], self._now())
        self._rounds.add(key, target.interval)

    def _edit(self, entry: _Entry, target: Target) -> None:
        another = target.question != entry.target.question
        entry.target = target
        if another:
            entry.streak = Streak(entry.streak.state)
            self._rounds.replace(entry.key, target.interval)
        else:
            self._rounds.retime(entry.key, target.interval)

    async def _ask(self, key: Hashable) -> Outcome:
        return await self._check(self._entries[key].target)

    def _hear(self, key: Hashable, outcome: Outcome) -> None:
        self._judge(self._entries[key], outcome)

    def _judge(self, entry: _Entry, outcome: Outcome) -> None:
        before = self._states[entry.key]
        now = self._now()
        if outcome.result is Result.INCONCLUSIVE:
            self._states[entry.key] = replace(
                before, reason=outcome.reason, last_check=now, inconclusive=before.inconclusive + 1
            )
            return
        passed = outcome.result is Result.PASSED
        target = entry.target
        entry.streak = entry.streak.after(passed=passed, rise=target.rise, fall=target.fall)
        state, taken = entry.streak.state, outcome.milliseconds
        turned = state is not before.state
        self._states[entry.key] = Health(
            state=state,
            reason=_words(entry.streak, outcome, target),
            since=now if turned else before.since,
            last_check=now,
            last_ms=taken,
            checks=before.checks + 1,
            failures=before.failures + (not passed),
            inconclusive=before.inconclusive,
            durations=before.durations if taken is None else before.durations.with_one(taken / 1000),
            rises=before.rises + (turned and state is HealthState.UP),
            falls=before.falls + (turned and state is HealthState.DOWN),
        )
        if turned:
            self._changed.set()


def _words(streak: Streak, outcome: Outcome, target: Target) -> str:
    if not streak.against:
        return outcome.reason
    if streak.state is HealthState.DOWN:
        return f"{outcome.reason} ({streak.against} of {target.rise} in a row until it counts as up)"
    return f"{outcome.reason} ({streak.against} of {target.fall} in a row until it counts as down)"
