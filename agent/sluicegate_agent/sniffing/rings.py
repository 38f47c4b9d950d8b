"""The rings through which records go up, one for each worker. They are pinned: unread records outlive the agent."""

from __future__ import annotations

import errno
import mmap
import struct
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel import bpffs
from sluicegate_agent.kernel.libbpf import BpfMap, KernelError, MapType
from sluicegate_agent.sniffing.model import WORKERS
from sluicegate_agent.sniffing.tables import SniffTables

SMALLEST: Final = 64 << 10
"""Bytes: room for a few of the largest records."""


def ring_bytes(wanted: int) -> int:
    """The size that a ring gets: a power of two, as the kernel asks for, of at least `SMALLEST` and a page."""
    return 1 << (max(wanted, SMALLEST, mmap.PAGESIZE) - 1).bit_length()


class SniffRings:
    """The rings of one state directory, in ``sniff_rings`` of the programs that run."""

    def __init__(self, directory: Path) -> None:
        """``directory``, in the BPF file system, takes a pin for each ring; it may not be there yet."""
        self._directory = directory
        self._rings: list[BpfMap] = []

    @property
    def descriptors(self) -> tuple[int, ...]:
        """By worker; they stay this object's."""
        return tuple(ring.fd for ring in self._rings)

    def open(self, tables: KernelTables, sniffing: SniffTables, workers: int, size: int) -> None:
        """Have ``workers`` rings of ``ring_bytes(size)``, known to the programs, and let these use them.

        A ring that is there is kept, with what is in it, if it has that size. After an update of the programs call it
        again: another set of them may have another ``sniff_rings``. Raises KernelError, and ValueError for more
        workers than there can be rings.
        """
        if not 1 <= workers <= WORKERS:
            raise ValueError(f"{workers} workers; there can be 1 to {WORKERS}")
        size = ring_bytes(size)
        before, old_size = sniffing.readers
        if before > workers or old_size != size:
            sniffing.set_readers(min(before, workers), size)  # nobody writes to a ring that goes
        self._directory.mkdir(parents=True, exist_ok=True)
        while self._rings and (len(self._rings) > workers or self._rings[-1].info.max_entries != size):
            self._rings.pop().close()
        for worker in range(len(self._rings), workers):
            self._rings.append(self._ring(worker, size))
        outer = tables["sniff_rings"]
        for worker, ring in enumerate(self._rings):
            key = worker.to_bytes(4, "little")
            present = outer.map.lookup(key)
            if present is None or int.from_bytes(present, "little") != ring.info.id:
                outer.map.update(key, struct.pack("<I", ring.fd))
        sniffing.set_readers(workers, size)
        self._trim(tables, workers)

    def remove(self, tables: KernelTables, sniffing: SniffTables) -> None:
        """Send nothing up any more and give the memory back. Raises KernelError."""
        sniffing.set_readers(0, 0)
        self.close()
        self._trim(tables, 0)
        if self._directory.is_dir():
            bpffs.remove_tree(self._directory)

    def close(self) -> None:
        """Close the descriptors; the rings stay."""
        while self._rings:
            self._rings.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pin(self, worker: int) -> Path:
        return self._directory / f"ring-{worker}"

    def _ring(self, worker: int, size: int) -> BpfMap:
        """The pinned ring of a worker; a new one when there is none of that size."""
        pin = self._pin(worker)
        try:
            found = BpfMap.open(pin)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        else:
            if found.info.max_entries == size:
                return found
            found.close()
            pin.unlink()
        made = BpfMap.create(MapType.RINGBUF, f"sniff_ring_{worker}", 0, 0, size)
        made.pin(pin)
        return made

    def _trim(self, tables: KernelTables, workers: int) -> None:
        """Take out the rings of workers that are no more."""
        for worker in range(workers, WORKERS):
            key = worker.to_bytes(4, "little")
            if tables["sniff_rings"].map.lookup(key) is not None:
                tables["sniff_rings"].map.delete(key)
            self._pin(worker).unlink(missing_ok=True)
