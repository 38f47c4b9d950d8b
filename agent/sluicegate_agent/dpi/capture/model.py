"""What a capture file gives, whatever its format."""

from __future__ import annotations

from typing import NamedTuple

MAX_PACKET = 262_144
"""Bytes. The largest capture length that libpcap writes (MAXIMUM_SNAPLEN); a record that claims more is damage."""


class Packet(NamedTuple):
    """One captured frame. ``time`` in ns since 1970, ``interface`` an index, ``wire_length`` before it was cut."""

    time: int
    link: int
    interface: int
    wire_length: int
    data: bytes


class Ending(NamedTuple):
    """How reading ended: ``reason`` is empty when the file was read to its end; ``offset`` in bytes."""

    reason: str
    offset: int

    @property
    def whole(self) -> bool:
        """Whether the file ended where it should."""
        return not self.reason

    def __str__(self) -> str:
        return "read to the end" if self.whole else f"{self.reason} at byte {self.offset}"


class NotACaptureError(Exception):
    """The file cannot be read at all. ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
