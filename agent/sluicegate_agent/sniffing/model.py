"""What goes into the sniffer's tables in the kernel, and what comes out. Names and numbers of ``bpf/sniff_types.h``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from sluicegate_agent.dpi.sniffing.flows import OTHER_IDLE_NS, TCP_IDLE_NS
from sluicegate_agent.dpi.sniffing.rules import SniffRule
from sluicegate_agent.dpi.sniffing.sniffer import Budget

TAPS: Final = 4096
"""Interfaces are found by their index's remainder."""
SNIFFERS: Final = 64
"""Numbers of sniffers; 0 is nobody's."""
WORKERS: Final = 64
"""The most rings."""
RULES: Final = 1024
"""Counters of one sniffer's rules, and bits of a set."""
NO_RULE: Final = RULES - 1
"""Counts flows that no rule takes; so a sniffer has at most so many rules."""

_SECOND = 1_000_000_000


class SniffState(IntEnum):
    """``enum sniff_state``: what becomes of a flow's packets."""

    IGNORE = 0
    SNIFF = 1
    STOP = 2
    DROP = 3


class SniffWhy(IntEnum):
    """``enum sniff_why``: why a flow is in its state."""

    OPEN = 0
    RULES = 1
    BUDGET = 2
    VERDICT = 3
    PRESSURE = 4


class FlowEnd(StrEnum):
    """Why a flow is no longer in the kernel's table."""

    IDLE = "idle"
    CLOSED = "closed"
    """Both sides ended the connection, or one reset it, some seconds ago."""
    REUSED = "reused"
    """Another connection has the same ends now."""
    EVICTED = "evicted"
    """The table was full. The counts are those of the sweep before."""
    UNTAPPED = "untapped"
    """Its sniffer no longer looks at its interface."""


@dataclass(frozen=True, slots=True)
class SnifferPlan:
    """What one sniffer wants of the kernel. ``owner`` says whose number it is: another owner begins with fresh counts.

    ``send_empty``: TCP segments without data go up as well, because a rule looks at them. ``adaptive``: flows lose
    budget when their ring fills.
    """

    number: int
    owner: str
    rules: tuple[SniffRule, ...] = ()
    budget: Budget = field(default_factory=Budget)
    adaptive: bool = True
    send_empty: bool = False
    tcp_idle_seconds: float = TCP_IDLE_NS / _SECOND
    other_idle_seconds: float = OTHER_IDLE_NS / _SECOND


@dataclass(frozen=True, slots=True)
class Tap:
    """An interface that is sniffed. ``xdp``: XDP sees what comes in, so tc ingress does not look again."""

    ifindex: int
    sniffer: int
    xdp: bool


@dataclass(frozen=True, slots=True)
class Applied:
    """What did not fit into the tables, and why: plans by number, taps by index of the interface.

    A plan that does not fit leaves in force what its sniffer had before; one that had nothing gets no tap.
    """

    refused_plans: Mapping[int, str] = field(default_factory=dict)
    refused_taps: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndedFlow:
    """A flow on one interface that is over. Index 0 of a pair is what its client, who opened it, sent.

    Addresses are 4 or 16 bytes, times ns of the wall clock. ``octets`` are of frames. ``closing``: a FIN or RST was
    seen. ``rule`` is the index of the sniff rule that took it, None when there are no rules. ``sent``: packets that
    went up.
    """

    flow_id: int
    family: int
    client: bytes
    server: bytes
    ports: tuple[int, int]
    protocol: int
    ifindex: int
    packets: tuple[int, int]
    octets: tuple[int, int]
    first_ns: int
    last_ns: int
    state: SniffState
    why: SniffWhy
    sent: int
    closing: bool
    sniffer: int
    rule: int | None
    tcp_flags: tuple[int, int] = (0, 0)
    tunnel: int = 0
    end: FlowEnd = FlowEnd.IDLE


@dataclass(frozen=True, slots=True)
class Swept:
    """Outcome of one sweep. ``ended`` by worker. ``more``: some are left for the next sweep, which should come soon.

    ``flows``: those that live, by number of the sniffer and state. ``entries``: rows by table.
    """

    ended: Mapping[int, tuple[EndedFlow, ...]] = field(default_factory=dict)
    flows: Mapping[tuple[int, SniffState], int] = field(default_factory=dict)
    entries: Mapping[str, int] = field(default_factory=dict)
    evicted: int = 0
    """Flows that made room for others since the sweep before, of which it knew."""
    more: bool = False


@dataclass(frozen=True, slots=True)
class SniffCounters:
    """``struct sniff_counter`` of one sniffer, over all CPUs, since it has its number; and flows by rule.

    ``packets`` and ``octets`` are all that came by. Each packet is one of sent, empty (of a flow that is sniffed, with
    nothing in it to look at), stopped, dropped, ignored, fragments, unreadable, lost (the ring was full), no_worker
    (nobody reads) or no_room (the table of flows took no entry).
    """

    packets: int = 0
    octets: int = 0
    sent: int = 0
    sent_octets: int = 0
    empty: int = 0
    stopped: int = 0
    dropped: int = 0
    ignored: int = 0
    fragments: int = 0
    unreadable: int = 0
    lost: int = 0
    no_worker: int = 0
    no_room: int = 0
    opened: int = 0
    stopped_by_budget: int = 0
    stopped_by_verdict: int = 0
    stopped_by_pressure: int = 0
    dropped_by_verdict: int = 0
    rule_flows: tuple[int, ...] = ()
    """Flows by rule, in the order of the rules; they begin anew when the rules change."""
    unmatched: int = 0
    """Flows that no rule took."""

    @property
    def share_sent(self) -> float | None:
        """Of packets, from 0 to 1; None when there was none."""
        return self.sent / self.packets if self.packets else None


@dataclass(frozen=True, slots=True)
class TableUse:
    """Rows in use and rows there are, of what rules take: ``sniff_sets`` and the three tables of prefixes."""

    used: int
    capacity: int
