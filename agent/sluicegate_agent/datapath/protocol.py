"""The data path as the reconciler, the metrics and the status see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from sluicegate_agent.datapath.model import BackendId, FrontendId, KernelState, Operation


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
class Counters:
    """Everything that the kernel counted since its maps were made."""

    verdicts: tuple[Verdict, ...] = ()
    frontends: dict[FrontendId, Traffic] = field(default_factory=dict)
    backends: dict[BackendId, Traffic] = field(default_factory=dict)
    map_entries: dict[str, int] = field(default_factory=dict)
    map_capacity: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Census:
    """Live flows by backend, as the last sweep of the flow tables counted them; and what the sweep removed."""

    flows: dict[BackendId, int] = field(default_factory=dict)
    frontend_flows: dict[FrontendId, int] = field(default_factory=dict)
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

    def sweep(self) -> Census:
        """Count live flows and remove those that expired long ago."""
        ...
