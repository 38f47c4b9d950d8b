"""What a worker has to say: it waits here while the pool does not read, up to a bound, and never holds up the ring."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from sluicegate_agent.dpi.live import messages

MAX_WAITING: Final = 8 << 20
"""Bytes that wait; lines beyond are dropped and counted."""
_MOST_PARTS = 64


class Outbox:
    """Frames on their way to the pool over a socket that does not block."""

    def __init__(self, connection: socket.socket, limit: int = MAX_WAITING) -> None:
        self._connection = connection
        self._limit = limit
        self._waiting: deque[memoryview] = deque()
        self._size = 0
        self.made = 0  # lines, handed over or not
        self.dropped = 0  # lines that found no room

    @property
    def empty(self) -> bool:
        """Whether all was sent."""
        return not self._waiting

    def lines(self, sniffer: int, event_type: str, found: Sequence[bytes]) -> None:
        """Lines of one sniffer and event type."""
        self.made += len(found)
        if self._size > self._limit:
            self.dropped += len(found)
            return
        for part in messages.lines(sniffer, event_type, found):
            self._add(part)

    def report(self, report: messages.Report) -> None:
        """How the worker is. Left out when lines of before still wait: then nobody reads."""
        if self._size <= self._limit:
            self._add(report.packed())

    def _add(self, part: bytes) -> None:
        self._waiting.append(memoryview(part))
        self._size += len(part)

    def send(self) -> None:
        """As much as the socket takes. Raises OSError when the pool is gone."""
        while self._waiting:
            parts = [self._waiting[index] for index in range(min(len(self._waiting), _MOST_PARTS))]
            try:
                sent = self._connection.sendmsg(parts)
            except BlockingIOError:
                return
            self._size -= sent
            while sent:
                first = self._waiting.popleft()
                if sent < len(first):
                    self._waiting.appendleft(first[sent:])
                    break
                sent -= len(first)
