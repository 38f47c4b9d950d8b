"""The table of flows: one entry for both directions, found by one canonical key, addressed by slot and generation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum, StrEnum

from sluicegate_agent.dpi.capture.headers import TCP

FlowKey = tuple[bytes, bytes, int, int, int, int]
"""Lower address, higher address, their ports, protocol, tunnel id: the same for both directions."""

TCP_IDLE_NS = 600 * 1_000_000_000
OTHER_IDLE_NS = 180 * 1_000_000_000


class State(IntEnum):
    """What becomes of a flow's packets. IGNORE: no rule wants the flow. SNIFF: they go up while the budget lasts."""

    IGNORE = 0
    SNIFF = 1
    STOP = 2
    DROP = 3


class Why(StrEnum):
    """Why a flow is in its state."""

    RULES = "rules"
    OPEN = "open"
    BUDGET = "budget"
    VERDICT = "verdict"


class End(StrEnum):
    """Why a flow ended."""

    IDLE = "timeout"
    REUSED = "reused"
    EVICTED = "evicted"
    CAPTURE = "end of capture"


class Flow:
    """One flow. Index 0 of a pair counts from the side that opened it, index 1 towards it. Times in ns."""

    __slots__ = (
        "closing",
        "destination",
        "destination_port",
        "first_seen",
        "flow_id",
        "icmp",
        "interface",
        "last_seen",
        "octets",
        "packets",
        "payload_bytes",
        "payload_packets",
        "protocol",
        "sent",
        "source",
        "source_port",
        "state",
        "tcp_flags",
        "tunnel",
        "until",
        "vlan",
        "why",
    )

    def __init__(self, flow_id: int, source: tuple[bytes, int], destination: tuple[bytes, int], protocol: int) -> None:
        self.flow_id = flow_id
        self.source, self.source_port = source
        self.destination, self.destination_port = destination
        self.protocol = protocol
        self.state = State.SNIFF
        self.why = Why.OPEN
        self.first_seen = self.last_seen = self.until = 0
        self.packets = [0, 0]
        self.octets = [0, 0]
        self.sent = self.payload_packets = self.payload_bytes = 0
        self.tcp_flags = [0, 0]
        self.closing = False
        self.interface = self.tunnel = self.vlan = 0
        self.icmp: tuple[int, int] | None = None

    def is_held(self, now: int) -> bool:
        """Whether it is dropped until later: then nothing ends it, so that what is dropped stays so for its time."""
        return self.state is State.DROP and now < self.until

    @property
    def slot(self) -> int:
        """Low half of the flow id."""
        return self.flow_id & 0xFFFFFFFF

    @property
    def generation(self) -> int:
        """High half of the flow id; never 0."""
        return self.flow_id >> 32


class FlowTable:
    """At most ``capacity`` flows; the one that was idle longest makes room. ``ended`` hears of every flow once."""

    def __init__(self, capacity: int, ended: Callable[[Flow, End], None]) -> None:
        self._capacity = capacity
        self._ended = ended
        self._tcp: OrderedDict[FlowKey, Flow] = OrderedDict()
        self._other: OrderedDict[FlowKey, Flow] = OrderedDict()
        self._opened = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._tcp) + len(self._other)

    @property
    def opened(self) -> int:
        """Flows since the beginning."""
        return self._opened

    def find(self, key: FlowKey, now: int) -> Flow | None:
        """The flow of this key, if it has not been idle for too long; it becomes the youngest."""
        tcp = key[4] == TCP
        flows = self._tcp if tcp else self._other
        flow = flows.get(key)
        if flow is None:
            return None
        if now - flow.last_seen > (TCP_IDLE_NS if tcp else OTHER_IDLE_NS) and not flow.is_held(now):
            self.end(key, End.IDLE)
            return None
        flows.move_to_end(key)
        return flow

    def open(self, key: FlowKey, source: tuple[bytes, int], destination: tuple[bytes, int]) -> Flow:
        """A new flow under a key that has none. Slots go round; each round is a generation."""
        if len(self) >= self._capacity:
            self._make_room()
        generation, slot = divmod(self._opened, self._capacity)
        self._opened += 1
        flow = Flow((generation + 1) << 32 | slot, source, destination, key[4])
        (self._tcp if key[4] == TCP else self._other)[key] = flow
        return flow

    def end(self, key: FlowKey, why: End) -> None:
        """Take a flow out."""
        flow = (self._tcp if key[4] == TCP else self._other).pop(key)
        self._ended(flow, why)

    def expire(self, now: int) -> None:
        """End what has been idle for too long."""
        for flows, limit in ((self._tcp, TCP_IDLE_NS), (self._other, OTHER_IDLE_NS)):
            idle = []
            for key, flow in flows.items():
                if now - flow.last_seen <= limit:
                    break
                if not flow.is_held(now):
                    idle.append(key)
            for key in idle:
                self.end(key, End.IDLE)

    def end_all(self) -> None:
        """End every flow, the oldest first."""
        for flows in (self._tcp, self._other):
            while flows:
                self.end(next(iter(flows)), End.CAPTURE)

    def _make_room(self) -> None:
        oldest = [next(iter(flows.items())) for flows in (self._tcp, self._other) if flows]
        key, _ = min(oldest, key=lambda item: item[1].last_seen)
        self.evicted += 1
        self.end(key, End.EVICTED)
