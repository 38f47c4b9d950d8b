"""The sniffer beside the balancer: what leaves is seen as it leaves, and no packet goes another way for being seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.packet import Raw

from bench import (
    ACTIONS,
    BACKENDS,
    C0_MAC,
    CLIENT,
    CLIENT_MAC,
    EGRESS,
    SOURCE,
    VIP,
    VIP_PORT,
    Hook,
    Outcome,
)
from frames import (
    finish_checksums,
    from_client,
    ip_layer,
    locate,
    mac,
    partial_checksum,
    reply,
    request,
    transport,
    without_rewritten_fields,
)
from marks import ALL_HOOKS, FAMILIES, HOOKS, PROTOCOLS, TRANSLATING
from pieces import cut, icmp, link
from services import setup_service
from sluicegate_agent.datapath.model import ForwardingMode, InterfaceFlag, InterfaceIndex, Protocol, Put, Table
from sluicegate_agent.dpi.records import EGRESS as OUT
from sluicegate_agent.dpi.records import REVERSE
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.sniffing.model import SniffState
from sniff_bench import CLIENT_PORT, PLAN, Action, SniffBench

pytestmark = pytest.mark.kernel

FULL_NAT, DNAT = ForwardingMode.FULL_NAT, ForwardingMode.DNAT
MANY = Budget(1000, 1 << 20, 1000)


def seen(family: int, mode: ForwardingMode, outcome: Outcome) -> tuple[str, int]:
    """Address and port that the backend answers to."""
    return (SOURCE[family], outcome.source_port) if mode is FULL_NAT else (CLIENT[family], CLIENT_PORT)


def ask(
    sniffer: SniffBench, hook: str, family: int, mode: ForwardingMode, protocol: Protocol = Protocol.TCP
) -> Callable[..., bytes]:
    """Open a flow through the balancer; returns what makes frames of its backend's replies."""
    outcome = sniffer.bench.send(hook, request(family, protocol, payload=b"question"))
    assert outcome.reason == "forwarded_request"
    to, port = seen(family, mode, outcome)
    return lambda flags="PA", payload=b"answer": reply(family, protocol, flags, to_port=port, payload=payload, to=to)


