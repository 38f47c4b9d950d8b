"""One output's thread and its bounded queue: whoever has lines hands them over and goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from sluicegate_agent.dpi.events.places import Place
from sluicegate_agent.dpi.events.sinks import Sink

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
_AT_ONCE = 1024
"""Lines of one write, about."""
STUCK_SECONDS = 3.0
"""A write that takes longer is named: nothing else tells of a disk that hangs or a reader that does not read."""


class Feed:
    """One sniffer's lines in an output, counted."""

    __slots__ = ("dropped", "lost", "queued", "written")

    def __init__(self) -> None:
        self.written = self.dropped = self.lost = self.queued = 0


class WriterState(NamedTuple):
    """Counts of one feed, and how the output is."""

    written: int
    dropped: int
    lost: int
    queued: int
    problem: str


class Writer:
    """Writes in a thread of its own, which ends after `close`. A line that cannot be written stays and is tried again.

    When the queue is full, new lines are dropped: those that wait keep their order and have no gap among them.
    """

    def __init__(self, place: Place, open_sink: Callable[[Place], Sink], most_bytes: int) -> None:
        self.place = place
        self._sink = open_sink(place)
        self._most_bytes = most_bytes
        self._queue: deque[tuple[Feed, Sequence[bytes]]] = deque()
        self._bytes = self._left = 0
        self._changed = threading.Condition()
        self._closing = self._reopen = False
        self._problem = ""
        self._dropping = self._told = False
        self._since = 0.0
        self._thread = threading.Thread(target=self._run, name=f"events-{place.type.value}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def put(self, feed: Feed, lines: Sequence[bytes]) -> None:
        """Hand lines over; never waits for the output."""
        size = sum(map(len, lines))
        with self._changed:
            if self._bytes + size > self._most_bytes or self._closing:
                lines, size = self._fitting(feed, lines)
                if not lines:
                    return
            self._queue.append((feed, lines))
            self._bytes += size
            feed.queued += len(lines)
            self._changed.notify()

    def state(self, feed: Feed) -> WriterState:
        """How it is, for that feed."""
        with self._changed:
            return WriterState(feed.written, feed.dropped, feed.lost, feed.queued, self._problem or self._stuck())

    def change(self, place: Place) -> None:
        """The same output has other limits."""
        with self._changed:
            if place != self.place:
                self.place = place
                self._sink.limit(place.max_bytes, place.max_files)

    def reopen(self) -> None:
        """Open the output anew before the next line, and try again at once."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    def close(self) -> None:
        """Nothing more comes: write what is queued and end. Does not wait."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, seconds: float) -> int:
        """Wait for the end, that long; how many lines were left, which are lost."""
        self._thread.join(seconds)
        self._give_up()
        return self._left

    def _give_up(self) -> None:
        with self._changed:
            left = sum(len(lines) for _, lines in self._queue)
            for feed, lines in self._queue:
                feed.lost += len(lines)
                feed.queued -= len(lines)
            self._queue.clear()
            self._bytes = 0
            self._left += left
        if left:
            log.warning("%d events were left when their output %s was closed", left, self.place.text)

    def _fitting(self, feed: Feed, lines: Sequence[bytes]) -> tuple[Sequence[bytes], int]:
        """The first lines, as many as fit. The others are dropped."""
        size, count = 0, 0
        if not self._closing:
            for count, line in enumerate(lines):  # noqa: B007  # the index of the first that does not fit
                if self._bytes + size + len(line) > self._most_bytes:
                    break
                size += len(line)
        feed.dropped += len(lines) - count
        self._dropping = True
        return lines[:count], size

    def _stuck(self) -> str:
        seconds = time.monotonic() - self._since if self._since else 0.0
        return f"{self.place.text} has taken nothing for {seconds:.0f} s" if seconds >= STUCK_SECONDS else ""

    def _run(self) -> None:
        retry = FIRST_RETRY_SECONDS
        try:
            while self._ready():
                if self._take_reopen():
                    self._sink.reopen()
                    retry = FIRST_RETRY_SECONDS
                if (batch := self._first()) is None:
                    continue
                done = self._sink.write(batch)
                self._account(batch, done, self._sink.problem)
                if not self._sink.problem:
                    retry = FIRST_RETRY_SECONDS
                elif self._closing:
                    self._give_up()  # one more try was enough
                else:
                    self._rest(retry)
                    retry = min(retry * 2, LAST_RETRY_SECONDS)
        except Exception:
            log.exception("the output %s broke", self.place.text)
            with self._changed:
                self._problem = f"{self.place.text} broke; the agent's log has the details"
        finally:
            with suppress(OSError):
                self._sink.close()

    def _ready(self) -> bool:
        """Wait for something to do; False when there never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing or self._reopen)
            return bool(self._queue) or not self._closing

    def _take_reopen(self) -> bool:
        with self._changed:
            asked, self._reopen = self._reopen, False
            return asked

    def _first(self) -> Sequence[bytes] | None:
        """The lines to write next; they stay in the queue until they are written."""
        with self._changed:
            if not self._queue:
                return None
            self._since = self._since or time.monotonic()
            feed, lines = self._queue[0]
            if len(self._queue) > 1 and len(lines) < _AT_ONCE:  # it lags behind: fewer and larger writes
                merged: list[bytes] = []
                while self._queue and self._queue[0][0] is feed and len(merged) < _AT_ONCE:
                    merged += self._queue.popleft()[1]
                self._queue.appendleft((feed, merged))
            return self._queue[0][1]

    def _account(self, lines: Sequence[bytes], done: int, problem: str) -> None:
        """So many of the lines were written, and then there was this problem."""
        with self._changed:
            before, self._problem = self._problem, problem
            if self._queue and self._queue[0][1] is lines:  # else they were given up meanwhile
                feed, _ = self._queue.popleft()
                if done < len(lines):
                    self._queue.appendleft((feed, lines[done:]))
                feed.written += done
                feed.queued -= done
                self._bytes -= sum(map(len, lines[:done]))
            self._since = 0.0 if done == len(lines) else time.monotonic() if done else self._since
            told, self._told = self._told, self._dropping
            if not self._queue:
                self._dropping = False
        # Logged here and not by whoever hands lines over: who reads nothing of stdout may read nothing of stderr.
        if problem and problem != before:
            log.warning("events wait: %s; tried again", problem)
        elif before and not problem:
            log.info("events are written to %s again", self.place.text)
        if self._told and not told:
            log.warning("events for %s are dropped: its queue is full", self.place.text)

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._reopen, seconds)
