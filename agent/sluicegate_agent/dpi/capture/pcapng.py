"""The pcapng format (draft-ietf-opsawg-pcapng): sections of blocks, each section with interfaces of its own.

Options are skipped but for an interface's name, time resolution and time offset. Blocks of other types are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from sluicegate_agent.dpi.capture.model import MAX_PACKET, Ending, Packet

SECTION = 0x0A0D0D0A
SECTION_MAGIC = b"\n\r\r\n"
_INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_OPTION_END, _OPTION_NAME, _OPTION_RESOLUTION, _OPTION_OFFSET = 0, 2, 9, 14
_MAX_BLOCK = 1 << 20
"""Bytes of a block that we read: the largest packet, and room for options."""
_MAX_INTERFACES = 65_536
_SKIP = 1 << 16


class _Interface(NamedTuple):
    number: int
    link: int
    snap: int
    per_second: int
    offset_ns: int


class _DamageError(Exception):
    """What follows cannot be read."""


class PcapngReader:
    """Packets of a pcapng file. Iterate once; then ``ending`` says how it ended.

    ``interfaces`` are the names of all sections' interfaces in their order, "" for one without a name. ``damaged``
    counts blocks that contradict themselves while the blocks around them are whole.
    """

    def __init__(self, file: BinaryIO, start: bytes) -> None:
        """``start``: the first bytes of the file, already read."""
        self._file = file
        self._pending = start
        self._order = "<"
        self._section: list[_Interface] = []
        self._names: list[str] = []
        self._last_time = 0
        self.position = 0
        self.damaged = 0
        self.ending = Ending("", 0)

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Names by the index that packets carry."""
        return tuple(self._names)

    def __iter__(self) -> Iterator[Packet]:
        start = 0
        try:
            while True:
                start = self.position
                head = self._read(8)
                if not head:
                    break
                packet = self._block(head)
                if packet is not None:
                    yield packet
        except _DamageError as damage:
            self.ending = Ending(str(damage), start)
        else:
            self.ending = Ending("", start)

    def _read(self, count: int) -> bytes:
        """The next bytes; fewer at the end of the file."""
        if self._pending:
            data, self._pending = self._pending[:count], self._pending[count:]
            data += self._file.read(count - len(data))
        else:
            data = self._file.read(count)
        self.position += len(data)
        return data

    def _need(self, count: int, what: str) -> bytes:
        data = self._read(count)
        if len(data) < count:
            raise _DamageError(f"cut off inside {what}")
        return data

    def _block(self, head: bytes) -> Packet | None:
        if len(head) < 8:
            raise _DamageError("cut off inside a block's header")
        if head[:4] == SECTION_MAGIC:
            self._open_section(head)
            return None
        kind, total = struct.unpack(f"{self._order}II", head)
        if total < 12:
            raise _DamageError(f"a block claims a length of {total} bytes")
        body_length = (total - 12 + 3) & ~3  # some writers leave out the padding from the length
        if kind not in {_INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED}:
            self._skip(body_length)
            self._check_trailer(total)
            return None
        if total > _MAX_BLOCK:
            raise _DamageError(f"a block claims {total} bytes, more than any capture holds")
        body = self._need(body_length, "a block")
        self._check_trailer(total)
        if kind == _INTERFACE:
            self._add_interface(body)
            return None
        packet = self._packet(kind, body)
        if packet is None:
            self.damaged += 1
        return packet

    def _skip(self, count: int) -> None:
        while count:
            step = min(count, _SKIP)
            self._need(step, "a block")
            count -= step

    def _check_trailer(self, total: int) -> None:
        (again,) = struct.unpack(f"{self._order}I", self._need(4, "a block"))
        if again != total:
            raise _DamageError(f"a block of {total} bytes ends with a length of {again}")

    def _open_section(self, head: bytes) -> None:
        magic = self._need(4, "a section's header")
        order = _ORDERS.get(magic)
        if order is None:
            raise _DamageError("a section's header is of unknown byte order")
        self._order = order
        (total,) = struct.unpack(f"{order}I", head[4:])
        if not 28 <= total <= _MAX_BLOCK:
            raise _DamageError(f"a section's header claims a length of {total} bytes")
        body = self._need(total - 16, "a section's header")
        major, minor = struct.unpack_from(f"{order}HH", body)
        if major != 1:
            raise _DamageError(f"a section is of version {major}.{minor}, only 1.x can be read")
        self._check_trailer(total)
        self._section = []

    def _add_interface(self, body: bytes) -> None:
        if len(body) < 8:
            raise _DamageError("an interface's block is too short")
        if len(self._names) >= _MAX_INTERFACES:
            raise _DamageError(f"more than {_MAX_INTERFACES} interfaces")
        link, _, snap = struct.unpack_from(f"{self._order}HHI", body)
        name, per_second, offset = "", 1_000_000, 0
        at = 8
        while at + 4 <= len(body):
            code, length = struct.unpack_from(f"{self._order}HH", body, at)
            value = body[at + 4 : at + 4 + length]
            if code == _OPTION_END or len(value) < length:
                break
            if code == _OPTION_NAME:
                name = value.rstrip(b"\0").decode("utf-8", "replace")
            elif code == _OPTION_RESOLUTION and length >= 1:
                exponent = value[0] & 0x7F
                per_second = (2 if value[0] & 0x80 else 10) ** exponent
            elif code == _OPTION_OFFSET and length >= 8:
                (offset,) = struct.unpack_from(f"{self._order}q", value)
            at += 4 + (length + 3 & ~3)
        self._section.append(_Interface(len(self._names), link, snap, per_second, offset * 1_000_000_000))
        self._names.append(name)

    def _packet(self, kind: int, body: bytes) -> Packet | None:
        """The packet of a block, or None when the block contradicts itself."""
        order = self._order
        if kind == _SIMPLE:
            if len(body) < 4 or not self._section:
                return None
            interface = self._section[0]
            (length,) = struct.unpack_from(f"{order}I", body)
            captured = min(length, interface.snap or length, len(body) - 4)
            at, time = 4, self._last_time
        else:
            if len(body) < 20:
                return None
            layout = f"{order}IIIII" if kind == _ENHANCED else f"{order}HHIIII"
            fields = struct.unpack_from(layout, body)
            index, (high, low, captured, length) = fields[0], fields[-4:]
            if index >= len(self._section):
                return None
            interface = self._section[index]
            time = (high << 32 | low) * 1_000_000_000 // interface.per_second + interface.offset_ns
            time = min(max(time, 0), (1 << 63) - 1)
            at = 20
        if captured > len(body) - at or captured > MAX_PACKET:
            return None
        self._last_time = time
        return Packet(time, interface.link, interface.number, max(length, captured), body[at : at + captured])
