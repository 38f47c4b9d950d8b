"""What becomes of one packet: which flow it belongs to, whether it goes up, and what the engine's verdicts change."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from sluicegate_agent.dpi.capture.headers import ICMP, ICMPV6, TCP, Headers
from sluicegate_agent.dpi.capture.tunnels import Innermost
from sluicegate_agent.dpi.records import IPV6, RECORD, REVERSE, TRUNCATED, TUNNEL, MemoryRing
from sluicegate_agent.dpi.sniffing.flows import End, Flow, FlowKey, FlowTable, State, Why
from sluicegate_agent.dpi.sniffing.rules import RuleTable, SniffRule

_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_SECOND = 1_000_000_000
DEFAULT_CAPACITY = 1 << 16
MAX_CAPTURED = 16_640 - RECORD.size
"""Bytes of a packet that a record can hold: RECORD_DATA_MAX of bpf/sniff_record.h."""
VERDICT = struct.Struct("<Q")
"""The word on the flow in a slot: its generation << 32, seconds that a drop holds << 8, and an action."""
_STOP, _DROP = 1, 2
_GRACE_NS = 2 * _SECOND
"""How long after a stop a record that was still on its way may ask for a drop."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a flow goes up at most, both directions together (``spec.budget``)."""

    payload_packets: int = 16
    payload_bytes: int = 16_384
    max_packets: int = 24


@dataclass(frozen=True, slots=True)
class SniffPolicy:
    """What one sniffer wants. ``snap``: bytes of a packet that go up.

    ``drop_seconds``: how long a drop holds whose verdict says no time.
    ``send_empty``: TCP segments without data go up too, because a rule looks at them.
    """

    rules: tuple[SniffRule, ...] = ()
    budget: Budget = Budget()
    snap: int = MAX_CAPTURED
    drop_seconds: int = 60
    number: int = 0
    capacity: int = DEFAULT_CAPACITY
    send_empty: bool = False


class Outcome(IntEnum):
    """What became of a packet."""

    SENT = 0
    STOPPED = 1
    DROPPED = 2
    IGNORED = 3
    FRAGMENT = 4
    LOST = 5
    EMPTY = 6
    """Of a flow that is sniffed, with nothing in it to look at."""


@dataclass(slots=True)
class Counters:
    """Packets and their bytes on the wire by `Outcome`, and flows by how they were stopped."""

    packets: list[int] = field(default_factory=lambda: [0] * len(Outcome))
    octets: list[int] = field(default_factory=lambda: [0] * len(Outcome))
    stopped_by_budget: int = 0
    stopped_by_verdict: int = 0
    dropped_by_verdict: int = 0

    @property
    def seen(self) -> int:
        """All packets that were looked at."""
        return sum(self.packets)

    @property
    def share_sent(self) -> float | None:
        """Of packets; None when there was none."""
        return self.packets[Outcome.SENT] / self.seen if self.seen else None


