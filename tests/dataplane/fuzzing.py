"""Frames that no sane sender makes, from a seed: valid ones that were damaged, and structures filled at random."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from bench import BACKENDS, CLIENT, OTHER_VIP, SOURCE, VIP
from frames import CHECKSUM, EXTENSIONS, locate, reply, request, with_client_port
from parser_cases import FORWARDED, PASSED
from sluicegate_agent.datapath.model import Protocol

MAX_FRAME = 3000
LARGE = 600  # longest random tail; rarely the frame grows far beyond the MTU
ADDRESSES = {
    family: [VIP[family], OTHER_VIP[family], CLIENT[family], SOURCE[family], *BACKENDS[family]] for family in (4, 6)
}


def valid_frames() -> list[bytes]:
    """Frames of flows, both directions, and every case of the parser's tables."""
    flows = []
    for family, protocol, vip in product((4, 6), Protocol, (VIP, OTHER_VIP)):
        flows += [
            request(family, protocol, flags, payload=b"question", vip=vip[family])
            for flags in ("S", "A", "PA", "FA", "R")
        ]
        flows += [
            reply(family, protocol, "PA", to=to[family], to_port=port, backend=backend, payload=b"answer")
            for to, port, backend in product((SOURCE, CLIENT), (2000, 40000), range(3))
        ]
    return flows + [case.frame for case in (*FORWARDED, *PASSED)]


class Fuzzer:
    """An endless stream of frames; the same seed gives the same frames."""

    def __init__(self, seed: int, valid: Sequence[bytes]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._valid = list(valid)
        self._damages: list[Callable[[bytearray], bytearray]] = [
            self._flip_bytes,
            self._flip_header_bytes,
            self._flip_header_bytes,
            self._cut,
            self._extend,
            self._spread_length,
            self._nest,
            self._splice,
        ]

    def frames(self, count: int) -> Iterator[bytes]:
        """``count`` frames of at least an Ethernet header."""
        for _ in range(count):
            frame = self._one()
            yield bytes(frame[:MAX_FRAME].ljust(14, b"\0"))

    def _one(self) -> bytes | bytearray:
        dice = self._random.random()
        if dice < 0.1:
            return self._new_flow()
        if dice < 0.2:
            return self._structure()
        if dice < 0.25:
            return self._random.choice(self._valid)
        frame = bytearray(self._random.choice(self._valid))
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            frame = self._random.choice(self._damages)(frame)
        return frame

    def _new_flow(self) -> bytes:
        frame = self._random.choice(self._valid[:20])
        return with_client_port(frame, self._random.randrange(1, 0x10000))

    def _structure(self) -> bytes:
        """Headers that fit each other more or less, with known addresses."""
        pick = self._random
        family = pick.choice((4, 6))
        source, destination = (pick.choice(ADDRESSES[family]) for _ in range(2))
        frame = request(family, pick.choice(list(Protocol)), client=source, vip=destination)
        place = locate(frame)
        body = pick.randbytes(pick.randrange(80))
        protocol = pick.choice((*EXTENSIONS, *CHECKSUM, 1, 58, 50, 59, pick.randrange(256)))
        out = bytearray(frame[: place.transport] + struct.pack("!HH", 40000, 80) + body)
        if family == 4:
            out[place.network + 9] = protocol
            out[place.network + 2 : place.network + 4] = struct.pack("!H", len(out) - 14)
            out[place.network] = 0x40 | pick.choice((5, 5, 5, pick.randrange(16)))
            out[place.network + 6 : place.network + 8] = pick.choice((bytes(2), bytes(2), pick.randbytes(2)))
        else:
            out[place.network + 6] = protocol
            out[place.network + 4 : place.network + 6] = struct.pack("!H", len(out) - 54)
        return bytes(out)

    def _flip_bytes(self, frame: bytearray) -> bytearray:
        for _ in range(self._random.randrange(1, 9)):
            frame[self._random.randrange(len(frame))] ^= 1 << self._random.randrange(8)
        return frame

    def _flip_header_bytes(self, frame: bytearray) -> bytearray:
        for _ in range(self._random.randrange(1, 4)):
            frame[self._random.randrange(min(len(frame), 80))] = self._random.randrange(256)
        return frame

    def _cut(self, frame: bytearray) -> bytearray:
        return frame[: self._random.randrange(14, len(frame) + 1)] if len(frame) >= 14 else frame

    def _extend(self, frame: bytearray) -> bytearray:
        longest = MAX_FRAME if self._random.random() < 0.02 else LARGE
        return frame + self._random.randbytes(self._random.randrange(longest))

    def _spread_length(self, frame: bytearray) -> bytearray:
        """Some 16-bit field near the headers' length fields becomes a length that is nearly right, or an extreme."""
        at = self._random.choice((16, 18, 20, 38, 58, 22))
        if at + 2 <= len(frame):
            value = self._random.choice((0, 1, 7, 8, 0xFFFF, len(frame) - 14 + self._random.randrange(-4, 5)))
            frame[at : at + 2] = struct.pack("!H", value & 0xFFFF)
        return frame

    def _nest(self, frame: bytearray) -> bytearray:
        """Tags before the IP header, or an extension header of random content behind it."""
        if self._random.random() < 0.5:
            tag = self._random.choice((b"\x81\x00", b"\x88\xa8")) + self._random.randbytes(2)
            return frame[:12] + tag * self._random.randrange(1, 4) + frame[12:]
        if len(frame) < 54:
            return frame
        kind = self._random.choice(tuple(EXTENSIONS))
        units = self._random.choice((0, 0, 1, 2, self._random.randrange(256)))
        header = bytes([frame[20], units]) + self._random.randbytes(6 + 8 * min(units, 4))
        frame[20] = kind
        frame[18:20] = struct.pack("!H", (int.from_bytes(frame[18:20]) + len(header)) & 0xFFFF)
        return frame[:54] + header + frame[54:]

    def _splice(self, frame: bytearray) -> bytearray:
        other = self._random.choice(self._valid)
        at = self._random.randrange(min(len(frame), len(other)))
        return frame[:at] + other[at:]
