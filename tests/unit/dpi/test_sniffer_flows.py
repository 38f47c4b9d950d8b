"""The sniffer: flows, rules, budgets, verdicts, fragments."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from sluicegate_agent.dpi.capture.tunnels import Innermost, innermost
from sluicegate_agent.dpi.records import ENTRY, IPV6, RECORD, REVERSE, TRUNCATED, TUNNEL, MemoryRing
from sluicegate_agent.dpi.sniffing.flows import OTHER_IDLE_NS, TCP_IDLE_NS, End, Flow, State, Why
from sluicegate_agent.dpi.sniffing.rules import RuleTable, Side, SniffRule
from sluicegate_agent.dpi.sniffing.sniffer import VERDICT, Budget, Outcome, Sniffer, SniffPolicy

STOP, DROP = 1, 2
SECOND = 1_000_000_000
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
CLIENT, SERVER = ("10.0.0.1", 40000), ("192.0.2.1", 443)


def tcp(payload: bytes = b"data", *, back: bool = False, flags: str = "PA", port: int = 40000) -> Packet:
    """A packet of the connection, or of another one by its client's port."""
    source, destination = (CLIENT[0], port), SERVER
    if back:
        source, destination = destination, source
    return IP(src=source[0], dst=destination[0]) / TCP(sport=source[1], dport=destination[1], flags=flags) / payload


class Stage:
    """A sniffer, and what became of its flows."""

    def __init__(self, policy: SniffPolicy | None = None, ring: int = 1 << 16) -> None:
        self.ring = MemoryRing(ring)
        self.ended: list[tuple[Flow, End]] = []
        self.sniffer = Sniffer(policy or SniffPolicy(), self.ring, lambda flow, end: self.ended.append((flow, end)))
        self.now = SECOND

    def see(self, packet: Packet, *, cut: int = 0) -> Outcome:
        """One packet, a microsecond after the last one."""
        self.now += 1000
        frame = bytes(Ether(**MACS) / packet)
        data = frame[: len(frame) - cut]
        found = innermost(1, data)
        assert isinstance(found, Innermost), found
        return self.sniffer.see(found, self.now, 0, len(frame), data)

    def records(self) -> list[tuple[tuple[int, ...], bytes]]:
        """What is in the ring; empties it."""
        at, found = 0, []
        while at < self.ring.produced:
            length, _ = ENTRY.unpack_from(self.ring.memory, at)
            start = at + ENTRY.size
            fields = RECORD.unpack_from(self.ring.memory, start)
            found.append((fields, bytes(self.ring.memory[start + RECORD.size : start + length])))
            at = start + (length + 7 & ~7)
        assert at == self.ring.produced
        self.ring.produced = 0
        return found

    def verdict(self, flow_id: int, action: int) -> None:
        """As the engine writes it."""
        VERDICT.pack_into(self.sniffer.verdicts, (flow_id & 0xFFFFFFFF) * 8, flow_id >> 32 << 32 | action)


def test_both_directions_are_one_flow_and_records_say_where_headers_are() -> None:
    stage = Stage()
    request, answer = tcp(b"request"), tcp(b"the answer", back=True)
    assert stage.see(request) is Outcome.SENT
    assert stage.see(answer) is Outcome.SENT
    (first, first_packet), (second, second_packet) = stage.records()
    assert first_packet == bytes(request)
    assert second_packet == bytes(answer)
    assert first[1] == second[1]
    assert first[1] >> 32 == 1
    assert (first[4], second[4]) == (1, 2)
    assert (first[5:9], second[5:9]) == ((47, 20, 40, 7), (50, 20, 40, 10))
    assert (first[9], first[10], first[11], second[11]) == (6, 0x18, 0, REVERSE)
    assert first[3] == 47 + 14


