"""A ring of the kernel's, read through the pages that it maps: no system call for a record.

The map of a BPF ring buffer begins with a page that the reader writes, its position. Then come, read-only, a page with
the writer's position and the data twice in a row, so that no entry is in two pieces.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, Final, Self

from sluicegate_agent.dpi.records import BUSY, DISCARD, ENTRY, RECORD

PAGE: Final = mmap.PAGESIZE
WORD: Final = 8


class KernelRing:
    """A reader's view of a ring; several may look, one may move. Close it, or use it in a `with` statement."""

    def __init__(self, descriptor: int, size: int) -> None:
        """Map ``size`` bytes of data, a power of two of pages; the descriptor may be closed afterwards.

        Raises ValueError for another size, OSError when the descriptor is no ring of that size.
        """
        if size < PAGE or size & (size - 1):
            msg = f"a ring of {size} bytes is not a power of two of pages of {PAGE} bytes"
            raise ValueError(msg)
        self.size = size
        self._native: Any = None
        self._reader = mmap.mmap(descriptor, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            self._writer = mmap.mmap(descriptor, PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
        except BaseException:
            self._reader.close()
            raise
        # Whole words, so that the kernel never sees half a position.
        self._consumer = memoryview(self._reader)[:WORD].cast("Q")
        self._producer = memoryview(self._writer)[:WORD].cast("Q")

    @property
    def consumed(self) -> int:
        """Position up to which all was taken, in bytes since the ring was made."""
        return self._consumer[0]

    @consumed.setter
    def consumed(self, position: int) -> None:
        self._consumer[0] = position

    @property
    def produced(self) -> int:
        """Position up to which entries are reserved, in bytes since the ring was made."""
        return self._producer[0]

    @property
    def used(self) -> int:
        """Bytes that wait; 0 when the positions contradict each other."""
        waiting = self.produced - self.consumed
        return waiting if 0 <= waiting <= self.size else 0

    def entry(self, position: int) -> bytes | None:
        """What is in the entry at a position that waits; None when no whole record is there."""
        waiting = self.produced - position
        if not ENTRY.size <= waiting <= self.size or position < self.consumed or position % WORD:
            return None
        at = PAGE + (position & (self.size - 1))
        word, _ = ENTRY.unpack_from(self._writer, at)
        length = word & ~(BUSY | DISCARD)
        if word & (BUSY | DISCARD) or not RECORD.size <= length <= waiting - ENTRY.size:
            return None
        start = at + ENTRY.size
        return self._writer[start : start + length]

    def native(self, ffi: Any) -> Any:
        """The engine's struct sg_ring of it."""
        if self._native is None:
            reader = ffi.from_buffer("uint64_t[]", self._reader, require_writable=True)
            writer = ffi.from_buffer("uint8_t[]", self._writer)
            place = ffi.new("struct sg_ring *")
            place.consumer = reader
            place.producer = ffi.cast("uint64_t *", writer)
            place.data = writer + PAGE
            place.mask = self.size - 1
            self._native = (place, reader, writer)
        return self._native[0]

    def close(self) -> None:
        """Unmap."""
        self._native = None
        for view, pages in ((self._consumer, self._reader), (self._producer, self._writer)):
            view.release()
            pages.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def words_of(descriptor: int) -> mmap.mmap:
    """The array of words behind a descriptor, mapped: the kernel's mappable array, or plain memory.

    Raises ValueError when they are not a power of two, OSError when they cannot be mapped.
    """
    count = _entries(descriptor)
    if count == 0 or count & (count - 1):
        msg = f"the array of verdicts has {count} words, not a power of two"
        raise ValueError(msg)
    return mmap.mmap(descriptor, count * WORD, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def _entries(descriptor: int) -> int:
    """Of a map, as the kernel says; words of a file."""
    facts = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
    for line in facts.splitlines():
        name, _, value = line.partition(":")
        if name == "max_entries":
            return int(value)
    return os.fstat(descriptor).st_size // WORD