class Sniffer:
    """The twin of the kernel's part. ``ended`` hears of every flow once.

    ``verdicts`` holds one word per slot, which the engine writes.
    """

    def __init__(self, policy: SniffPolicy, ring: MemoryRing, ended: Callable[[Flow, End], None]) -> None:
        self.policy = policy
        self.rules = RuleTable(policy.rules)
        self.flows = FlowTable(policy.capacity, ended)
        self.ring = ring
        self.verdicts = bytearray(policy.capacity * VERDICT.size)
        self.counters = Counters()
        self.now = 0
        self._lost = 0

    def see(self, packet: Innermost, time: int, interface: int, wire_length: int, data: bytes) -> Outcome:
        """Decide on one packet, and write its record when it goes up. ``time`` in ns; time never runs backwards."""
        self.now = max(self.now, time)
        outcome = self._decide(packet, time, interface, wire_length, data)
        self.counters.packets[outcome] += 1
        self.counters.octets[outcome] += wire_length
        return outcome

    def _decide(self, packet: Innermost, time: int, interface: int, wire_length: int, data: bytes) -> Outcome:
        headers = packet.headers
        if headers.fragment:
            return Outcome.FRAGMENT
        source, destination = (headers.source, headers.source_port), (headers.destination, headers.destination_port)
        tunnel = packet.tunnel if packet.shared else 0
        low, high = (source, destination) if source <= destination else (destination, source)
        key: FlowKey = (low[0], high[0], low[1], high[1], headers.protocol, tunnel)
        flow = self.flows.find(key, self.now)
        flags = headers.tcp_flags
        if flow is not None and flow.closing and flags & (_SYN | _ACK) == _SYN and not flow.is_held(self.now):
            self.flows.end(key, End.REUSED)
            flow = None
        if flow is None:
            flow = self._open(key, packet, data, interface)
        reverse = 0 if source == (flow.source, flow.source_port) else 1
        flow.last_seen = self.now
        flow.packets[reverse] += 1
        flow.octets[reverse] += wire_length
        if flags:
            flow.tcp_flags[reverse] |= flags
            flow.closing = flow.closing or flags & (_FIN | _RST) != 0
        self._apply_verdict(flow)
        if flow.state is not State.SNIFF:
            return (Outcome.IGNORED, Outcome.SENT, Outcome.STOPPED, Outcome.DROPPED)[flow.state]
        # An acknowledgement says something only when it is all that was seen of its side: then it makes the flow known.
        if flow.packets[reverse] > 1 and not self.policy.send_empty and _is_empty(headers):
            return Outcome.EMPTY
        return self._send(flow, packet, reverse, (time, interface, wire_length), data)

    def _open(self, key: FlowKey, packet: Innermost, data: bytes, interface: int) -> Flow:
        headers = packet.headers
        source, destination = (headers.source, headers.source_port), (headers.destination, headers.destination_port)
        if headers.protocol == TCP and headers.tcp_flags & (_SYN | _ACK) == _SYN | _ACK:
            source, destination = destination, source  # the answer to a SYN that was not captured
        flow = self.flows.open(key, source, destination)
        flow.first_seen = self.now
        flow.interface, flow.tunnel, flow.vlan = interface, packet.tunnel, packet.vlan
        if headers.protocol in {ICMP, ICMPV6} and headers.end >= headers.transport + 2:
            flow.icmp = (data[headers.transport], data[headers.transport + 1])
        if not self.rules.wants(headers.protocol, source, destination):
            flow.state, flow.why = State.IGNORE, Why.RULES
        return flow

    def _apply_verdict(self, flow: Flow) -> None:
        """Copy a verdict into the flow, so that reuse of its slot does not take it back."""
        if flow.state is State.IGNORE or (flow.state is State.STOP and self.now >= flow.until):
            return
        if flow.state is State.DROP and self.now >= flow.until:
            spent = self._spent(flow)
            flow.state, flow.why = (State.STOP, Why.BUDGET) if spent else (State.SNIFF, Why.OPEN)
        at = flow.slot * VERDICT.size
        (word,) = VERDICT.unpack_from(self.verdicts, at)
        if word >> 32 != flow.generation:
            return
        action = word & 0xFF
        if action == _STOP and flow.state is State.SNIFF:
            self._stop(flow, Why.VERDICT)
            self.counters.stopped_by_verdict += 1
        elif action == _DROP:
            seconds = (word & 0xFFFFFFFF) >> 8 or self.policy.drop_seconds
            until = self.now + seconds * _SECOND
            flow.until = max(flow.until, until) if flow.state is State.DROP else until
            self.counters.dropped_by_verdict += flow.state is not State.DROP
            flow.state, flow.why = State.DROP, Why.VERDICT
            VERDICT.pack_into(self.verdicts, at, 0)  # taken: it holds for its time, not for ever

    def _stop(self, flow: Flow, why: Why) -> None:
        flow.state, flow.why, flow.until = State.STOP, why, self.now + _GRACE_NS

    def _send(self, flow: Flow, packet: Innermost, reverse: int, meta: tuple[int, int, int], data: bytes) -> Outcome:
        headers, (time, interface, wire_length) = packet.headers, meta
        length = min(headers.end - headers.start, self.policy.snap)
        payload_at = min(headers.payload - headers.start, length)
        payload = length - payload_at if headers.transport != headers.payload else 0
        flags = (
            (REVERSE if reverse else 0)
            | (IPV6 if headers.family == 6 else 0)
            | (TRUNCATED if headers.truncated or length < headers.end - headers.start else 0)
            | (TUNNEL if packet.tunnelled else 0)
        )
        record = RECORD.pack(
            time,
            flow.flow_id,
            interface + 1,
            wire_length,
            sum(flow.packets) & 0xFFFFFFFF,
            length,
            min(headers.transport - headers.start, length),
            payload_at if payload else length,
            payload,
            headers.protocol,
            headers.tcp_flags,
            flags,
            self.policy.number,
            packet.tunnel,
            packet.vlan,
            min(self._lost, 0xFFFF),
        )
        if not self.ring.put_raw(record, data[headers.start : headers.start + length]):
            self._lost += 1
            return Outcome.LOST
        self._lost = 0
        flow.sent += 1
        if payload:
            flow.payload_packets += 1
            flow.payload_bytes += payload
        if self._spent(flow):
            self._stop(flow, Why.BUDGET)
            self.counters.stopped_by_budget += 1
        return Outcome.SENT

    def _spent(self, flow: Flow) -> bool:
        budget = self.policy.budget
        return (
            flow.sent >= budget.max_packets
            or flow.payload_packets >= budget.payload_packets
            or flow.payload_bytes >= budget.payload_bytes
        )


def _is_empty(headers: Headers) -> bool:
    """Whether a packet is a TCP segment without data that neither opens a connection nor breaks it off.

    A FIN without data is one too: the flow's own entry says when it is over.
    """
    return (
        headers.protocol == TCP
        and headers.payload >= headers.end
        and not headers.tcp_flags & (_SYN | _RST)
        and not headers.truncated
    )