def test_a_record_without_payload_has_its_payload_offset_at_its_end() -> None:
    stage = Stage()
    stage.see(tcp(b"", flags="S"))
    stage.see(IPv6() / UDP(sport=5, dport=53) / b"query")
    (syn, _), (query, _) = stage.records()
    assert syn[5:9] == (40, 20, 40, 0)
    assert query[5:9] == (53, 40, 48, 5)
    assert query[11] == IPV6


def test_a_cut_packet_goes_up_as_far_as_it_was_captured_and_says_so() -> None:
    stage = Stage()
    stage.see(tcp(b"0123456789"), cut=4)
    ((fields, packet),) = stage.records()
    assert fields[11] == TRUNCATED
    assert fields[5] == len(packet) == 46
    assert fields[8] == 6


def test_a_record_is_cut_at_the_snap_length() -> None:
    stage = Stage(SniffPolicy(snap=100))
    stage.see(tcp(bytes(500)))
    ((fields, packet),) = stage.records()
    assert fields[11] == TRUNCATED
    assert (fields[5], fields[8], len(packet)) == (100, 60, 100)


@pytest.mark.parametrize(
    ("budget", "sent"),
    [
        (Budget(payload_packets=3, payload_bytes=10_000, max_packets=100), 3),
        (Budget(payload_packets=100, payload_bytes=250, max_packets=100), 3),
        (Budget(payload_packets=100, payload_bytes=10_000, max_packets=4), 4),
    ],
)
def test_whichever_budget_is_used_up_first_ends_the_flow(budget: Budget, sent: int) -> None:
    stage = Stage(SniffPolicy(budget=budget))
    outcomes = [stage.see(tcp(bytes(100), back=index % 2 == 1)) for index in range(10)]
    assert outcomes == [Outcome.SENT] * sent + [Outcome.STOPPED] * (10 - sent)
    assert stage.sniffer.counters.stopped_by_budget == 1


def test_packets_without_data_use_up_only_the_hard_cap() -> None:
    budget = Budget(payload_packets=1, payload_bytes=10_000, max_packets=5)
    stage = Stage(SniffPolicy(budget=budget, send_empty=True))
    outcomes = [stage.see(tcp(b"", flags="A")) for _ in range(4)]
    outcomes += [stage.see(tcp(b"data")), stage.see(tcp(b"data"))]
    assert outcomes == [Outcome.SENT] * 5 + [Outcome.STOPPED]


def test_segments_without_data_stay_down_and_cost_no_budget() -> None:
    stage = Stage(SniffPolicy(budget=Budget(max_packets=3)))
    outcomes = [stage.see(tcp(b"", flags="S")), stage.see(tcp(b"", back=True, flags="SA"))]
    outcomes += [stage.see(tcp(b"", flags="A")) for _ in range(10)]
    outcomes += [stage.see(tcp(b"data")), stage.see(tcp(b"data"))]
    assert outcomes == [Outcome.SENT] * 2 + [Outcome.EMPTY] * 10 + [Outcome.SENT, Outcome.STOPPED]
    records = stage.records()
    assert [fields[4] for fields, _ in records] == [1, 2, 13]
    assert stage.sniffer.counters.packets[Outcome.EMPTY] == 10


def test_the_first_segment_of_each_side_goes_up_even_without_data() -> None:
    stage = Stage()
    outcomes = [stage.see(tcp(b"", back=back, flags="A")) for back in (False, False, True, True)]
    assert outcomes == [Outcome.SENT, Outcome.EMPTY] * 2


@pytest.mark.parametrize("flags", ["S", "SA", "R", "RA"])
def test_what_opens_a_connection_or_breaks_it_off_goes_up_without_data(flags: str) -> None:
    stage = Stage()
    stage.see(tcp())
    assert stage.see(tcp(b"", flags=flags)) is Outcome.SENT


def test_an_orderly_end_without_data_stays_down_and_is_known_from_the_flow() -> None:
    stage = Stage()
    stage.see(tcp())
    assert stage.see(tcp(b"", flags="FA")) is Outcome.EMPTY
    assert stage.see(tcp(b"last", flags="FA")) is Outcome.SENT
    stage.sniffer.flows.end_all()
    assert stage.ended[0][0].closing


