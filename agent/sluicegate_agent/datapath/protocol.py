"""The data path as the reconciler, the metrics and the status see it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sluicegate_agent.datapath.model import BackendId, FrontendId, KernelState, Operation
from sluicegate_agent.signals.model import Latencies, Load


class DatapathError(Exception):
    """The kernel refused an operation. The message names the table, the key and the kernel's reason."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """``struct traffic`` summed over CPUs, plus flows closed for backends."""

    request_packets: int = 0
    request_bytes: int = 0
    reply_packets: int = 0
    reply_bytes: int = 0
    opened: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Packets of one hook that ended for one reason (``bpf/reasons.h``). kind: pass, punt, forward or drop."""

    hook: str
    reason: str
    kind: str
    text: str
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ProgramRuns:
    """How often a program ran and for how long in all, while the kernel's statistics were on."""

    seconds: float
    runs: int


@dataclass(frozen=True, slots=True)
class Counters:
    """Everything that the kernel counted since its maps were made.

    ``runs`` are by program, such as xdp_main. They stand still while no one has turned the kernel's statistics on
    (``SLUICEGATE_PROGRAM_STATISTICS``, or sysctl kernel.bpf_stats_enabled).
    """

    verdicts: tuple[Verdict, ...] = ()
    frontends: dict[FrontendId, Traffic] = field(default_factory=dict)
    backends: dict[BackendId, Traffic] = field(default_factory=dict)
    map_entries: dict[str, int] = field(default_factory=dict)
    map_capacity: dict[str, int] = field(default_factory=dict)
    loads: Mapping[BackendId, Load] = field(default_factory=dict)
    latencies: Mapping[BackendId, Latencies] = field(default_factory=dict)
    runs: Mapping[str, ProgramRuns] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Census:
    """Live flows by backend, as the last sweep of the flow tables counted them; and what the sweep removed.

    ``unclosed`` are those of which neither side has begun to close: what the kernel counts as opened and not closed.
    ``waiting`` are those with a request that has no byte of a response yet.
    """

    flows: dict[BackendId, int] = field(default_factory=dict)
    frontend_flows: dict[FrontendId, int] = field(default_factory=dict)
    unclosed: dict[BackendId, int] = field(default_factory=dict)
    waiting: dict[BackendId, int] = field(default_factory=dict)
    half_open: int = 0
    removed: int = 0


class Datapath(Protocol):
    """One kernel data path. Every method may raise :class:`DatapathError`; a failed operation changed nothing."""

    def observe(self) -> KernelState:
        """Read all tables back. Free backends are included when their generation is not 0."""
        ...

    def apply(self, operation: Operation) -> None:
        """Carry out one operation."""
        ...

    def counters(self) -> Counters:
        """Read all counters."""
        ...

    def loads(self, wanted: Collection[BackendId] | None = None) -> Mapping[BackendId, Load]:
        """What selection and passive measurement counted, of backends in use: of the ``wanted``, or of all.

        Quick: called ten times a second.
        """
        ...

    def latencies(self) -> Mapping[BackendId, Latencies]:
        """Histograms of all backends in use."""
        ...

    def sweep(self) -> Census:
        """Count live flows and remove those that expired long ago."""
        ...
