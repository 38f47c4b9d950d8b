"""Which packets the sniffer looks at, where, and how those are counted that it can make nothing of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import EGRESS, Hook
from frames import locate, mac
from marks import ALL_HOOKS, FAMILIES, PROTOCOLS
from pieces import MORE, cut, with_header_checksum
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.sniffing.model import SniffCounters, SnifferPlan
from sniff_bench import NUMBER, PLAN, SniffBench, back, there

pytestmark = pytest.mark.kernel

MANY = Budget(1000, 1 << 20, 1000)
UNREADABLE = {
    4: {
        "shorter than its header": lambda frame: frame[:14] + b"\x41" + frame[15:],
        "length below its header": lambda frame: frame[:16] + b"\0\x13" + frame[18:],
        "length beyond the frame": lambda frame: frame[:16] + b"\x05\0" + frame[18:],
        "not version 4": lambda frame: frame[:14] + b"\x65" + frame[15:],
        "TCP header of 4 bytes": lambda frame: frame[:46] + b"\x10" + frame[47:],
        "TCP header beyond its packet": lambda frame: frame[:46] + b"\xf0" + frame[47:],
    },
    6: {
        "length beyond the frame": lambda frame: frame[:18] + b"\x05\0" + frame[20:],
        "no length": lambda frame: frame[:18] + b"\0\0" + frame[20:],
        "not version 6": lambda frame: frame[:14] + b"\x45" + frame[15:],
        "TCP header of 4 bytes": lambda frame: frame[:66] + b"\x10" + frame[67:],
        "an extension header that cannot be told": lambda frame: (
            frame[:20] + b"\x2b" + frame[21:54] + b"\6\0\0\1" + frame[58:]
        ),
    },
}


@ALL_HOOKS
@pytest.mark.parametrize(("family", "what"), [(family, what) for family, kinds in UNREADABLE.items() for what in kinds])
def test_what_cannot_be_read_is_counted_and_passes(sniffer: SniffBench, hook: str, family: int, what: str) -> None:
    sniffer.tap(hook=hook)
    frame = UNREADABLE[family][what](there(family))
    assert sniffer.fate(hook, frame) == "unreadable"
    assert not sniffer.flows(family)
    assert not sniffer.records()


@ALL_HOOKS
@FAMILIES
def test_udp_that_contradicts_itself_is_unreadable(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    frame = there(family, Protocol.UDP)
    at = locate(frame).transport + 4
    for length in (7, 0xFFFF):
        assert sniffer.fate(hook, frame[:at] + length.to_bytes(2) + frame[at + 2 :]) == "unreadable"


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_fragments_are_counted_and_never_sent(sniffer: SniffBench, hook: str, family: int, protocol: Protocol) -> None:
    """Not the first either, which has the ports: what the rest of it says would be missing."""
    sniffer.tap(hook=hook)
    pieces = cut(there(family, protocol, payload=bytes(200)), 64, 7)
    assert len(pieces) >= 4
    assert set(sniffer.fates(hook, *pieces)) == {"fragments"}
    assert sniffer.count() == SniffCounters(packets=len(pieces), octets=sum(map(len, pieces)), fragments=len(pieces))
    assert not sniffer.flows(family)
    assert not sniffer.records()


@ALL_HOOKS
def test_an_ipv6_packet_in_one_fragment_is_whole(sniffer: SniffBench, hook: str) -> None:
    """RFC 6946."""
    sniffer.tap(hook=hook)
    (piece,) = cut(there(6), 1024, 7)
    assert sniffer.fate(hook, piece) == "sent"
    (record,) = sniffer.records()
    assert (record.l4_off, record.data[record.pl_off :]) == (48, b"data")


@ALL_HOOKS
def test_a_fragment_that_lacks_its_header_is_a_fragment(sniffer: SniffBench, hook: str) -> None:
    sniffer.tap(hook=hook)
    frame = there(4)
    header = frame[14:34]
    header = with_header_checksum(header[:2] + (24).to_bytes(2) + header[4:6] + MORE.to_bytes(2) + header[8:])
    assert sniffer.fate(hook, frame[:14] + header + frame[34:38]) == "fragments"


@ALL_HOOKS
def test_what_is_not_ip_is_not_looked_at(sniffer: SniffBench, hook: str) -> None:
    sniffer.tap(hook=hook)
    arp = mac("02:00:00:00:01:01") + mac("02:00:00:00:01:02") + b"\x08\x06" + bytes(46)
    for frame in (arp, arp[:12] + b"\x81\0\0\7" + arp[12:], arp[:12] + b"\x88\xcc" + arp[14:]):
        sniffer.send(hook, frame)
    assert sniffer.count() == SniffCounters()


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("to", ["33:33:00:00:00:01", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"])
def test_frames_for_many_are_looked_at_but_not_balanced(sniffer: SniffBench, hook: str, family: int, to: str) -> None:
    sniffer.tap(hook=hook)
    frame = mac(to) + there(family)[6:]
    (outcome,) = sniffer.send(hook, frame)
    assert outcome.reason == "other_host"
    assert sniffer.count().sent == 1


@ALL_HOOKS
@FAMILIES
def test_empty_segments_stay_below(sniffer: SniffBench, hook: str, family: int) -> None:
    """Each side's first one tells that it is there; openings and resets always do."""
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    flags = ["S", "A", "A", "PA", "FA", "A", "R", "RA"]
    frames = [there(family, flags=value, payload=b"") for value in flags]
    assert sniffer.fates(hook, *frames) == ["sent", "empty", "empty", "empty", "empty", "empty", "sent", "sent"]
    answers = [back(family, flags="A", payload=b""), back(family, flags="A", payload=b""), back(family, flags="A")]
    assert sniffer.fates(hook, *answers) == ["sent", "empty", "sent"]
    flow = sniffer.flow(family)
    assert (flow.packets, flow.sent, flow.payload_packets) == ((8, 3), 5, 1)
    assert [record.index for record in sniffer.records()] == [1, 7, 8, 9, 11]


