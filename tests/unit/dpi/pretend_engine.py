"""An engine for tests of what stands around it: it reads records as the native one does, and labels by port."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field

from sluicegate_agent.dpi.engine import DETAIL, EVENT, Action, Batch, Kind, Reason
from sluicegate_agent.dpi.records import ENTRY, IPV6, RECORD, REVERSE, MemoryRing

NAMES = {5: "DNS", 7: "HTTP", 91: "TLS", 126: "Google"}
LABELS = {53: (0, 5), 80: (0, 7), 443: (91, 126)}
SID = 1000001
RISK_BIT = 3


@dataclass
class _Flow:
    flow_id: int
    first_ns: int
    tuple: tuple[bytes, bytes, int, int, int]
    flags: int
    ifindex: int
    tunnel: int
    vlan: int
    last_ns: int = 0
    packets: list[int] = field(default_factory=lambda: [0, 0])
    octets: list[int] = field(default_factory=lambda: [0, 0])
    label: tuple[int, int] = (0, 0)
    risk: int = 0
    reason: int = 0
    action: int = 0


class PretendEngine:
    """Labels a flow at ``label_at`` records, stops it there, and alerts on payloads that hold ``needle``."""

    classification = "pretended"

    def __init__(self, *, label_at: int = 3, needle: bytes = b"/etc/passwd", drop: bool = False) -> None:
        self.label_at, self.needle, self.drops_alone = label_at, needle, drop
        self.records: list[tuple[tuple[int, ...], bytes]] = []
        self.flows: dict[int, _Flow] = {}
        self.verdicts = bytearray()
        self._events: list[bytes] = []
        self._blob = b""

    def use_verdicts(self, words: bytearray) -> None:
        self.verdicts = words

    def protocol_name(self, number: int) -> str:
        return NAMES.get(number, f"P{number}")

    def category(self, app: int) -> str:
        return "Web" if app in {7, 126} else "Network"

    def risk_name(self, bit: int) -> str:
        return f"Risk {bit}"

    def stats(self) -> dict[str, int]:
        return {"records": len(self.records)}

    def run(self, ring: MemoryRing, max_records: int = 4096) -> Batch:
        del max_records
        at = taken = 0
        while at < ring.produced:
            length, _ = ENTRY.unpack_from(ring.memory, at)
            fields = RECORD.unpack_from(ring.memory, at + ENTRY.size)
            packet = bytes(ring.memory[at + ENTRY.size + RECORD.size : at + ENTRY.size + length])
            assert len(packet) == fields[5]
            self.records.append((fields, packet))
            self._record(fields, packet)
            at += ENTRY.size + (length + 7 & ~7)
            taken += 1
        ring.produced = 0
        return self._batch(taken)

    def _record(self, fields: tuple[int, ...], packet: bytes) -> None:
        time, flow_id, ifindex, wire, _, _, l4, payload, payload_length, protocol, _, flags, _, tunnel, vlan, _ = fields
        flow = self.flows.get(flow_id)
        if flow is None:
            v6 = flags & IPV6
            source, destination = (packet[8:24], packet[24:40]) if v6 else (packet[12:16], packet[16:20])
            ports = struct.unpack_from(">HH", packet, l4) if protocol in {6, 17} else (packet[l4], packet[l4 + 1])
            if flags & REVERSE:
                source, destination, ports = destination, source, ports[::-1]
            both = (source, destination, ports[0], ports[1], protocol)
            flow = self.flows[flow_id] = _Flow(flow_id, time, both, flags, ifindex, tunnel, vlan)
        side = flags & REVERSE
        flow.last_ns = time
        flow.packets[side] += 1
        flow.octets[side] += wire
        if self.needle in packet[payload : payload + payload_length]:
            if self.drops_alone:
                self._verdict(flow, Action.DROP)
            self._event(flow, Kind.ALERT, SID)
        if sum(flow.packets) == self.label_at:
            ports = flow.tuple[2:4]
            flow.label = next((LABELS[port] for port in ports if port in LABELS), (0, 0))
            flow.risk = 1 << RISK_BIT if flow.label == (0, 7) else 0
            if flow.action != Action.DROP:
                flow.reason = Reason.LABEL
                self._verdict(flow, Action.STOP)
            self._event(flow, Kind.CLASSIFIED)

    def _verdict(self, flow: _Flow, action: int, seconds: int = 0) -> None:
        flow.action = action
        slot = flow.flow_id & 0xFFFFFFFF
        struct.pack_into("<Q", self.verdicts, slot * 8, flow.flow_id >> 32 << 32 | seconds << 8 | action)

    def drop(self, flow_id: int, seconds: int, reason: Reason, now_ns: int) -> Batch:
        del reason, now_ns
        flow = self.flows.get(flow_id)
        if flow is not None:
            self._verdict(flow, Action.DROP, seconds)
        return self._batch(flow is not None)

    def end(self, flow_id: int, now_ns: int) -> Batch:
        del now_ns
        flow = self.flows.pop(flow_id, None)
        if flow is not None:
            self._event(flow, Kind.END)
        return self._batch(0 if flow is None else 1)

    def flush(self, now_ns: int, max_flows: int = 4096) -> Batch:
        del now_ns, max_flows
        count = len(self.flows)
        for flow in self.flows.values():
            self._event(flow, Kind.END)
        self.flows.clear()
        return self._batch(count)

    def _text(self, flow: _Flow) -> bytes:
        proto = ".".join(NAMES[number] for number in flow.label if number) or "Unknown"
        found: dict[str, object] = {"proto": proto, "hostname": "www.example.org"}
        if flow.label == (91, 126):
            found["tls"] = {"version": "TLSv1.3", "ja4": "t13d", "ja3s": "abc"}
        elif flow.label == (0, 7):
            found["http"] = {"url": "www.example.org/", "code": 200, "user_agent": "test"}
        elif flow.label == (0, 5):
            found["dns"] = {"num_queries": 1, "num_answers": 1, "reply_code": 0, "query_type": 1}
        return json.dumps(found).encode()

    def _event(self, flow: _Flow, kind: Kind, rule: int = 0) -> None:
        text = b"" if kind is Kind.ALERT else self._text(flow)
        values: list[int] = [0] * len(DETAIL.unpack(bytes(DETAIL.size)))
        values[0:2] = flow.first_ns, flow.last_ns
        values[2:4] = flow.octets
        values[4] = flow.risk
        values[5:7] = flow.packets
        values[9:12] = flow.tunnel, flow.vlan, 50 if flow.risk else 0
        values[14] = flow.reason
        blob = DETAIL.pack(*values) + text
        source, destination, source_port, destination_port, protocol = flow.tuple
        self._events.append(
            EVENT.pack(
                *(flow.flow_id, flow.last_ns, kind, flow.action, *flow.label, rule, sum(flow.packets)),
                *(len(self._blob), len(blob), source.ljust(16, b"\0"), destination.ljust(16, b"\0")),
                *(source_port, destination_port, protocol, flow.flags, 0, 0, flow.ifindex, 0),
            )
        )
        self._blob += blob

    def _batch(self, taken: int) -> Batch:
        batch = Batch(taken, b"".join(self._events), self._blob)
        self._events, self._blob = [], b""
        return batch
