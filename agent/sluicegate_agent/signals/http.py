"""HTTP/1.1 responses (RFC 9112) read piece by piece, without a socket: head, and a body of at most so many bytes."""

from __future__ import annotations

import re
from typing import Final

from sluicegate_agent.asking.http import (
    BEGINNING,
    END_OF_HEAD,
    LONGEST_END,
    LONGEST_HEAD,
    STATUS_LINE,
    SWITCHING_PROTOCOLS,
)
from sluicegate_agent.signals.errors import SignalError, quoted

CHUNK: Final = 65_536
"""Bytes to ask of a connection at a time."""
_LONGEST_SIZE_LINE: Final = 256
"""Bytes of a chunk's size and its extensions."""

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LENGTH = re.compile(rb"[0-9]{1,15}")


def get_request(path: str, host: str, agent: str) -> bytes:
    """A GET of a path, which is printable ASCII without spaces, for one answer on its connection."""
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        f"User-Agent: {agent}",
        "Accept: application/json",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class Response:
    """One response: give it what arrives by :meth:`feed` until that is True, or :meth:`end` it when no more comes.

    Both raise SignalError. ``status`` is 0 before the head is there. ``body`` never holds more than ``most`` bytes: a
    longer one is refused, not cut.
    """

    def __init__(self, most: int) -> None:
        self.status = 0
        self.body = bytearray()
        self.received = 0
        self._most = most
        self._waiting = bytearray()
        self._head_left = LONGEST_HEAD
        self._searched = 0  # how much of what waits holds no end of a head
        self._length: int | None = None  # of the body; None: until the end of the connection
        self._chunked = False
        self._chunk_left: int | None = None  # None: a chunk's size comes next
        self._done = False

    def feed(self, received: bytes) -> bool:
        """Take what arrived; True when the response is complete."""
        self.received += len(received)
        self._waiting += received
        if not self.status and not self._take_head():
            return False
        if self._chunked:
            self._take_chunks()
        else:
            self._take(self._waiting, len(self._waiting) if self._length is None else self._length - len(self.body))
            self._done = self._length is not None and len(self.body) == self._length
        return self._done

    def end(self) -> None:
        """The connection was closed: that is the end of a body without a length, else it came too early."""
        if self._done or (self.status and self._length is None and not self._chunked):
            return
        if not self.received:
            raise SignalError("connection closed without an answer")
        part = "body" if self.status else "head"
        raise SignalError(f"connection closed after {self.received} bytes, within the {part} of an HTTP response")

    def _take_head(self) -> bool:
        """Move the head out of what waits; False while it is not complete. Interim responses are passed over."""
        while end := END_OF_HEAD.search(self._waiting, self._searched, self._head_left):
            self._searched = 0
            head = bytes(self._waiting[: end.end()])
            del self._waiting[: end.end()]
            self._head_left -= len(head)
            line = STATUS_LINE.match(head)
            if line is None:
                raise SignalError(f"no HTTP: the answer begins with {quoted(head)}")
            status = int(line[1])
            if status == SWITCHING_PROTOCOLS:
                raise SignalError("the server switches to another protocol (status 101)")
            if status >= 200:
                self.status = status
                self._understand(head[line.end() :])
                return True
        self._searched = max(len(self._waiting) - LONGEST_END, 0)  # a head that drips is not searched from its start
        if not self._waiting.startswith(BEGINNING[: len(self._waiting)]):
            raise SignalError(f"no HTTP: the answer begins with {quoted(bytes(self._waiting))}")
        if len(self._waiting) >= self._head_left:
            raise SignalError(f"the head of the HTTP response is longer than {LONGEST_HEAD} bytes")
        return False

    def _understand(self, lines: bytes) -> None:
        lengths = set()
        for line in lines.splitlines():
            name, _colon, value = line.partition(b":")
            value = value.strip(b" \t").lower()
            match name.lower():
                case b"transfer-encoding":
                    if value != b"chunked":
                        raise SignalError(f"the answer has the transfer encoding {quoted(value)}, only chunked is read")
                    self._chunked = True
                case b"content-encoding" if value not in {b"", b"identity"}:
                    raise SignalError(f"the answer is compressed ({quoted(value)}), which was not asked for")
                case b"content-length":
                    lengths.add(value)
        if self.status in {204, 304}:
            self._length, self._chunked = 0, False
        elif lengths and not self._chunked:
            self._length = self._content_length(lengths)

    def _content_length(self, lengths: set[bytes]) -> int:
        length, *others = sorted(lengths)
        if others or not _LENGTH.fullmatch(length):
            raise SignalError(f"the answer's Content-Length is {quoted(b', '.join(sorted(lengths)))}")
        if int(length) > self._most:
            raise SignalError(f"the answer has {int(length)} bytes, at most {self._most} are read")
        return int(length)

    def _take(self, source: bytearray, most: int) -> int:
        taken = source[:most]
        del source[:most]
        if len(self.body) + len(taken) > self._most:
            raise SignalError(f"the answer is longer than the {self._most} bytes that are read")
        self.body += taken
        return len(taken)

    def _take_chunks(self) -> None:
        while not self._done:
            if self._chunk_left:
                taken = self._take(self._waiting, self._chunk_left)
                self._chunk_left -= taken
                if self._chunk_left:
                    return
            if self._chunk_left == 0 and not self._take_line_end():
                return
            size = _CHUNK_SIZE.match(self._waiting)
            if size is None:
                if b"\n" in self._waiting or len(self._waiting) > _LONGEST_SIZE_LINE:
                    raise SignalError(f"the answer's chunk begins with {quoted(bytes(self._waiting))}, not its size")
                return
            self._chunk_left = int(size[1], 16)  # before the deletion: a match reads what is there now
            del self._waiting[: size.end()]
            self._done = self._chunk_left == 0  # trailers are not read: the connection is closed

    def _take_line_end(self) -> bool:
        """Pass over the line's end behind a chunk; False while it has not come."""
        for end in (b"\r\n", b"\n"):
            if self._waiting.startswith(end):
                del self._waiting[: len(end)]
                self._chunk_left = None
                return True
        if self._waiting and self._waiting != b"\r":
            raise SignalError(f"the answer's chunk is followed by {quoted(bytes(self._waiting))}")
        return False
