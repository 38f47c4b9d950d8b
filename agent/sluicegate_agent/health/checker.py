"""Checks thousands of targets from one event loop and keeps what is known of each."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import os
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Self

from sluicegate_agent.health.model import Check, Health, HealthState, Outcome, Result, Target
from sluicegate_agent.health.probe import probe
from sluicegate_agent.health.streak import Streak

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 512  # half of the usual limit on file descriptors
_TICK_SECONDS = 0.01  # checks due within one tick start together: fewer wake-ups, no harm to a schedule in seconds
_JITTER = 0.1  # of the interval, to both sides

_FIRST_WORDS = {
    HealthState.UNKNOWN: "not checked yet",
    HealthState.UP: "up when last seen, not checked since",
    HealthState.DOWN: "down when last seen, not checked since",
}


_BROKEN = Outcome(Result.INCONCLUSIVE, "could not check: an error of this program, see its log")


@dataclass(slots=True, eq=False)
class _Entry:
    """A target under check. ``turn`` tells a scheduled or running check from those that an edit made void."""

    key: Hashable
    target: Target
    streak: Streak
    due: float
    turn: int = 0
    running: bool = False


class HealthChecker:
    """An async context manager: checks run while it is open.

    A new target is checked at once, then every ``interval`` with jitter; the second check of each falls anywhere
    within an interval's length, so thousands that came together spread evenly. At most ``at_once`` checks run at a
    time; above that all are late by the same measure and none is skipped.
    """

    def __init__(
        self,
        check: Check = probe,
        *,
        at_once: int = _MOST_AT_ONCE,
        seed: bytes | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._check = check
        self._at_once = at_once
        self._seed = os.urandom(8) if seed is None else seed
        self._now = now
        self._entries: dict[Hashable, _Entry] = {}
        self._states: dict[Hashable, Health] = {}
        self._queue: list[tuple[float, int, _Entry, int]] = []
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._open = False
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._open = True
        self._start_due()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        now = asyncio.get_running_loop().time()
        for key in self._entries.keys() - targets.keys():
            del self._entries[key], self._states[key]
        for key, target in targets.items():
            entry = self._entries.get(key)
            if entry is None:
                self._add(key, target, (known or {}).get(key, HealthState.UNKNOWN), now)
            elif entry.target != target:
                self._edit(entry, target, now)
        self._start_due()

    def _add(self, key: Hashable, target: Target, state: HealthState, now: float) -> None:
        self._entries[key] = entry = _Entry(key, target, Streak(state), now)
        self._states[key] = Health(state, _FIRST_WORDS[state], self._now())
        self._enqueue(entry)

    def _edit(self, entry: _Entry, target: Target, now: float) -> None:
        another = target.question != entry.target.question
        entry.target = target
        if another:
            entry.streak = Streak(entry.streak.state)
            entry.due = now
        elif entry.running:
            return  # the check under way counts, the next one follows the new timing
        else:
            entry.due = min(entry.due, now + target.interval)
        entry.turn += 1
        entry.running = False
        self._enqueue(entry)

    def _enqueue(self, entry: _Entry) -> None:
        self._queued += 1  # breaks ties, entries need no order
        heapq.heappush(self._queue, (entry.due, self._queued, entry, entry.turn))

    def _is_current(self, entry: _Entry, turn: int) -> bool:
        return self._entries.get(entry.key) is entry and entry.turn == turn

    def _start_due(self) -> None:
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._queue and self._queue[0][0] <= now and len(self._tasks) < self._at_once:
            _due, _order, entry, turn = heapq.heappop(self._queue)
            if not self._is_current(entry, turn):
                continue
            entry.running = True
            task = loop.create_task(self._run(entry, turn, now))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        self._arm()

    def _arm(self) -> None:
        if not self._open or not self._queue or len(self._tasks) >= self._at_once:
            return
        loop = asyncio.get_running_loop()
        when = max(self._queue[0][0], loop.time() + _TICK_SECONDS)
        if self._timer is None or when < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._start_due()

    def _finished(self, task: asyncio.Task[None]) -> None:
        full = len(self._tasks) >= self._at_once
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a health check broke", exc_info=task.exception())
        if full:
            self._start_due()
        else:
            self._arm()

    async def _run(self, entry: _Entry, turn: int, started: float) -> None:
        outcome = _BROKEN
        try:
            outcome = await self._check(entry.target)
        finally:
            if self._is_current(entry, turn):  # else removed or edited meanwhile: no word about what is checked now
                entry.running = False
                self._judge(entry, outcome)
                self._schedule(entry, started)

    def _judge(self, entry: _Entry, outcome: Outcome) -> None:
        before = self._states[entry.key]
        now = self._now()
        if outcome.result is Result.INCONCLUSIVE:
            self._states[entry.key] = replace(before, reason=outcome.reason, last_check=now)
            return
        passed = outcome.result is Result.PASSED
        target = entry.target
        entry.streak = entry.streak.after(passed=passed, rise=target.rise, fall=target.fall)
        turned = entry.streak.state is not before.state
        self._states[entry.key] = Health(
            state=entry.streak.state,
            reason=_words(entry.streak, outcome, target),
            since=now if turned else before.since,
            last_check=now,
            last_ms=outcome.milliseconds,
            checks=before.checks + 1,
            failures=before.failures + (not passed),
        )
        if turned:
            self._changed.set()

    def _schedule(self, entry: _Entry, started: float) -> None:
        checks = self._states[entry.key].checks
        first = checks == 1
        share = self._share(entry.key, checks) - 0.5
        entry.due = started + entry.target.interval * (1 + (share if first else 2 * _JITTER * share))
        self._enqueue(entry)

    def _share(self, key: Hashable, checks: int) -> float:
        """A number in 0..1 that is even over targets and other for every check, without a generator per target."""
        text = b"%d %d" % (hash(key), checks)
        return int.from_bytes(hashlib.blake2b(text, digest_size=4, key=self._seed).digest(), "big") / 2**32


def _words(streak: Streak, outcome: Outcome, target: Target) -> str:
    if not streak.against:
        return outcome.reason
    if streak.state is HealthState.DOWN:
        return f"{outcome.reason} ({streak.against} of {target.rise} in a row until it counts as up)"
    return f"{outcome.reason} ({streak.against} of {target.fall} in a row until it counts as down)"