def test_a_segment_whose_data_was_not_captured_is_not_empty() -> None:
    stage = Stage()
    stage.see(tcp())
    assert stage.see(tcp(b"0123456789"), cut=10) is Outcome.SENT


def test_datagrams_without_data_go_up() -> None:
    stage = Stage()
    assert [stage.see(IP() / UDP(sport=5, dport=6)) for _ in range(2)] == [Outcome.SENT] * 2


def test_a_verdict_stops_its_flow_and_only_that() -> None:
    stage = Stage()
    stage.see(tcp())
    stage.see(tcp(port=40001))
    (first, _), (_second, _) = stage.records()
    stage.verdict(first[1], STOP)
    assert stage.see(tcp(back=True)) is Outcome.STOPPED
    assert stage.see(tcp(port=40001, back=True)) is Outcome.SENT
    assert stage.sniffer.counters.stopped_by_verdict == 1


def test_a_verdict_for_an_earlier_generation_of_a_slot_means_nothing() -> None:
    stage = Stage(SniffPolicy(capacity=2))
    for port in (1, 2, 3):
        stage.see(tcp(port=port))
    ids = [fields[1] for fields, _ in stage.records()]
    assert [flow_id & 0xFFFFFFFF for flow_id in ids] == [0, 1, 0]
    assert [flow_id >> 32 for flow_id in ids] == [1, 1, 2]
    assert [(flow.source_port, end) for flow, end in stage.ended] == [(1, End.EVICTED)]
    stage.verdict(ids[0], STOP)
    assert stage.see(tcp(port=3)) is Outcome.SENT


def test_reuse_of_a_slot_does_not_take_back_a_verdict_that_was_seen() -> None:
    stage = Stage(SniffPolicy(capacity=2))
    stage.see(tcp(port=1))
    ((first, _),) = stage.records()
    stage.verdict(first[1], STOP)
    assert stage.see(tcp(port=1)) is Outcome.STOPPED
    stage.verdict(first[1] + (1 << 32), STOP)
    assert stage.see(tcp(port=1)) is Outcome.STOPPED


def test_a_drop_holds_for_its_time_and_then_the_flow_is_sniffed_again_within_its_budget() -> None:
    stage = Stage(SniffPolicy(drop_seconds=10))
    stage.see(tcp())
    ((first, _),) = stage.records()
    stage.verdict(first[1], DROP)
    assert stage.see(tcp(back=True)) is Outcome.DROPPED
    stage.now += 9 * SECOND
    assert stage.see(tcp()) is Outcome.DROPPED
    stage.now += SECOND
    assert stage.see(tcp()) is Outcome.SENT
    ((again, _),) = stage.records()
    assert again[1] == first[1]


def test_a_drop_comes_after_a_stop_too() -> None:
    stage = Stage(SniffPolicy(budget=Budget(payload_packets=1)))
    stage.see(tcp())
    ((first, _),) = stage.records()
    stage.verdict(first[1], 5 << 8 | DROP)
    assert stage.see(tcp()) is Outcome.DROPPED
    stage.now += 5 * SECOND
    assert stage.see(tcp()) is Outcome.STOPPED


def test_a_drop_that_comes_long_after_the_stop_is_not_looked_for() -> None:
    stage = Stage(SniffPolicy(budget=Budget(payload_packets=1)))
    stage.see(tcp())
    ((first, _),) = stage.records()
    stage.now += 2 * SECOND
    stage.verdict(first[1], DROP)
    assert stage.see(tcp()) is Outcome.STOPPED


