"""Ethernet frames of conversations, with valid checksums and plausible times."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from enum import IntEnum

TCP, UDP = 6, 17
SEGMENT = 1448
"""Bytes of payload in a full packet."""

FIN, SYN, PSH, ACK = 1, 2, 8, 16
_ETHERNET = (b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0", b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0")
"""By sender. Both go to addresses that no interface of the bench has: the stack behind it drops them early."""

_TCP = struct.Struct("!HHIIBBHHH")
_UDP = struct.Struct("!HHHH")
_IP = struct.Struct("!BBHHHBBH4s4s")
_PSEUDO = struct.Struct("!4s4sBBH")
_MILLISECOND = 1_000_000
_BACK_TO_BACK = 120_000
"""Nanoseconds between segments that are sent at once: about 100 Mbit/s."""


class Side(IntEnum):
    """Who sends."""

    CLIENT = 0
    SERVER = 1


@dataclass(frozen=True, slots=True)
class Ends:
    """Addresses, 4 bytes each, and ports: the client's first."""

    client: bytes
    server: bytes
    client_port: int
    server_port: int


@dataclass
class Talk:
    """One flow. ``frames`` are times in ns from its beginning, which never go back, and frames.

    A side that answers the other does so half a round trip after it heard it, as seen in the middle of the way.
    """

    ends: Ends
    source: random.Random
    round_trip: int = 0
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    now: int = 0
    _last: Side = Side.CLIENT
    _sequence: list[int] = field(default_factory=list)
    _ident: int = 0

    def __post_init__(self) -> None:
        self.round_trip = self.source.randrange(2, 30) * _MILLISECOND
        self._sequence = [self.source.getrandbits(32), self.source.getrandbits(32)]
        self._ident = self.source.getrandbits(16)

    def wait(self, nanoseconds: int) -> None:
        """Nobody says anything for that long."""
        self.now += nanoseconds

    def open(self) -> None:
        """The handshake of TCP."""
        self._segment(Side.CLIENT, SYN)
        self._segment(Side.SERVER, SYN | ACK)
        self._segment(Side.CLIENT, ACK)

    def close(self) -> None:
        """Both sides end the connection."""
        self._segment(Side.CLIENT, FIN | ACK)
        self._segment(Side.SERVER, FIN | ACK)
        self._segment(Side.CLIENT, ACK)

    def say(self, side: Side, data: bytes, gap: int = _BACK_TO_BACK, size: int = SEGMENT) -> None:
        """Over TCP, in segments of at most ``size``; the other side acknowledges every second one."""
        for number, at in enumerate(range(0, len(data), size)):
            if number:
                self.now += gap
            self._segment(side, PSH | ACK, data[at : at + size])
            if number % 2:
                self._acknowledge(Side(1 - side))

    def datagram(self, side: Side, data: bytes) -> None:
        """Over UDP."""
        self._turn(side)
        ports = self._ports(side)
        source, destination = self._addresses(side)
        head = _UDP.pack(*ports, 8 + len(data), 0)
        check = _checksum(_PSEUDO.pack(source, destination, 0, UDP, 8 + len(data)), head, data) or 0xFFFF
        self._frame(side, UDP, head[:6] + check.to_bytes(2, "big") + data)

    def _acknowledge(self, side: Side) -> None:
        last = self._last
        self._segment(side, ACK, turn=False)
        self._last = last

    def _segment(self, side: Side, flags: int, data: bytes = b"", *, turn: bool = True) -> None:
        if turn:
            self._turn(side)
        source, destination = self._addresses(side)
        acknowledged = self._sequence[1 - side] if flags & ACK else 0
        head = _TCP.pack(*self._ports(side), self._sequence[side], acknowledged, 0x50, flags, 64240, 0, 0)
        check = _checksum(_PSEUDO.pack(source, destination, 0, TCP, 20 + len(data)), head, data)
        self._sequence[side] = (self._sequence[side] + len(data) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        self._frame(side, TCP, head[:16] + check.to_bytes(2, "big") + head[18:] + data)

    def _turn(self, side: Side) -> None:
        if side is not self._last:
            self.now += self.round_trip // 2
            self._last = side

    def _frame(self, side: Side, protocol: int, body: bytes) -> None:
        source, destination = self._addresses(side)
        self._ident = (self._ident + 1) & 0xFFFF
        head = _IP.pack(0x45, 0, 20 + len(body), self._ident, 0x4000, 64, protocol, 0, source, destination)
        check = _checksum(head).to_bytes(2, "big")
        self.frames.append((self.now, b"".join((_ETHERNET[side], head[:10], check, head[12:], body))))

    def _addresses(self, side: Side) -> tuple[bytes, bytes]:
        ends = self.ends
        return (ends.client, ends.server) if side is Side.CLIENT else (ends.server, ends.client)

    def _ports(self, side: Side) -> tuple[int, int]:
        ends = self.ends
        both = (ends.client_port, ends.server_port)
        return both if side is Side.CLIENT else (both[1], both[0])


def _checksum(*parts: bytes) -> int:
    """Of the Internet, over all parts. Only the last may be of odd length."""
    data = b"".join(parts)
    total = int.from_bytes(data + b"\0" if len(data) % 2 else data) % 0xFFFF  # the ones' complement sum, but for 0
    return 0xFFFF - total if total or not any(data) else 0
