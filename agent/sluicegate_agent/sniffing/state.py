"""What is known of live sniffing at one moment: what status, why and the metrics are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.dpi.events.hub import OutputState
from sluicegate_agent.dpi.live.model import RunState, WorkerState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.sniffing.assignment import Place
from sluicegate_agent.sniffing.model import SniffCounters, SniffState
from sluicegate_api.common import ObjectKey

ENGINE_STOPPED = "the engine was not started yet"
_ENOUGH = 100_000
"""Packets: below that the start of the workers is most of what they cost."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """What became of a sniffer's rules. ``examples`` are a few of those that are not in force, each with its reason.

    ``loading``: a newer version is being read. ``error``: why none of them could be read at all. ``sids`` are those of
    the rules in force.
    """

    counts: Mapping[State, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    loading: bool = False
    error: str = ""
    sids: frozenset[int] = frozenset()

    @property
    def in_force(self) -> int:
        """Rules that the engine checks."""
        return sum(count for state, count in self.counts.items() if state.in_force)

    @property
    def left_out(self) -> int:
        """Rules that it does not check."""
        return sum(count for state, count in self.counts.items() if not state.in_force)


@dataclass(frozen=True, slots=True)
class SnifferState:
    """One sniffer. ``active`` are the flows of the last sweep by their state; ``rules`` name those that are counted.

    ``losing`` and ``pressed`` are records lost, and flows cut short under pressure, since the last look a second ago.
    ``signatures`` is None for a sniffer without any, ``output`` for one that writes its events nowhere. ``events``
    are its lines by event type. ``refused`` is what the kernel's tables did not take.
    """

    place: Place = field(default_factory=Place)
    counters: SniffCounters = field(default_factory=SniffCounters)
    active: Mapping[SniffState, int] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    losing: int = 0
    pressed: int = 0
    signatures: Signatures | None = None
    output: OutputState | None = None
    events: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    def counted(self, counters: SniffCounters, before: SniffCounters | None) -> Self:
        """With what was counted by now; ``before`` is a look earlier, None for the first one."""
        return replace(
            self,
            counters=counters,
            losing=max(counters.lost - before.lost, 0) if before is not None else 0,
            pressed=max(counters.stopped_by_pressure - before.stopped_by_pressure, 0) if before is not None else 0,
        )


@dataclass(frozen=True, slots=True)
class SniffingState:
    """All sniffers of this node, and the workers that they share.

    ``sniffed`` are the interfaces that the kernel sniffs, with the key of the sniffer. ``refused`` says what the kernel
    refused, ``engine_problem`` why no worker runs; both are empty when all is well. ``ring_lost`` are records lost by
    worker. ``seen`` are packets that came by since the workers began, whose CPU time they cost. ``entries`` are rows of
    the tables of flows at the last sweep, ``capacity`` how many they hold, ``evicted`` flows that made room for others
    since the agent started.
    """

    sniffers: Mapping[ObjectKey, SnifferState] = field(default_factory=dict)
    sniffed: Mapping[InterfaceIndex, ObjectKey] = field(default_factory=dict)
    refused: str = ""
    engine_problem: str = ENGINE_STOPPED
    workers: tuple[WorkerState, ...] = ()
    ring_lost: tuple[int, ...] = ()
    ring_bytes: int = 0
    seen: int = 0
    entries: Mapping[str, int] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    evicted: int = 0

    @property
    def engine_runs(self) -> bool:
        """Whether a worker looks at what comes up."""
        return any(worker.state is RunState.RUNNING for worker in self.workers)

    @property
    def engine_away(self) -> str:
        """Why nothing is looked into; empty while something is."""
        if self.engine_problem or self.engine_runs:
            return self.engine_problem
        reasons = dict.fromkeys(worker.reason for worker in self.workers if worker.reason)
        words = {RunState.STARTING: "it is starting", RunState.RESTARTING: "it is starting again"}
        states = dict.fromkeys(words.get(worker.state, "it does not start") for worker in self.workers)
        return ": ".join(filter(None, ("; ".join(states), "; ".join(reasons)))) or ENGINE_STOPPED

    @property
    def no_classification(self) -> str:
        """Why running workers do not classify; empty when they do, or none runs."""
        running = (worker for worker in self.workers if worker.state is RunState.RUNNING)
        return next((worker.no_classification for worker in running if not worker.classification), "")

    @property
    def classification(self) -> str:
        """Revision of the library that classifies; empty when none does."""
        return next((worker.classification for worker in self.workers if worker.classification), "")

    @property
    def cpu_seconds(self) -> float:
        """Of all workers, since the pool began."""
        return sum(worker.cpu_seconds for worker in self.workers)

    @property
    def seconds_per_million(self) -> float | None:
        """CPU time of the workers for a million packets on the wire; None before a hundred thousand came by."""
        return self.cpu_seconds / self.seen * 1_000_000 if self.seen >= _ENOUGH else None