def test_a_verdict_says_how_long_a_drop_holds_and_a_later_one_makes_it_longer_never_shorter() -> None:
    stage = Stage(SniffPolicy(drop_seconds=10))
    stage.see(tcp())
    ((first, _),) = stage.records()
    for seconds in (3, 20, 1):
        stage.verdict(first[1], seconds << 8 | DROP)
        assert stage.see(tcp()) is Outcome.DROPPED
    stage.now += 19 * SECOND
    assert stage.see(tcp()) is Outcome.DROPPED
    stage.now += SECOND
    assert stage.see(tcp()) is Outcome.SENT
    assert stage.sniffer.counters.dropped_by_verdict == 1


@pytest.mark.parametrize("flags", ["PA", "S"])
def test_a_flow_that_is_dropped_outlives_its_end_and_its_idle_time(flags: str) -> None:
    stage = Stage()
    stage.see(tcp(flags="FPA"))
    ((first, _),) = stage.records()
    stage.verdict(first[1], 3600 << 8 | DROP)
    assert stage.see(tcp()) is Outcome.DROPPED
    stage.now += TCP_IDLE_NS + SECOND
    stage.sniffer.flows.expire(stage.now)
    assert stage.see(tcp(flags=flags)) is Outcome.DROPPED
    stage.now += 3000 * SECOND
    assert stage.see(tcp(flags=flags)) is Outcome.SENT
    assert len(stage.ended) == 1


def test_fragments_are_counted_and_open_no_flow() -> None:
    stage = Stage()
    assert stage.see(IP(flags="MF") / UDP(dport=53) / bytes(80)) is Outcome.FRAGMENT
    assert stage.see(IP(frag=10, proto=17) / bytes(80)) is Outcome.FRAGMENT
    assert stage.sniffer.flows.opened == 0
    assert not stage.records()


def test_the_same_addresses_in_two_tunnels_are_two_flows() -> None:
    stage = Stage()
    for vni in (1, 2, 1):
        stage.see(IP(src="1.1.1.1") / UDP(sport=9, dport=4789) / VXLAN(vni=vni) / Ether(**MACS) / tcp())
    stage.see(tcp())
    fields = [fields for fields, _ in stage.records()]
    assert [each[12 + 1] for each in fields] == [1, 2, 1, 0]
    assert [each[11] for each in fields] == [TUNNEL] * 3 + [0]
    assert [each[1] & 0xFFFFFFFF for each in fields] == [0, 1, 0, 2]


def test_a_tunnel_without_an_id_is_told_apart_by_its_flag_only() -> None:
    stage = Stage()
    stage.see(IP(src="1.1.1.1") / GRE() / tcp())
    ((fields, packet),) = stage.records()
    assert packet == bytes(tcp())
    assert fields[11] == TUNNEL


def test_a_syn_after_the_end_of_a_connection_opens_a_new_flow() -> None:
    stage = Stage()
    stage.see(tcp(b"", flags="S"))
    stage.see(tcp(b"", flags="FA"))
    stage.see(tcp(b"", flags="S"))
    first, second = [fields[1] for fields, _ in stage.records()]
    assert first != second
    assert [end for _, end in stage.ended] == [End.REUSED]


def test_the_answer_to_a_syn_that_was_not_seen_counts_from_the_client() -> None:
    stage = Stage()
    stage.see(tcp(b"", flags="SA", back=True))
    ((fields, _),) = stage.records()
    assert fields[11] == REVERSE
    stage.sniffer.flows.end_all()
    ((flow, end),) = stage.ended
    assert (flow.source_port, flow.destination_port) == (40000, 443)
    assert flow.packets == [0, 1]
    assert end is End.CAPTURE


@pytest.mark.parametrize(("packet", "idle"), [(tcp(), TCP_IDLE_NS), (IP() / UDP() / b"x", OTHER_IDLE_NS)])
def test_a_flow_that_was_idle_for_too_long_begins_anew(packet: Packet, idle: int) -> None:
    stage = Stage()
    stage.see(packet)
    stage.now += idle - 1000
    stage.see(packet)
    stage.now += idle
    stage.see(packet)
    ids = [fields[1] for fields, _ in stage.records()]
    assert ids[0] == ids[1] != ids[2]
    assert [end for _, end in stage.ended] == [End.IDLE]