@HOOKS
@FAMILIES
@PROTOCOLS
@TRANSLATING
def test_request_and_reply_are_one_flow_with_the_vip(
    sniffer: SniffBench, hook: Hook, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    setup_service(sniffer.bench, family=family, protocol=protocol, mode=mode)
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    answer = ask(sniffer, hook, family, mode, protocol)
    out = sniffer.bench.send(hook, answer("SA", b"answer"), "b0")
    assert out.reason == "forwarded_reply"
    flow = sniffer.flow(family)
    assert (flow.opener, flow.other) == ((CLIENT[family], CLIENT_PORT), (VIP[family], VIP_PORT))
    assert (flow.ifindex, flow.packets, flow.sent) == (sniffer.bench.ifindex["c0"], (1, 1), 2)
    first, second = sniffer.records()
    assert (first.flags & (REVERSE | OUT), second.flags & (REVERSE | OUT)) == (0, REVERSE | OUT)
    assert second.data == out.frame[14:], "as it is on the wire"
    assert (second.wire_len, second.ifindex) == (len(out.frame), sniffer.bench.ifindex["c0"])
    assert second.data[second.pl_off :] == b"answer"


@HOOKS
@FAMILIES
@TRANSLATING
def test_both_directions_share_a_budget(sniffer: SniffBench, hook: Hook, family: int, mode: ForwardingMode) -> None:
    setup_service(sniffer.bench, family=family, mode=mode)
    sniffer.tap(replace(PLAN, budget=Budget(1000, 1 << 20, 3)), hook=hook)
    answer = ask(sniffer, hook, family, mode)
    for _ in range(3):
        assert sniffer.bench.send(hook, answer(), "b0").reason == "forwarded_reply"
    assert sniffer.bench.send(hook, request(family, flags="PA", payload=b"more")).reason == "forwarded_request"
    count, flow = sniffer.count(), sniffer.flow(family)
    assert (count.packets, count.sent, count.stopped) == (5, 3, 2)
    assert (flow.packets, flow.state) == ((2, 3), SniffState.STOP)


@HOOKS
@FAMILIES
@TRANSLATING
def test_a_flow_is_dropped_where_it_leaves(sniffer: SniffBench, hook: Hook, family: int, mode: ForwardingMode) -> None:
    setup_service(sniffer.bench, family=family, mode=mode)
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    answer = ask(sniffer, hook, family, mode)
    sniffer.say(sniffer.flow(family).id, Action.DROP, 60)
    before = sniffer.bench.verdicts(hook)
    for _ in range(2):
        run = sniffer.bench.run(hook, answer(), "b0")
        assert run.retval in ACTIONS[hook]["drop"]
    after = sniffer.bench.verdicts(hook)
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {"sniff_dropped": 2}
    assert sniffer.bench.send(hook, request(family, flags="PA")).reason == "sniff_dropped"
    assert sniffer.count().dropped == 3
    assert sniffer.flow(family).packets == (2, 2)


@HOOKS
@FAMILIES
def test_the_backends_side_is_another_flow(sniffer: SniffBench, hook: Hook, family: int) -> None:
    """With both interfaces sniffed, each packet is seen on its way in and on its way out."""
    setup_service(sniffer.bench, family=family)
    sniffer.tap(replace(PLAN, budget=MANY), "c0", "b0", hook=hook)
    answer = ask(sniffer, hook, family, FULL_NAT)
    sniffer.bench.send(hook, answer(), "b0")
    flows = {flow.ifindex: flow for flow in sniffer.flows(family)}
    client_side, backend_side = (flows[sniffer.bench.ifindex[name]] for name in ("c0", "b0"))
    assert (client_side.opener[0], client_side.other[0]) == (CLIENT[family], VIP[family])
    assert (backend_side.opener[0], backend_side.other[0]) == (SOURCE[family], BACKENDS[family][0])
    assert client_side.packets == backend_side.packets == (1, 1)
    count = sniffer.count()
    assert (count.packets, count.sent, len(sniffer.records())) == (4, 4, 4)


@FAMILIES
@PROTOCOLS
def test_what_leaves_through_the_stack_is_seen_at_egress(sniffer: SniffBench, family: int, protocol: Protocol) -> None:
    """A client behind the stack: its request is rewritten at egress and leaves by another interface."""
    setup_service(sniffer.bench, family=family, protocol=protocol)
    sniffer.tap(replace(PLAN, budget=MANY), "c0", "b0")
    outcome = sniffer.bench.send(EGRESS, request(family, protocol, payload=b"question"))
    assert outcome.reason == "forwarded_request"
    (flow,) = sniffer.flows(family)
    assert (flow.opener[0], flow.other[0], flow.ifindex) == (
        SOURCE[family],
        BACKENDS[family][0],
        sniffer.bench.ifindex["b0"],
    )


@HOOKS
@FAMILIES
def test_a_ping_that_we_answer_is_one_flow(sniffer: SniffBench, hook: Hook, family: int) -> None:
    setup_service(sniffer.bench, family=family)
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    outcome = sniffer.bench.send(hook, ping(family))
    assert outcome.reason == "answered_echo"
    first, second = sniffer.records()
    assert (first.flags & REVERSE, second.flags & (REVERSE | OUT)) == (0, REVERSE | OUT)
    assert (first.data, second.data) == (ping(family)[14:], outcome.frame[14:])
    assert sniffer.flow(family, 0).packets == (1, 1)


def ping(family: int) -> bytes:
    head = (8, 0) if family == 4 else (128, 0)
    return link(CLIENT_MAC, C0_MAC, family) + icmp(family, CLIENT[family], VIP[family], head, b"\0\1\0\1", b"ping")


def unanswerable(family: int) -> bytes:
    """An ICMP error about nothing."""
    head = (3, 4) if family == 4 else (2, 0)
    body = request(family)[14:]
    return link(CLIENT_MAC, C0_MAC, family) + icmp(family, CLIENT[family], VIP[family], head, bytes(4), body)


PACKETS: dict[str, Callable[[int], list[bytes]]] = {
    "forwarded": lambda family: [
        request(family),
        request(family, flags="PA", payload=bytes(range(256)) * 4),
        request(family, flags="FA"),
        request(family, port=40001),
        tagged(request(family, port=40002)),
    ],
    "passed": lambda family: [
        request(family, vip=BACKENDS[family][0]),
        b"\xff" * 6 + request(family)[6:],
        b"\x02" * 6 + request(family)[6:],
        request(family, Protocol.UDP),
        request(family)[:40] if family == 4 else request(family)[:60],
        mac(C0_MAC) + mac(CLIENT_MAC) + b"\x08\x06" + bytes(46),
        tagged(request(family, vip=CLIENT[family])),
        unanswerable(family),
    ],
    "punted": lambda family: [partial_checksum(request(family, port=port, payload=b"data")) for port in (40010, 40011)],
    "dropped": lambda family: [request(family, flags="PA", port=port) for port in (45000, 45001)],
    "answered": lambda family: [ping(family)],
    "in fragments": lambda family: cut(request(family, payload=bytes(300), port=40020), 64, 9),
}


def tagged(frame: bytes) -> bytes:
    return frame[:12] + b"\x81\x00\x00\x07" + frame[12:]


@ALL_HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("kind", PACKETS)
def test_sniffing_changes_no_packet_and_no_decision(
    sniffer: SniffBench, hook: str, family: int, mode: ForwardingMode, kind: str
) -> None:
    """Each packet goes the same way with the same bytes, with a sniffer on both interfaces and without.

    What tc egress drops, or sends back into the node, never leaves: there is nothing to see.
    """
    frames = PACKETS[kind](family)
    without = play(sniffer, hook, family, mode, frames)
    for table in ("flows", "nat"):
        for key in list(sniffer.tables.by_family(table, family).map.keys()):
            sniffer.tables.by_family(table, family).map.delete(key)
    sniffer.tap(replace(PLAN, budget=Budget(1000, 1 << 20, 2)), "c0", "b0", hook=hook)
    watched = play(sniffer, hook, family, mode, frames)
    assert watched == without
    leaves = hook != EGRESS or kind not in {"dropped", "answered"}
    assert (sniffer.count().packets > 0) == leaves
    assert (sniffer.count().sent > 0) == (leaves and kind != "in fragments")


def play(
    sniffer: SniffBench, hook: str, family: int, mode: ForwardingMode, frames: list[bytes]
) -> list[tuple[int, bytes, str]]:
    setup_service(sniffer.bench, family=family, mode=mode)
    outcomes = []
    for frame in frames:
        outcomes.append(sniffer.bench.send(hook, frame))
        if outcomes[-1].reason == "forwarded_request" and not locate(frame).identification:
            to, port = seen(family, mode, outcomes[-1])
            if mode is FULL_NAT or frame == frames[0]:
                outcomes.append(sniffer.bench.send(hook, reply(family, to_port=port, to=to, payload=b"answer"), "b0"))
    return [(outcome.action, _without_new_numbers(outcome.frame), outcome.reason) for outcome in outcomes]


def _without_new_numbers(frame: bytes) -> bytes:
    """Fragments get other identifications each time: without them, and what goes by them."""
    try:
        fragment = locate(frame).identification
    except (ValueError, IndexError):
        return frame
    return without_rewritten_fields(frame) if fragment else frame


@FAMILIES
def test_what_xdp_leaves_to_tc_is_seen_once(sniffer: SniffBench, family: int) -> None:
    """A checksum that the sender left to its card: XDP hands the packet on, and tc sends it."""
    setup_service(sniffer.bench, family=family)
    sniffer.tap(replace(PLAN, budget=MANY), "c0", "b0")
    frame = partial_checksum(request(family, payload=b"data"))
    assert sniffer.bench.send(Hook.XDP, frame).reason == "partial_checksum"
    assert sniffer.count().packets == 1
    assert sniffer.bench.send(Hook.TC, finish_checksums(frame, locate(frame))).reason == "forwarded_request"
    flows = {flow.ifindex: flow.packets for flow in sniffer.flows(family)}
    assert flows == dict.fromkeys(sniffer.bench.ifindex.values(), (1, 0))


@HOOKS
@FAMILIES
def test_a_packet_that_was_too_big_and_what_its_sender_is_told(sniffer: SniffBench, hook: Hook, family: int) -> None:
    setup_service(sniffer.bench, family=family, nexthop=lambda row: replace(row, mtu=1300))
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    assert sniffer.bench.send(hook, request(family)).reason == "forwarded_request"
    frame = request(family, flags="PA", payload=bytes(1350))
    if family == 4:
        frame = finish_checksums(frame[:20] + b"\x40\0" + frame[22:], locate(frame))
    outcome = sniffer.bench.send(hook, frame)
    assert outcome.reason == "reported_too_big"
    records = sniffer.records()
    assert [record.flags & OUT for record in records] == [0, 0, OUT]
    assert (records[1].data, records[2].data) == (frame[14:], outcome.frame[14:])
    assert records[2].l4_proto == (1 if family == 4 else 58)


@FAMILIES
def test_an_interface_that_takes_no_redirect(sniffer: SniffBench, family: int) -> None:
    """Punted by XDP: seen there on its way in, and on no way out."""
    setup_service(sniffer.bench, family=family)
    for index, row in sniffer.bench.datapath.observe().interfaces.items():
        sniffer.bench.apply(
            Put(Table.INTERFACES, InterfaceIndex(index), replace(row, flags=row.flags & ~InterfaceFlag.TAKES_REDIRECT))
        )
    sniffer.tap(replace(PLAN, budget=MANY), "c0", "b0")
    assert sniffer.bench.send(Hook.XDP, ping(family)).reason == "no_redirect"
    assert sniffer.count().packets == 1


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("fate", ["passed", "dropped"])
def test_bytes_are_counted_of_the_packet_outside(sniffer: SniffBench, hook: str, family: int, fate: str) -> None:
    """What is in a tunnel is looked at; what passed, or was dropped, is the whole of it."""
    inside = ip_layer(family, "10.9.0.1" if family == 4 else "fd09::1", "10.9.0.2" if family == 4 else "fd09::2")
    layers = ip_layer(family, CLIENT[family], BACKENDS[family][0]), inside, transport(Protocol.UDP, "", 1, 2)
    frame = bytes(from_client(*layers, Raw(b"data")))
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    before = octets(sniffer)
    sniffer.send(hook, frame)
    assert octets(sniffer) - before == len(frame) - 14
    if fate == "dropped":
        sniffer.say(sniffer.flow(family).id, Action.DROP, 60)
        before = octets(sniffer)
        assert sniffer.fate(hook, frame) == "dropped"
        assert octets(sniffer) - before == len(frame) - 14
    assert sniffer.flow(family).opener[0] == str(inside.src)


def octets(sniffer: SniffBench) -> int:
    """Of all packets, whatever became of them."""
    table = sniffer.tables["verdicts"]
    return sum(table.per_cpu_sum(index)["bytes"] for index in range(table.capacity))
