"""The life of a sniffed flow of which nobody says anything: it opens, uses up its budget, ends, begins anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import CLIENT, VIP, VIP_PORT
from frames import from_client, ip_layer, locate, transport
from marks import ALL_HOOKS, FAMILIES, PROTOCOLS
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.kernel.clock import jiffies
from sluicegate_agent.sniffing.model import NO_RULE, SniffState, SniffWhy
from sniff_bench import CLIENT_PORT, NUMBER, PLAN, SniffBench, back, there

pytestmark = pytest.mark.kernel

MANY = 1000
FREE = Budget(MANY, 1 << 20, MANY)


def with_budget(packets: int = MANY, payload_packets: int = MANY, payload_bytes: int = 1 << 20) -> Budget:
    return Budget(payload_packets=payload_packets, payload_bytes=payload_bytes, max_packets=packets)


def octets(frame: bytes) -> int:
    return locate(frame).end


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_both_directions_are_one_flow(sniffer: SniffBench, hook: str, family: int, protocol: Protocol) -> None:
    sniffer.tap(replace(PLAN, budget=FREE), hook=hook)
    ask, answer = there(family, protocol, "S"), back(family, protocol, "SA", b"longer answer")
    sniffer.send(hook, ask, answer, answer)
    flow = sniffer.flow(family)
    assert (flow.opener, flow.other) == ((CLIENT[family], CLIENT_PORT), (VIP[family], VIP_PORT))
    assert (flow.ifindex, flow.protocol, flow.sniffer) == (sniffer.bench.ifindex["c0"], protocol, NUMBER)
    assert (flow.state, flow.why, flow.rule) == (SniffState.SNIFF, SniffWhy.OPEN, NO_RULE)
    assert flow.packets == (1, 2)
    assert flow.octets == (octets(ask), 2 * octets(answer))
    assert flow.tcp_flags == ((0x02, 0x12) if protocol is Protocol.TCP else (0, 0))
    assert flow.sent == 3
    count = sniffer.count()
    assert (count.packets, count.octets) == (3, octets(ask) + 2 * octets(answer))
    assert (count.opened, count.sent) == (1, 3)


@ALL_HOOKS
@FAMILIES
def test_who_speaks_first_opened_it_whichever_number_is_lower(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    sniffer.send(hook, back(family), there(family))
    flow = sniffer.flow(family)
    assert flow.opener == (VIP[family], VIP_PORT)
    assert flow.packets == (1, 1)
    assert [record.flags & 1 for record in sniffer.records()] == [0, 1]


@ALL_HOOKS
@FAMILIES
def test_the_answer_to_a_syn_that_was_not_seen_is_an_answer(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    sniffer.send(hook, back(family, flags="SA", payload=b""), there(family))
    flow = sniffer.flow(family)
    assert flow.opener == (CLIENT[family], CLIENT_PORT)
    assert flow.packets == (1, 1)
    assert flow.tcp_flags == (0x18, 0x12)
    assert [record.flags & 1 for record in sniffer.records()] == [1, 0]


@ALL_HOOKS
@FAMILIES
def test_ends_of_one_address_are_told_apart_by_port(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    same = {"source": VIP, "destination": VIP}
    frames = [between(family, **same, ports=ports) for ports in ((1, 256), (256, 1))]
    sniffer.send(hook, *frames)
    assert [flow.packets for flow in sniffer.flows(family)] == [(1, 1)]
    sniffer.send(hook, between(family, **same, ports=(7, 7)), between(family, **same, ports=(7, 7)))
    assert sorted(flow.packets for flow in sniffer.flows(family)) == [(1, 1), (2, 0)]


def between(family: int, source: dict[int, str], destination: dict[int, str], ports: tuple[int, int]) -> bytes:
    ip = ip_layer(family, source[family], destination[family])
    return bytes(from_client(ip, transport(Protocol.UDP, "", *ports) / b"data"))


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("limit", ["packets", "payload_packets", "payload_bytes"])
def test_a_flow_stops_when_its_budget_is_used_up(
    sniffer: SniffBench, hook: str, family: int, protocol: Protocol, limit: str
) -> None:
    """Each of these ends it with the third packet, and not before."""
    budget = with_budget(**{limit: {"packets": 3, "payload_packets": 2, "payload_bytes": 101}[limit]})
    sniffer.tap(replace(PLAN, budget=budget), hook=hook)
    payload = bytes(range(100))
    frames = [
        there(family, protocol, "S", b"" if limit != "payload_bytes" else payload),
        back(family, protocol, "SA", payload if limit != "payload_bytes" else b""),
        there(family, protocol, payload=payload),
        back(family, protocol, payload=payload),
        there(family, protocol, payload=payload),
    ]
    assert sniffer.fates(hook, *frames) == ["sent"] * 3 + ["stopped"] * 2
    flow = sniffer.flow(family)
    assert (flow.state, flow.why) == (SniffState.STOP, SniffWhy.BUDGET)
    assert (flow.sent, flow.payload_packets, flow.payload_bytes) == (3, 2, 200)
    assert flow.packets == (3, 2)
    assert sniffer.count().stopped_by_budget == 1
    assert len(sniffer.records()) == 3


@ALL_HOOKS
@FAMILIES
def test_flows_have_budgets_of_their_own(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=with_budget(packets=1)), hook=hook)
    frames = [there(family, port=port) for port in (1, 2, 3)]
    assert sniffer.fates(hook, *frames, *frames) == ["sent"] * 3 + ["stopped"] * 3


@ALL_HOOKS
@FAMILIES
def test_the_largest_budget_ends_too(sniffer: SniffBench, hook: str, family: int) -> None:
    most = 0xFFFF
    sniffer.tap(replace(PLAN, budget=with_budget(most, 4096, 1 << 24)), hook=hook)
    sniffer.send(hook, there(family))
    sniffer.change(family, sent=most - 1)
    assert sniffer.fates(hook, there(family), there(family)) == ["sent", "stopped"]


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_a_flow_that_was_idle_for_too_long_is_another(
    sniffer: SniffBench, hook: str, family: int, protocol: Protocol
) -> None:
    plan = replace(PLAN, budget=with_budget(packets=1), tcp_idle_seconds=600, other_idle_seconds=30)
    sniffer.tap(plan, hook=hook)
    limit = 600 if protocol is Protocol.TCP else 30
    sniffer.send(hook, there(family, protocol))
    first = sniffer.flow(family)
    sniffer.pass_time(family, limit - 15)
    assert sniffer.fate(hook, there(family, protocol)) == "stopped"
    assert sniffer.flow(family).id == first.id
    sniffer.pass_time(family, limit + 1)
    assert sniffer.fate(hook, back(family, protocol)) == "sent"
    second = sniffer.flow(family)
    assert second.id != first.id
    assert second.opener == (VIP[family], VIP_PORT)
    assert second.packets == (1, 0)
    assert second.sent == 1
    assert sniffer.count().opened == 2


@ALL_HOOKS
@FAMILIES
def test_a_packet_that_another_cpu_saw_later_does_not_make_a_flow_idle(
    sniffer: SniffBench, hook: str, family: int
) -> None:
    """A CPU that has read the clock may find that a flow was last seen after that."""
    sniffer.tap(replace(PLAN, budget=with_budget(packets=1)), hook=hook)
    sniffer.send(hook, there(family))
    flow = sniffer.flow(family)
    sniffer.change(family, last_seen=(jiffies() + 1000) & 0xFFFFFFFF)
    assert sniffer.fate(hook, there(family)) == "stopped"
    assert sniffer.flow(family).id == flow.id


CLOSINGS = {
    "FIN of the client": [("there", "FA")],
    "FIN of the server": [("back", "FA")],
    "both": [("there", "FA"), ("back", "FA")],
    "reset": [("back", "RA")],
}


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("closing", CLOSINGS)
def test_a_syn_on_a_closing_flow_opens_another(sniffer: SniffBench, hook: str, family: int, closing: str) -> None:
    sniffer.tap(replace(PLAN, budget=with_budget(packets=1)), hook=hook)
    sniffer.send(hook, there(family, flags="S", payload=b""))
    first = sniffer.flow(family)
    assert sniffer.fate(hook, there(family, flags="S", payload=b"")) == "stopped"
    frames = [
        {"there": there, "back": back}[side](family, flags=flags, payload=b"") for side, flags in CLOSINGS[closing]
    ]
    late = there(family, flags="A", payload=b"")
    assert set(sniffer.fates(hook, *frames, late)) == {"stopped"}
    assert sniffer.flow(family).id == first.id
    assert sniffer.fate(hook, there(family, flags="S", payload=b"")) == "sent"
    second = sniffer.flow(family)
    assert second.id != first.id
    assert second.packets == (1, 0)
    assert sniffer.count().opened == 2


@ALL_HOOKS
@FAMILIES
def test_a_number_that_changed_hands_is_not_used_by_old_flows(sniffer: SniffBench, hook: str, family: int) -> None:
    """A flow keeps the sniffer that it was opened by, and the records say so."""
    sniffer.tap(replace(PLAN, number=6), hook=hook)
    sniffer.send(hook, there(family))
    sniffer.tap(hook=hook)
    sniffer.send(hook, there(family), there(family, port=1))
    assert [record.policy for record in sniffer.records()] == [6, 6, NUMBER]


@ALL_HOOKS
@FAMILIES
def test_a_full_table_makes_room(sniffer: SniffBench, hook: str, family: int) -> None:
    """The least recently used flows go: no packet is refused."""
    sniffer.tap(hook=hook)
    sniffer.read_by(1, 1 << 20)
    flows = 1024 + 200
    for number in range(flows):
        sniffer.bench.run(hook, there(family, Protocol.UDP, port=1 + number))
    count = sniffer.count()
    assert (count.opened, count.no_room, count.sent) == (flows, 0, flows)
    assert len({record.flow_id for record in sniffer.records()}) == flows
    assert len(sniffer.flows(family)) <= 1024
