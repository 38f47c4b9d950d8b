"""What can be asked of the flow tables, and the rows that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sluicegate_agent.datapath.model import BackendId, Endpoint, ForwardingMode, FrontendId, IPAddress, IPNetwork


class FlowState(StrEnum):
    """Stage of a flow's life. A UDP flow is established from its first packet to its last.

    half-open: the client has not answered the backend yet. closing: one side sent a FIN. closed: both did, or one
    reset the connection; a FullNAT port then rests for a while.
    """

    HALF_OPEN = "half-open"
    ESTABLISHED = "established"
    CLOSING = "closing"
    CLOSED = "closed"


LIVE_STATES = frozenset({FlowState.HALF_OPEN, FlowState.ESTABLISHED, FlowState.CLOSING})
"""What is counted as an active flow."""


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows are wanted; None means any. ``limit`` is how many rows are made at most.

    ``frontends`` and ``backend`` (its port None for any) are those of the flow.
    """

    limit: int
    frontends: frozenset[FrontendId] | None = None
    client: IPNetwork | None = None
    client_port: int | None = None
    backend: tuple[IPAddress, int | None] | None = None
    states: frozenset[FlowState] = LIVE_STATES


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One flow; times in seconds.

    ``backend`` is None when its id stands for another backend, or none, by now. ``source`` and its port are what the
    backend sees in FullNAT, and None in the other modes.
    """

    client: IPAddress
    client_port: int
    frontend: FrontendId
    vip: Endpoint
    mode: ForwardingMode
    backend_id: BackendId
    backend: Endpoint | None
    source: IPAddress | None
    source_port: int | None
    state: FlowState
    idle_seconds: float
    expires_in_seconds: float


@dataclass(frozen=True, slots=True)
class FlowDump:
    """The first rows that matched, and how many did. ``states`` counts what matches but for its state, by state."""

    rows: tuple[FlowRow, ...] = ()
    matched: int = 0
    states: Mapping[FlowState, int] = field(default_factory=dict)
