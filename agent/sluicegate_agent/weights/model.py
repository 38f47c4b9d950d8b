"""What the weight controller is told, and what it answers. Values only."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from sluicegate_agent.signals.model import Passive, Reading
from sluicegate_api.checks import WeightSource


@dataclass(frozen=True, slots=True)
class Member:
    """One configured backend at one tick. Times are of the caller's clock, in seconds.

    ``usable``: it would take new flows as far as checks, routes and operators go. ``usable_since`` starts slow start;
    None for a backend that was in use before this agent started, which has no slow start. ``passive`` is None when
    nothing is measured, as in DirectReturn. ``published`` is the weight (in thousandths) that an agent before left in
    the kernel: the pool's first step moves on from it instead of jumping to the configured weight; None for a backend
    that was not there.
    """

    weight: int
    usable: bool
    usable_since: float | None = None
    passive: Passive | None = None
    reading: Reading | None = None
    published: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """One service at one tick: one port of one family. ``by_load``: new flows are placed by LeastLoad.

    ``source`` is where the prior comes from; with NONE the configured weights hold and only slow start moves them.
    ``interval`` is the time between two steps of the controller, which need not be that between two questions to the
    backends. ``replies_seen``: packets of the backends pass through this node. All times are seconds.
    """

    source: WeightSource
    members: Mapping[Hashable, Member]
    by_load: bool = True
    replies_seen: bool = True
    interval: float = 1.0
    stale_after: float = 10.0
    slow_start: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one backend's weight, and why.

    ``weight`` is in thousandths of the unit of configured weights; 0 only for a backend that gets no new flows.
    ``prior`` (in units of configured weights), ``guard``, ``errors`` and ``slow_start`` are the factors: when all has
    settled, weight = 1000 x prior x guard x (1 - errors)^2 x slow start, within the dead band. ``state`` is what the
    backend stated or what was found: "", "drain", "maint", "down", "ejected", "probation" (back after an ejection).
    ``latency`` is smoothed, in seconds.
    ``reason`` is one short line for people; ``absent`` names the signals that are missing.
    """

    weight: int
    prior: float = 1.0
    guard: float = 1.0
    errors: float = 0.0
    slow_start: float = 1.0
    state: str = ""
    reason: str = ""
    absent: tuple[str, ...] = ()
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class PoolDecision:
    """Decisions for all members; ``note`` says what holds for the pool as a whole, such as panic or a lost source."""

    members: Mapping[Hashable, Decision] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's word on one backend of this node, which outranks configuration and signals until it expires.

    ``drain`` is the only one: no new flows. ``until`` is wall-clock time in seconds since the epoch.
    """

    until: float
    by: str = ""
