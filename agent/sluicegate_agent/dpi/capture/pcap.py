"""The classic pcap format (draft-ietf-opsawg-pcap): one header, then records; both byte orders, µs and ns."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sluicegate_agent.dpi.capture.model import MAX_PACKET, Ending, Packet


class _Variant(NamedTuple):
    order: str
    fraction_ns: int


MAGICS = {
    b"\xd4\xc3\xb2\xa1": _Variant("<", 1000),
    b"\xa1\xb2\xc3\xd4": _Variant(">", 1000),
    b"\x4d\x3c\xb2\xa1": _Variant("<", 1),
    b"\xa1\xb2\x3c\x4d": _Variant(">", 1),
}
HEADER = 24
_RECORD = 16


class PcapReader:
    """Packets of a pcap file. Iterate once; then ``ending`` says how it ended. Keeps one record in memory."""

    def __init__(self, file: BinaryIO, header: bytes) -> None:
        """``header``: the first 24 bytes, already read."""
        variant = MAGICS[header[:4]]
        self._file = file
        self._record = struct.Struct(f"{variant.order}IIII")
        self._fraction_ns = variant.fraction_ns
        # The upper half holds the length of a frame check sequence, not the link type.
        self.link: int = struct.unpack(f"{variant.order}I", header[20:24])[0] & 0xFFFF
        self.interfaces: tuple[str, ...] = ("",)
        self.position = HEADER
        self.damaged = 0
        self.ending = Ending("", HEADER)

    def __iter__(self) -> Iterator[Packet]:
        read, unpack, fraction_ns, link = self._file.read, self._record.unpack, self._fraction_ns, self.link
        while True:
            start = self.position
            header = read(_RECORD)
            if not header:
                self.ending = Ending("", start)
                return
            if len(header) < _RECORD:
                self.ending = Ending("cut off inside a record's header", start)
                return
            seconds, fraction, captured, length = unpack(header)
            if captured > MAX_PACKET:
                self.ending = Ending(f"a record claims {captured} bytes, more than any capture holds", start)
                return
            data = read(captured)
            if len(data) < captured:
                self.ending = Ending(f"cut off inside a packet: {len(data)} of {captured} bytes are there", start)
                return
            self.position = start + _RECORD + captured
            yield Packet(seconds * 1_000_000_000 + fraction * fraction_ns, link, 0, max(length, captured), data)
