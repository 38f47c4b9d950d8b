"""When each of thousands of questions is asked again, and how many at once: one event loop, one timer."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import os
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

_log = logging.getLogger(__name__)

A = TypeVar("A")

MOST_AT_ONCE = 512
"""Half of the usual limit on file descriptors."""
_TICK_SECONDS = 0.01  # questions due within one tick start together: fewer wake-ups, no harm to a schedule in seconds
_JITTER = 0.1  # of the interval, to both sides


@dataclass(slots=True, eq=False)
class _Entry:
    """A question. ``turn`` tells a scheduled or running one from those that an edit made void."""

    key: Hashable
    interval: float
    due: float
    turn: int = 0
    rounds: int = 0
    running: bool = False


class Rounds(Generic[A]):
    """An async context manager: questions are asked while it is open.

    A new question is asked at once, then every interval (seconds) with jitter; the second round of each falls anywhere
    within an interval's length, so thousands that came together spread evenly. At most ``at_once`` are under way at a
    time; above that all are late by the same measure and none is skipped.

    ``ask`` asks one question and raises nothing that belongs to it; ``hear`` gets its answer, unless the question was
    removed or replaced meanwhile. Where ``ask`` breaks all the same, the error is logged as that of ``what`` and
    ``hear`` gets ``broken``.
    """

    def __init__(
        self,
        ask: Callable[[Hashable], Coroutine[Any, Any, A]],
        hear: Callable[[Hashable, A], None],
        *,
        broken: A,
        what: str,
        at_once: int = MOST_AT_ONCE,
        seed: bytes | None = None,
    ) -> None:
        self._ask = ask
        self._hear = hear
        self._broken = broken
        self._what = what
        self._at_once = at_once
        self._seed = os.urandom(8) if seed is None else seed
        self._entries: dict[Hashable, _Entry] = {}
        self._queue: list[tuple[float, int, _Entry, int]] = []
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._open = False

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

    def add(self, key: Hashable, interval: float) -> None:
        """Ask a new question, at once."""
        self._entries[key] = entry = _Entry(key, interval, asyncio.get_running_loop().time())
        self._enqueue(entry)
        self._start_due()

    def remove(self, key: Hashable) -> None:
        """Ask it no more; an answer on its way is not heard."""
        del self._entries[key]

    def replace(self, key: Hashable, interval: float) -> None:
        """Ask something else under this key, at once; an answer to the old question is not heard."""
        entry = self._entries[key]
        entry.interval = interval
        self._put_off(entry, asyncio.get_running_loop().time())

    def retime(self, key: Hashable, interval: float) -> None:
        """Ask the same in another interval. A question under way counts, and the next follows the new interval."""
        entry = self._entries[key]
        entry.interval = interval
        if not entry.running:
            self._put_off(entry, min(entry.due, asyncio.get_running_loop().time() + interval))

    def _put_off(self, entry: _Entry, due: float) -> None:
        entry.due = due
        entry.turn += 1
        entry.running = False
        self._enqueue(entry)
        self._start_due()

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
            _log.error("%s broke", self._what, exc_info=task.exception())
        if full:
            self._start_due()
        else:
            self._arm()

    async def _run(self, entry: _Entry, turn: int, started: float) -> None:
        if not self._is_current(entry, turn):
            return
        answer = self._broken
        try:
            answer = await self._ask(entry.key)
        finally:
            # Removed or edited meanwhile: it is no word about what is asked now. Closed: it was cancelled.
            if self._open and self._is_current(entry, turn):
                entry.running = False
                entry.rounds += 1
                self._schedule(entry, started)
                self._hear(entry.key, answer)

    def _schedule(self, entry: _Entry, started: float) -> None:
        share = self._share(entry.key, entry.rounds) - 0.5
        first = entry.rounds == 1
        entry.due = started + entry.interval * (1 + (share if first else 2 * _JITTER * share))
        self._enqueue(entry)

    def _share(self, key: Hashable, rounds: int) -> float:
        """A number in 0..1 that is even over keys and other for every round, without a generator per key."""
        text = b"%d %d" % (hash(key), rounds)
        return int.from_bytes(hashlib.blake2b(text, digest_size=4, key=self._seed).digest(), "big") / 2**32
