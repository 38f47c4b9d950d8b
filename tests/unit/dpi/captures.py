"""Captures that tests make: frames in, bytes of a pcap or pcapng file out."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

from sluicegate_agent.dpi.capture.files import Reader, open_capture
from sluicegate_agent.dpi.capture.model import Packet

SECOND = 1_000_000_000
START = 1_700_000_000


def pcap(
    frames: Sequence[bytes], *, link: int = 1, order: str = "<", nanoseconds: bool = False, step_ns: int = 1_000_000
) -> bytes:
    """A pcap file of frames, ``step_ns`` apart."""
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for index, frame in enumerate(frames):
        seconds, rest = divmod(index * step_ns, SECOND)
        out += struct.pack(f"{order}IIII", START + seconds, rest // unit, len(frame), len(frame)) + frame
    return out


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A block of a pcapng file."""
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    """The block that begins a section."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """An option of a block."""
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(link: int = 1, *, name: str = "", resolution: int | None = None, order: str = "<") -> bytes:
    """The block of an interface."""
    options = b""
    if name:
        options += option(2, name.encode(), order)
    if resolution is not None:
        options += option(9, bytes([resolution]), order)
    if options:
        options += option(0, b"", order)
    return block(1, struct.pack(f"{order}HHI", link, 0, 65535) + options, order)


def enhanced(number: int, ticks: int, frame: bytes, order: str = "<", length: int | None = None) -> bytes:
    """The block of a packet."""
    captured = len(frame) if length is None else length
    head = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, captured, captured)
    return block(6, head + frame, order)


def opened(data: bytes) -> Reader:
    """A reader of these bytes."""
    return open_capture(io.BytesIO(data), "test.pcap")


def read(data: bytes) -> tuple[list[Packet], Reader]:
    """Everything that can be read of these bytes."""
    reader = opened(data)
    return list(reader), reader
