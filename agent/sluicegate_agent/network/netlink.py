"""Netlink's wire format and sockets, without threads or waiting.

Written here rather than taken from a library because one route lookup has to cost microseconds: thousands of backends
are looked up again whenever a link changes. Layouts: linux/netlink.h. Everything is in the machine's byte order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

ROUTE = 0
GENERIC = 16

REQUEST = 0x001
ACKNOWLEDGE = 0x004
EXCLUSIVE = 0x200
CREATE = 0x400
DUMP = 0x300
DUMP_INTERRUPTED = 0x010

_ERROR = 2
_DONE = 3
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_GET_STRICT_CHECK = 12
_SO_RCVBUFFORCE = 33
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_INT = struct.Struct("=i")

_READ_BYTES = 65536  # the kernel fills a dump's answer up to 32 KiB
_ANSWER_SECONDS = 10  # the kernel answers within the call; only a lock held by others makes it longer
_EVENT_BUFFER_BYTES = 4 << 20  # about 4,000 events between two reads
_DUMP_ATTEMPTS = 5


class NetlinkError(OSError):
    """The kernel refused a request; ``errno`` says why."""


class Message(NamedTuple):
    """One message: its type, flags, sequence number and what follows the header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(body: bytes, offset: int = 0) -> dict[int, bytes]:
    """All attributes of ``body`` from ``offset`` on; of a repeated type the last. A broken length ends the list."""
    return dict(attribute_list(body, offset))


def attribute_list(body: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Attributes in their order, for nested lists whose entries share one type."""
    end = len(body)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & _TYPE_MASK, body[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram. A broken length ends it."""
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            return
        yield Message(kind, flags, sequence, data[offset + 16 : offset + length])
        offset += (length + 3) & ~3


class Requests:
    """Questions to the kernel. It answers inside the system call, so nothing here waits for anybody else."""

    def __init__(self, protocol: int) -> None:
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHECK, 1)  # dumps honour their filters (Linux 4.20)
        timeout = struct.pack("ll", _ANSWER_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def ask(self, kind: int, body: bytes, flags: int = 0) -> bytes:
        """The body of the one answer to a request. Raises :class:`NetlinkError`.

        A request that changes something is answered only when ``flags`` has ``ACKNOWLEDGE``.
        """
        self._send(kind, REQUEST | flags, body)
        while True:
            for answer in messages(self._receive()):
                if answer.sequence == self._sequence:
                    _raise_error(answer)
                    return answer.body

    def dump(self, kind: int, body: bytes, keep: Callable[[bytes], bool] = lambda _body: True) -> list[bytes]:
        """The bodies of the answers to a dump that ``keep`` wants, read again where they changed meanwhile."""
        for _ in range(_DUMP_ATTEMPTS):
            self._send(kind, REQUEST | DUMP, body)
            bodies, consistent = self._read_dump(keep)
            if consistent:
                break
        return bodies

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read_dump(self, keep: Callable[[bytes], bool]) -> tuple[list[bytes], bool]:
        bodies: list[bytes] = []
        consistent = True
        while True:
            for answer in messages(self._receive()):
                if answer.sequence != self._sequence:
                    continue
                consistent = consistent and not answer.flags & DUMP_INTERRUPTED
                if answer.kind == _DONE:
                    _raise_error(answer)
                    return bodies, consistent
                _raise_error(answer)
                if keep(answer.body):
                    bodies.append(answer.body)

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._socket.send(_HEADER.pack(16 + len(body), kind, flags, self._sequence, 0) + body)

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            raise NetlinkError(errno.ETIMEDOUT, f"the kernel gave no answer within {_ANSWER_SECONDS} s") from None


class Events:
    """Multicast groups of one netlink protocol. The kernel queues events while nobody reads."""

    def __init__(self, protocol: int, groups: Sequence[int]) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BUFFER_BYTES)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _EVENT_BUFFER_BYTES)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """The descriptor, to wait until it is readable."""
        return self._socket.fileno()

    def read(self, limit: int) -> EventBatch:
        """Up to ``limit`` datagrams of events that wait."""
        found: list[Message] = []
        lost = False
        for _ in range(limit):
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return EventBatch(found, lost=lost, more=False)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            found.extend(messages(data))
        return EventBatch(found, lost=lost, more=True)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class EventBatch(NamedTuple):
    """Events read at once; ``lost`` when the kernel dropped some for want of room, ``more`` when others may wait."""

    messages: list[Message]
    lost: bool
    more: bool


def _raise_error(answer: Message) -> None:
    if answer.kind not in {_ERROR, _DONE} or len(answer.body) < 4:
        return
    code = -_INT.unpack_from(answer.body)[0]
    if code > 0:
        raise NetlinkError(code, os.strerror(code))
