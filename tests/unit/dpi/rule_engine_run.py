"""The native engine on the same traffic as the reference: pieces become IPv4 packets, and records of them."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from rule_traffic import TO_SERVER, Piece, Traffic

from sluicegate_agent.dpi import records
from sluicegate_agent.dpi.engine import Engine, Kind, Limits, Policy, Tables, compile_rules
from sluicegate_agent.dpi.rules.tables import RuleTables

_LIMITS = Limits(max_flows=1024, max_undecided=256, max_events=512, blob_bytes=1 << 20)
_UNBOUNDED = Policy(max_packets=0, payload_packets=0, payload_bytes=0, classify=False)
_TCP, _UDP, _SYN, _SYN_ACK, _ACK = 6, 17, 0x02, 0x12, 0x10


def alerts(tables: RuleTables, *flows: Traffic) -> list[set[int]]:
    """The sids that match in each flow."""
    with Engine(_LIMITS) as engine:
        engine.set_tables(Tables(want={(kind, None): int(kind is Kind.ALERT) for kind in Kind}))
        engine.set_policy(0, _UNBOUNDED)
        engine.load_rules(compile_rules(tables))
        ring = records.MemoryRing()
        found: list[set[int]] = [set() for _ in flows]
        for slot, traffic in enumerate(flows):
            _put(ring, traffic, records.flow_id(slot, 1))
        events = [*engine.run(ring, 1 << 20), *engine.flush(1 << 40)]
        for event in events:
            found[event.flow_id & 0xFFFFFFFF].add(event.rule)
        return found


def _put(ring: records.MemoryRing, traffic: Traffic, flow: int) -> None:
    ends = {TO_SERVER: 1000, 1 - TO_SERVER: 5000}
    packets: list[tuple[Piece, int]] = [(piece, _ACK) for piece in traffic.pieces]
    if traffic.l4 == _TCP:
        packets = [(Piece(b"", TO_SERVER), _SYN), (Piece(b"", 1 - TO_SERVER), _SYN_ACK), *packets]
    for index, (piece, flags) in enumerate(packets):
        header = _l4(traffic, piece, flags, ends)
        ends[piece.direction] += len(piece.data) + (flags != _ACK)
        l3 = _ipv4(traffic, piece, header)
        assert ring.put(
            l3,
            ts_ns=1_000_000 * (index + 1),
            flow_id=flow,
            l4_off=20,
            pl_off=20 + len(header),
            pl_len=len(piece.data),
            l4_proto=traffic.l4,
            tcp_flags=flags if traffic.l4 == _TCP else 0,
            flags=0 if piece.direction == TO_SERVER else records.REVERSE,
            index=index + 1,
        )


def _l4(traffic: Traffic, piece: Piece, flags: int, ends: dict[int, int]) -> bytes:
    _, source, _, destination = traffic.ends(piece.direction)
    if traffic.l4 == _TCP:
        mine, other = ends[piece.direction], ends[1 - piece.direction]
        return struct.pack("!HHIIBBHHH", source, destination, mine, other, 5 << 4, flags, 65535, 0, 0)
    if traffic.l4 == _UDP:
        return struct.pack("!HHHH", source, destination, 8 + len(piece.data), 0)
    return struct.pack("!BBHHH", 8, 0, 0, 1, 1)


def _ipv4(traffic: Traffic, piece: Piece, header: bytes) -> bytes:
    sides = [ip_address(traffic.client).packed, ip_address(traffic.server).packed]
    source, destination = sides if piece.direction == TO_SERVER else reversed(sides)
    length = 20 + len(header) + len(piece.data)
    start = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, traffic.l4, 0)
    return start + source + destination + header + piece.data
