"""The last lines of one type of event, for whoever looks: bounded, and no reader holds up the writer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

MOST_LINES = 32_768
"""Kept, however short they are: each costs some 150 bytes beside its own."""


class Kept(NamedTuple):
    """One line. ``time_ns``: wall clock when it came."""

    sniffer: str
    time_ns: int
    line: bytes


class RecentState(NamedTuple):
    """Lines kept, lines that ever came, when the oldest kept one came (0: none), observers, lines that they missed."""

    kept: int
    came: int
    oldest_ns: int
    observers: int
    unread: int


class Recent:
    """A ring of lines. Readers keep a place in it; one that is slower than the ring turns loses lines, counted."""

    def __init__(self, most_bytes: int, most_lines: int = MOST_LINES) -> None:
        self._most_bytes = most_bytes
        self._lines: deque[Kept] = deque()
        self._most_lines = most_lines
        self._bytes = 0
        self._came = 0
        self._unread = 0
        self._closed = False
        self._readers: set[Reader] = set()
        self._lock = threading.Lock()

    def add(self, sniffer: str, time_ns: int, lines: Sequence[bytes]) -> None:
        """Keep lines; the oldest go."""
        with self._lock:
            self._lines += [Kept(sniffer, time_ns, line) for line in lines]
            self._bytes += sum(map(len, lines))
            self._came += len(lines)
            while self._lines and (self._bytes > self._most_bytes or len(self._lines) > self._most_lines):
                self._bytes -= len(self._lines.popleft().line)
            waking = [reader.wake for reader in self._readers]
        for wake in waking:
            wake()

    def state(self) -> RecentState:
        """Counts."""
        with self._lock:
            oldest = self._lines[0].time_ns if self._lines else 0
            return RecentState(len(self._lines), self._came, oldest, len(self._readers), self._unread)

    def reader(self, wake: Callable[[], None] = lambda: None) -> Reader:
        """One that begins with the oldest line. ``wake`` is called in any thread when there may be more; keep it short.

        Close it when done.
        """
        with self._lock:
            reader = Reader(self, self._came - len(self._lines), wake)
            self._readers.add(reader)
            return reader

    def close(self) -> None:
        """No more lines come: readers hear of it."""
        with self._lock:
            self._closed = True
            waking = [reader.wake for reader in self._readers]
        for wake in waking:
            wake()

    @property
    def closed(self) -> bool:
        """Whether lines may still come."""
        return self._closed

    def read(self, reader: Reader, most_bytes: int) -> tuple[list[Kept], int]:
        """For the reader: what comes next for it, and how many lines it missed before that."""
        with self._lock:
            missed = max(self._came - len(self._lines) - reader.place, 0)
            reader.place += missed
            self._unread += missed
            found = list(_up_to(most_bytes, self._from(reader.place)))
            reader.place += len(found)
            return found, missed

    def forget(self, reader: Reader) -> None:
        """The reader is done."""
        with self._lock:
            self._readers.discard(reader)

    def _from(self, place: int) -> Iterator[Kept]:
        behind = self._came - place
        if behind * 2 < len(self._lines):  # a reader that keeps up wants the last few
            return reversed(list(islice(reversed(self._lines), behind)))
        return islice(self._lines, len(self._lines) - behind, None)


class Reader:
    """A place in the ring."""

    def __init__(self, recent: Recent, place: int, wake: Callable[[], None]) -> None:
        self._recent = recent
        self.place = place
        self.wake = wake

    def read(self, most_bytes: int = 256 << 10) -> tuple[list[Kept], int]:
        """The next lines, about that many bytes and at least one if there is any; and how many were missed before."""
        return self._recent.read(self, most_bytes)

    def close(self) -> None:
        """Done."""
        self._recent.forget(self)


def _up_to(most_bytes: int, lines: Iterator[Kept]) -> Iterator[Kept]:
    taken = 0
    for kept in lines:
        yield kept
        taken += len(kept.line)
        if taken >= most_bytes:
            return
