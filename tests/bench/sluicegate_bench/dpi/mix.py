"""The mixed replay: which flows there are, and the capture of all of them.

Sizes of answers follow a power law, as they do in networks: most flows are short, and most packets are in few flows.
Three flows in a hundred, of the kinds that can, carry something that a signature looks for.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sluicegate_bench.dpi.talks import FIRST_NET, SPAN, Maker
from sluicegate_bench.dpi.traffic import Talk

_START = 1_700_000_000_000_000_000
_PCAP = struct.Struct("<IHHiIII")
_PACKET = struct.Struct("<IIII")
_NANOSECONDS = 0xA1B23C4D
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of traffic as it came out. Its clients are those numbered from ``first`` on, one for each flow."""

    name: str
    how: str
    first: int
    flows: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class Mix:
    """The capture, what is in it, and how its packets divide."""

    path: Path
    parts: tuple[Part, ...]

    @property
    def packets(self) -> int:
        """All."""
        return sum(part.packets for part in self.parts)

    @property
    def flows(self) -> int:
        """All."""
        return sum(part.flows for part in self.parts)

    @property
    def octets(self) -> int:
        """Of frames."""
        return sum(part.octets for part in self.parts)

    def part_of(self, client: bytes) -> Part:
        """Whose flow it is that this address opened."""
        number = (client[1] - FIRST_NET) << 16 | client[2] << 8 | client[3]
        return next(part for part in reversed(self.parts) if number >= part.first)


def _kinds(maker: Maker) -> tuple[tuple[str, str, int, Callable[[], Talk]], ...]:
    return (
        ("DNS", "a question, an answer", 4500, maker.dns),
        ("HTTP", "1 to 4 requests of Python's client; answers by a power law", 2200, maker.http),
        ("TLS", "handshakes of Python's client and server; answers by a power law", 2600, maker.tls),
        ("QUIC-like", "a real client's Initial, then noise in the form of QUIC", 700, maker.quic),
        ("SSH", "versions, offers, then noise; key strokes for 3 s", 30, maker.ssh),
        ("mail", "SMTP in cleartext", 150, maker.mail),
        ("chat", "lines of an unknown protocol", 80, maker.chat),
        ("bulk, TLS", "one long answer", 10, maker.bulk_tls),
        ("bulk, plain", "one long answer of noise", 6, maker.bulk_plain),
        ("voice", "RTP both ways, 50 packets per second", 20, maker.voice),
        ("small UDP", "NTP, STUN, syslog, unknown: 1 to 14 datagrams", 1500, maker.small),
    )


def build(path: Path, share: float = 1.0) -> Mix:
    """Write the capture, or one with a ``share`` of the flows. The same one every time, but for keys of TLS.

    Raises RuntimeError when openssl is missing.
    """
    maker = Maker()
    frames: list[tuple[int, bytes]] = []
    parts = []
    for name, how, flows, make in _kinds(maker):
        wanted, first = max(2, int(flows * share)), maker.number + 1
        mine = [frame for talk in _talks(make, wanted) for frame in _placed(talk, maker.source)]
        parts.append(Part(name, how, first, wanted, len(mine), sum(len(frame) for _, frame in mine)))
        frames += mine
    frames.sort(key=lambda frame: frame[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(_PCAP.pack(_NANOSECONDS, 2, 4, 0, 0, 262144, 1))
        for time, frame in frames:
            seconds, rest = divmod(_START + time, _SECOND)
            file.write(_PACKET.pack(seconds, rest, len(frame), len(frame)) + frame)
    return Mix(path, tuple(parts))


def _talks(make: Callable[[], Talk], flows: int) -> Iterator[Talk]:
    for _ in range(flows):
        yield make()


def _placed(talk: Talk, source: random.Random) -> Sequence[tuple[int, bytes]]:
    """Somewhere in the span; what would go beyond its end comes faster."""
    start = source.randrange(max(1, SPAN - talk.now)) if talk.now < SPAN else 0
    scale = min(1.0, (SPAN - start) / max(talk.now, 1))
    return [(start + int(time * scale), frame) for time, frame in talk.frames]


def frames_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """What was written: times in ns and frames."""
    data = path.read_bytes()
    at = _PCAP.size
    while at < len(data):
        seconds, rest, length, _ = _PACKET.unpack_from(data, at)
        at += _PACKET.size
        yield seconds * _SECOND + rest, data[at : at + length]
        at += length