def test_idle_flows_are_swept() -> None:
    stage = Stage()
    stage.see(tcp())
    stage.see(IP() / ICMP() / b"ping")
    stage.sniffer.flows.expire(stage.now + OTHER_IDLE_NS + SECOND)
    assert [flow.protocol for flow, _ in stage.ended] == [1]
    assert stage.ended[0][0].icmp == (8, 0)
    stage.sniffer.flows.expire(stage.now + TCP_IDLE_NS + SECOND)
    assert len(stage.sniffer.flows) == 0


def test_a_record_that_finds_no_room_is_lost_and_the_next_one_says_so() -> None:
    stage = Stage(ring=128)
    assert stage.see(tcp()) is Outcome.SENT
    assert stage.see(tcp()) is Outcome.LOST
    assert stage.see(tcp(port=1)) is Outcome.LOST
    stage.records()
    assert stage.see(tcp()) is Outcome.SENT
    assert stage.see(tcp()) is Outcome.LOST
    ((fields, _),) = stage.records()
    assert fields[15] == 2
    stage.see(tcp())
    stage.records()
    stage.see(tcp())
    ((fields, _),) = stage.records()
    assert fields[15] == 0


WEB = SniffRule(
    "web",
    frozenset({6}),
    destination=Side((ip_network("192.0.2.0/24"), ip_network("fd00::/8")), ((443, 443), (80, 89))),
)
BACKUP = SniffRule("backup", source=Side((ip_network("10.0.0.0/8"),)), ignore=True)
REST = SniffRule("rest")


def test_the_first_rule_that_matches_decides_on_the_whole_flow() -> None:
    stage = Stage(SniffPolicy(rules=(WEB, BACKUP, REST)))
    assert stage.see(tcp()) is Outcome.SENT
    assert stage.see(tcp(back=True)) is Outcome.SENT
    assert stage.see(IP(src="10.0.0.1", dst="8.8.8.8") / UDP(dport=53) / b"q") is Outcome.IGNORED
    assert stage.see(IP(src="8.8.8.8", dst="10.0.0.1") / UDP(sport=53) / b"a") is Outcome.IGNORED
    assert stage.see(IP(src="172.16.0.1", dst="8.8.8.8") / UDP(dport=53) / b"q") is Outcome.SENT
    assert stage.sniffer.rules.flows == [1, 1, 1]


def test_flows_that_no_rule_takes_are_left_alone() -> None:
    stage = Stage(SniffPolicy(rules=(WEB,)))
    assert stage.see(IP(src="172.16.0.1", dst="192.0.2.7") / TCP(dport=8080, flags="S")) is Outcome.IGNORED
    assert stage.see(IP(src="172.16.0.1", dst="192.0.2.7") / UDP(dport=443)) is Outcome.IGNORED
    assert stage.see(IPv6(src="2001:db8::1", dst="fd00::7") / TCP(dport=85, flags="S")) is Outcome.SENT
    assert stage.sniffer.rules.unmatched == 2


@given(st.integers(0, 32), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_a_network_holds_exactly_its_addresses(length: int, base: int, address: int) -> None:
    network = ip_network((base, length), strict=False)
    table = RuleTable([SniffRule("one", source=Side((network,)))])
    packed = struct.pack(">I", address)
    wanted = address >> (32 - length) == base >> (32 - length)
    assert table.wants(6, (packed, 1), (bytes(4), 2)) == wanted


def test_every_packet_has_one_outcome_and_states_say_why() -> None:
    stage = Stage(SniffPolicy(budget=Budget(payload_packets=1)))
    for _ in range(3):
        stage.see(tcp())
    stage.sniffer.flows.end_all()
    ((flow, _),) = stage.ended
    assert (flow.state, flow.why, flow.sent) == (State.STOP, Why.BUDGET, 1)
    assert stage.sniffer.counters.seen == 3
    assert stage.sniffer.counters.share_sent == pytest.approx(1 / 3)
