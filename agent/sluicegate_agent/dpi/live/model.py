"""What goes into the pool of workers, and what it says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sluicegate_agent.dpi.events.lines import Signature
from sluicegate_agent.dpi.rules.tables import RuleTables
from sluicegate_api.dpisniffer import DpiSnifferSpec


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """One sniffer. ``rules`` are compiled by the workers; ``signatures``, by sid, are what alerts say of them.

    `orders.worker_policy` makes one from a sniffer and its rules.
    """

    name: str
    namespace: str
    spec: DpiSnifferSpec
    rules: RuleTables | None = None
    signatures: Mapping[int, Signature] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What all workers do. ``policies`` by the sniffer's number, ``interfaces`` by index; ``node``: of this machine."""

    policies: Mapping[int, WorkerPolicy] = field(default_factory=dict)
    node: str = ""
    interfaces: Mapping[int, str] = field(default_factory=dict)


class EndedFlow(Protocol):
    """A flow that the kernel's table no longer has. Index 0 of a pair is what its client, who opened it, sent.

    Addresses are 4 or 16 bytes. Times are ns of the wall clock. ``state`` and ``why`` are enum sniff_state and enum
    sniff_why of bpf/sniff_types.h.
    """

    @property
    def flow_id(self) -> int: ...  # noqa: D102  # the class says it
    @property
    def family(self) -> int: ...  # noqa: D102
    @property
    def client(self) -> bytes: ...  # noqa: D102
    @property
    def server(self) -> bytes: ...  # noqa: D102
    @property
    def ports(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def protocol(self) -> int: ...  # noqa: D102
    @property
    def ifindex(self) -> int: ...  # noqa: D102
    @property
    def packets(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def octets(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def first_ns(self) -> int: ...  # noqa: D102
    @property
    def last_ns(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> int: ...  # noqa: D102
    @property
    def why(self) -> int: ...  # noqa: D102
    @property
    def sent(self) -> int: ...  # noqa: D102
    @property
    def closing(self) -> bool: ...  # noqa: D102
    @property
    def sniffer(self) -> int: ...  # noqa: D102
    @property
    def tunnel(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> str: ...  # noqa: D102


class RunState(StrEnum):
    """Of a worker."""

    IDLE = "idle"
    """No sniffer: there is no process."""
    STARTING = "starting"
    """Until its rules are compiled. What comes meanwhile waits in the ring."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """It ended; ``reason`` says why. The next one starts soon."""
    FAILED = "failed"
    """It does not start; tried again every half minute. Traffic passes, nothing is looked into."""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """One worker as the pool sees it. Counts are since the pool began, over all its processes."""

    number: int
    state: RunState
    reason: str = ""  # of the last end or failure; empty when there was none
    pid: int | None = None
    restarts: int = 0
    quarantined: int = 0  # records that ended a worker
    unsaved: int = 0  # of these, how many could not be written to the folder
    skipped_bytes: int = 0  # of the ring, given up because its positions contradicted each other
    classification: str = ""  # nDPI's revision; empty when it is off
    no_classification: str = ""  # why it is off
    sandbox: str = ""  # what could not be taken away from it; empty when all was
    problems: Mapping[int, str] = field(default_factory=dict)  # rules that a sniffer goes without, and why
    engine: Mapping[str, int] = field(default_factory=dict)  # counters of native/engine.h struct sg_stats
    cpu_seconds: float = 0.0
    memory_bytes: int = 0  # of its own: without the ring
    ring_used: int = 0  # bytes that wait
    lines: int = 0  # handed to the pool
    events_failed: int = 0  # made no line, the last because of `failure`: a fault of ours
    failure: str = ""
    lines_dropped: int = 0  # not handed over: the agent did not read
    ends_dropped: int = 0  # flows that ended without an event: no worker took them, or (at most) it ended over them
    forgotten: int = 0  # flows of which what the engine knew went with a worker; as of its last report
    config: int = 0  # version in force: that of `WorkerPool.version` when all is applied