@ALL_HOOKS
@FAMILIES
def test_empty_segments_go_up_where_a_rule_looks_at_them(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=MANY, send_empty=True), hook=hook)
    empty = there(family, flags="A", payload=b"")
    assert sniffer.fates(hook, empty, empty, empty) == ["sent"] * 3
    assert sniffer.flow(family).payload_packets == 0


@ALL_HOOKS
@FAMILIES
def test_datagrams_without_data_go_up(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    empty = there(family, Protocol.UDP, payload=b"")
    assert sniffer.fates(hook, empty, empty) == ["sent", "sent"]


@FAMILIES
def test_tc_ingress_does_not_look_again_at_what_xdp_saw(sniffer: SniffBench, family: int) -> None:
    sniffer.tap(hook=Hook.XDP)
    sniffer.bench.send(Hook.XDP, there(family))
    sniffer.bench.send(Hook.TC, there(family))
    sniffer.bench.send(EGRESS, back(family))
    assert sniffer.flow(family).packets == (1, 1)
    assert sniffer.count().packets == 2


@FAMILIES
def test_tc_ingress_looks_where_xdp_is_not_attached(sniffer: SniffBench, family: int) -> None:
    sniffer.tap(hook=Hook.TC)
    sniffer.bench.send(Hook.TC, there(family))
    assert sniffer.flow(family).packets == (1, 0)


@ALL_HOOKS
@FAMILIES
def test_interfaces_have_flows_of_their_own(sniffer: SniffBench, hook: str, family: int) -> None:
    """The same packet on two of them is seen twice, as two flows."""
    sniffer.tap(PLAN, "c0", "b0", hook=hook)
    frame = there(family)
    sniffer.send(hook, frame)
    sniffer.bench.run(hook, frame, "b0")
    assert {flow.ifindex for flow in sniffer.flows(family)} == set(sniffer.bench.ifindex.values())
    assert {record.ifindex for record in sniffer.records()} == set(sniffer.bench.ifindex.values())


@ALL_HOOKS
@FAMILIES
def test_sniffers_have_budgets_and_counters_of_their_own(sniffer: SniffBench, hook: str, family: int) -> None:
    other = SnifferPlan(63, "tests/other", budget=Budget(1, 100, 1), adaptive=False)
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    taps = [
        replace(tap, ifindex=sniffer.bench.ifindex[name], sniffer=number)
        for tap in sniffer.sniffing.taps
        for name, number in (("c0", NUMBER), ("b0", 63))
    ]
    sniffer.sniffing.apply([replace(PLAN, budget=MANY), other], taps)
    for _ in range(3):
        for device in ("c0", "b0"):
            sniffer.bench.run(hook, there(family), device)
    assert (sniffer.count().sent, sniffer.count().stopped) == (3, 0)
    assert (sniffer.count(63).sent, sniffer.count(63).stopped) == (1, 2)
    assert sorted(record.policy for record in sniffer.records()) == [NUMBER] * 3 + [63]


TABLES = ("sniffs4", "sniffs6", "sniff_verdicts", "sniff_slots", "sniff_counters", "sniff_lost", "sniff_rule_flows")


def contents(sniffer: SniffBench) -> dict[str, bytes]:
    return {
        name: b"".join(keys + values for keys, values, _ in sniffer.tables[name].map.items_batch()) for name in TABLES
    }


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("tapped", [[], ["b0"]])
def test_without_a_tap_nothing_is_written(sniffer: SniffBench, hook: str, family: int, tapped: list[str]) -> None:
    sniffer.read_by()
    if tapped:
        sniffer.tap(PLAN, *tapped, hook=hook)
    before = contents(sniffer)
    broadcast = b"\xff" * 6 + there(family)[6:]
    for frame in (there(family), back(family), there(family, Protocol.UDP), broadcast, *cut(there(family), 16, 1)):
        sniffer.bench.send(hook, frame)
    assert contents(sniffer) == before
    assert sniffer.used() == 0


@ALL_HOOKS
@FAMILIES
def test_another_interface_with_the_same_remainder_is_not_looked_at(
    sniffer: SniffBench, hook: str, family: int
) -> None:
    sniffer.tap(hook=hook)
    table, index = sniffer.tables["taps"], sniffer.bench.ifindex["c0"]
    row = table.map.lookup(index.to_bytes(4, "little")) or b""
    table.put(index, (index + table.capacity).to_bytes(4, "little") + row[4:])
    sniffer.bench.send(hook, there(family))
    assert not sniffer.flows(family)


@ALL_HOOKS
@FAMILIES
def test_a_tap_that_goes_leaves_its_flows(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    sniffer.send(hook, there(family))
    sniffer.untap()
    sniffer.bench.send(hook, there(family))
    assert sniffer.flow(family).packets == (1, 0)


@ALL_HOOKS
@FAMILIES
def test_addresses_of_both_ends_count(sniffer: SniffBench, hook: str, family: int) -> None:
    """Flows that differ in one byte of one address, or one bit of a port, are not one."""
    sniffer.tap(hook=hook)
    frame, width = there(family, Protocol.UDP), 4 if family == 4 else 16
    place = locate(frame)
    start = place.network + (12 if family == 4 else 8)
    places = (*range(start, start + 2 * width), *range(place.transport, place.transport + 4))
    changed = [frame, *(frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :] for at in places)]
    assert set(sniffer.fates(hook, *changed)) == {"sent"}
    assert len(sniffer.flows(family)) == len(changed)
