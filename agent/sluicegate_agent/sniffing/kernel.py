"""The kernel half of live sniffing, for one set of programs: tables, rings, flows. For the kernel's thread alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.sniffing.flows import FlowSweeper
from sluicegate_agent.sniffing.model import Applied, SniffCounters, SnifferPlan, Swept, Tap
from sluicegate_agent.sniffing.rings import SniffRings, ring_bytes
from sluicegate_agent.sniffing.tables import SniffTables


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the kernel's tables found: counters by number of the sniffer, records lost by worker."""

    counters: Mapping[int, SniffCounters] = field(default_factory=dict)
    losses: tuple[int, ...] = ()
    swept: Swept = field(default_factory=Swept)


class SniffKernel:
    """Tables and rings of one set of programs. Close it; what is pinned stays."""

    def __init__(self, manifest: Manifest, rings: Path, workers: int, size: int) -> None:
        """``rings`` is the folder of their pins, ``size`` that of each in bytes. Raises KernelError."""
        self.manifest = manifest
        self._workers, self._size = workers, ring_bytes(size)
        self._tables = KernelTables(manifest)
        self._sniffing = SniffTables(self._tables, hertz())
        self._rings = SniffRings(rings)
        self._sweeper = FlowSweeper(self._tables, hertz())
        self._open = self._given_back = False

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Interfaces that are sniffed."""
        return self._sniffing.taps

    @property
    def numbers(self) -> frozenset[int]:
        """Sniffers that the kernel knows, those of an agent before among them."""
        return self._sniffing.numbers

    @property
    def rings(self) -> tuple[int, ...]:
        """Descriptors by worker; none while nothing is sniffed."""
        return self._rings.descriptors

    @property
    def ring_bytes(self) -> int:
        """Of one ring."""
        return self._size

    @property
    def verdicts(self) -> int:
        """Descriptor of the words that workers write."""
        return self._tables["sniff_verdicts"].map.fd

    def open_rings(self) -> None:
        """Have a ring for each worker. Raises KernelError.

        Nothing is sent up before somebody reads, unless an agent before had readers: its rings hold what came since.
        """
        if not self._open:
            before, _ = self._sniffing.readers
            self._rings.open(self._tables, self._sniffing, self._workers, self._size)
            if not before:
                self._sniffing.set_readers(0, self._size)
            self._open, self._given_back = True, False

    def apply(self, plans: Sequence[SnifferPlan], taps: Sequence[Tap]) -> Applied:
        """Sniff so and not otherwise. Raises KernelError."""
        return self._sniffing.apply(plans, taps)

    def give_back(self) -> None:
        """Remove the rings, when nobody reads them any more. Raises KernelError."""
        if not self._given_back:
            self._rings.remove(self._tables, self._sniffing)
            self._open, self._given_back = False, True

    def let_read(self, *, running: bool) -> None:
        """Send packets up, or none while there is nobody to look at them. Raises KernelError."""
        wanted = (self._workers if running else 0, self._size)
        if self._open and self._sniffing.readers != wanted:
            self._sniffing.set_readers(*wanted)

    def look(self) -> Look:
        """Counters and losses now, and the flows that ended; the clock is set on the way. Raises KernelError."""
        self._sniffing.refresh_clock()
        swept = self._sweeper.sweep(self._sniffing.flow_facts(), self._workers, jiffies())
        return Look(self._sniffing.counters(), self._sniffing.losses(), swept)

    def close(self) -> None:
        """Close all descriptors."""
        self._rings.close()
        self._tables.close()
