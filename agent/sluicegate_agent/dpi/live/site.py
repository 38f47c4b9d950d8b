"""Where a worker works, seen by the pool: its ring, and the mark that says which record it is at."""

from __future__ import annotations

import mmap
import os
from typing import Final, NamedTuple

from sluicegate_agent.dpi.engine_model import Action
from sluicegate_agent.dpi.live.quarantine import Quarantine
from sluicegate_agent.dpi.live.ring import WORD, KernelRing
from sluicegate_agent.dpi.records import ENTRY, RECORD

_MARK_WORDS: Final = 2


class Place(NamedTuple):
    """What a worker gets. ``words`` are what is behind ``verdicts``: a flow whose record ended it gets one."""

    ring: int
    ring_bytes: int
    verdicts: int
    words: memoryview


class Mark(NamedTuple):
    """A record: its position in the ring, and its flow."""

    position: int
    flow_id: int


class Site:
    """Nothing is believed here that a worker can write: it is compared with what the kernel wrote. Close it."""

    def __init__(self, number: int, place: Place, quarantine: Quarantine) -> None:
        """Raises OSError or ValueError when the ring cannot be mapped."""
        self.quarantined = 0  # records that were taken away
        self.unsaved = 0  # of these, how many are in no file
        self.skipped_bytes = 0  # of the ring, when its positions contradicted each other
        self.ring = KernelRing(place.ring, place.ring_bytes)
        self._number = number
        self._place = place
        self._quarantine = quarantine
        self._descriptor = os.memfd_create("sluicegate-mark", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, mmap.PAGESIZE)
        self._pages = mmap.mmap(self._descriptor, mmap.PAGESIZE)
        self._mark = memoryview(self._pages)[: _MARK_WORDS * WORD].cast("Q")

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """Of ring, verdicts and mark: what a worker is given."""
        return self._place.ring, self._place.verdicts, self._descriptor

    @property
    def progress(self) -> tuple[int, int, int]:
        """Another value whenever the worker got on to another record."""
        return self._mark[0], self._mark[1], self.ring.consumed

    @property
    def at_record(self) -> Mark | None:
        """The record that the engine is at, or was when it ended; None between records."""
        mark = Mark(self._mark[0], self._mark[1])
        return mark if mark.flow_id and self.ring.consumed <= mark.position < self.ring.produced else None

    def mark(self, mark: Mark) -> None:
        """Have the worker at a record: its engine's part, for tests."""
        self._mark[0], self._mark[1] = mark

    def clear(self) -> None:
        """A worker begins."""
        self.mark(Mark(0, 0))

    def remove(self, mark: Mark) -> str:
        """Save the record, go on behind it, and let its flow pass without a look from now on. What was done, in words.

        The few records before it that the ring still holds are not looked at again.
        """
        record = self.ring.entry(mark.position)
        if record is None:
            self.skipped_bytes += self.ring.used
            self.ring.consumed = self.ring.produced
            return "; what the ring held was skipped"
        self.ring.consumed = mark.position + ((ENTRY.size + len(record) + 7) & ~7)
        flow_id = RECORD.unpack_from(record)[1]
        words = self._place.words
        words[flow_id & (len(words) - 1)] = flow_id >> 32 << 32 | Action.STOP
        self.quarantined += 1
        try:
            return f" at a packet that is now in {self._quarantine.save(self._number, record)}"
        except OSError as error:
            self.unsaved += 1
            return f" at a packet that could not be saved ({error.strerror})"

    def close(self) -> None:
        """Unmap."""
        self.ring.close()
        self._mark.release()
        self._pages.close()
        os.close(self._descriptor)
