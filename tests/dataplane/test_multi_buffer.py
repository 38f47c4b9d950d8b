"""Jumbo frames, which XDP gets in several buffers: headers in the first, the rest wherever the card put it."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import product

import pytest

from bench import (
    B0_MAC,
    BACKEND_MAC,
    BACKEND_PORT,
    BACKENDS,
    C0_MAC,
    CLIENT,
    CLIENT_MAC,
    SOURCE,
    VIP,
    VIP_PORT,
    XDP_PASS,
    Bench,
    Hook,
)
from frames import reply, request, rewritten
from marks import FAMILIES, PROTOCOLS
from pieces import cut, icmp, identification, link
from services import TRANSLATING_MODES, setup_service
from sluicegate_agent.datapath.model import ForwardingMode, InterfaceIndex, Protocol, Put, Table

pytestmark = pytest.mark.kernel

JUMBO_MTU = 9000
PAYLOAD = bytes(index * 7 % 251 for index in range(8900))


def setup_jumbo(
    bench: Bench, family: int, mode: ForwardingMode = ForwardingMode.FULL_NAT, protocol: Protocol = Protocol.TCP
) -> None:
    """All links take jumbo frames."""
    setup_service(bench, family=family, protocol=protocol, mode=mode, nexthop=lambda row: replace(row, mtu=JUMBO_MTU))
    for index, row in bench.datapath.observe().interfaces.items():
        bench.apply(Put(Table.INTERFACES, InterfaceIndex(index), replace(row, mtu=JUMBO_MTU)))


def run(bench: Bench, frame: bytes, first_buffer: int) -> tuple[int, bytes]:
    """Run XDP on a frame of which only so much lies in the first buffer."""
    context = struct.pack("<6I", 0, first_buffer, 0, bench.ifindex["c0"], 0, 0)
    result = bench.programs[Hook.XDP].test_run(frame, ctx=context)
    return result.retval, result.data


@pytest.mark.parametrize(("family", "protocol", "mode"), list(product((4, 6), Protocol, TRANSLATING_MODES)))
def test_a_jumbo_frame_is_translated_both_ways(
    bench: Bench, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    setup_jumbo(bench, family, mode, protocol)
    seen = SOURCE[family] if mode is ForwardingMode.FULL_NAT else CLIENT[family]
    frame = request(family, protocol, payload=PAYLOAD)

    outcome = bench.send(Hook.XDP, frame)

    port = outcome.source_port
    assert outcome.frame == rewritten(
        frame,
        source=seen,
        destination=BACKENDS[family][0],
        sport=port,
        dport=BACKEND_PORT,
        eth=(B0_MAC, BACKEND_MAC),
    )
    frame = reply(family, protocol, to_port=port, to=seen, payload=PAYLOAD)
    assert bench.send(Hook.XDP, frame, "b0").frame == rewritten(
        frame, source=VIP[family], destination=CLIENT[family], sport=VIP_PORT, dport=40000, eth=(C0_MAC, CLIENT_MAC)
    )


@FAMILIES
def test_tags_of_a_jumbo_frame_go(bench: Bench, family: int) -> None:
    setup_jumbo(bench, family, ForwardingMode.DNAT)
    plain = request(family, payload=PAYLOAD)
    tagged = plain[:12] + b"\x81\x00\x00\x05" + plain[12:]

    assert bench.send(Hook.XDP, tagged).frame == bench.send(Hook.XDP, plain).frame


@FAMILIES
@pytest.mark.parametrize("over", [0, 1])
def test_a_jumbo_frame_on_the_way_to_a_smaller_mtu(bench: Bench, family: int, over: int) -> None:
    """The report is cut from a frame in several buffers; at MTU + 0 it fits."""
    setup_jumbo(bench, family)
    mtu = len(request(family, payload=PAYLOAD)) - 14
    (nexthop_id,) = bench.datapath.observe().nexthops
    row = bench.datapath.observe().nexthops[nexthop_id]
    bench.apply(Put(Table.NEXTHOPS, nexthop_id, replace(row, mtu=mtu)))
    frame = request(family, payload=PAYLOAD + b"x" * over)

    outcome = bench.send(Hook.XDP, frame)

    if not over:
        assert outcome.reason == "forwarded_request"
        return
    head = (3, 4) if family == 4 else (2, 0)
    quote = frame[14 : 14 + (20 if family == 4 else 40) + 20]
    told = icmp(family, VIP[family], CLIENT[family], head, mtu.to_bytes(4), quote)
    assert outcome.reason == "reported_too_big"
    assert outcome.frame == link(C0_MAC, CLIENT_MAC, family) + told


@FAMILIES
def test_a_long_ping_is_answered(bench: Bench, family: int) -> None:
    setup_jumbo(bench, family)
    head, back = ((8, 0), (0, 0)) if family == 4 else ((128, 0), (129, 0))
    ping = icmp(family, CLIENT[family], VIP[family], head, bytes(4), PAYLOAD)

    outcome = bench.send(Hook.XDP, link(CLIENT_MAC, C0_MAC, family) + ping)

    pong = icmp(family, VIP[family], CLIENT[family], back, bytes(4), PAYLOAD)
    assert outcome.frame == link(C0_MAC, CLIENT_MAC, family) + pong


@FAMILIES
def test_fragments_may_be_jumbo_frames_too(bench: Bench, family: int) -> None:
    setup_jumbo(bench, family, protocol=Protocol.UDP)
    parts = cut(request(family, Protocol.UDP, payload=PAYLOAD * 2), 8000, 5)

    outcomes = [bench.send(Hook.XDP, part) for part in parts]

    assert {outcome.reason for outcome in outcomes} == {"forwarded_request"}
    assert len({identification(outcome.frame) for outcome in outcomes}) == 1


@FAMILIES
@PROTOCOLS
def test_the_first_buffer_needs_to_hold_no_more_than_the_headers(bench: Bench, family: int, protocol: Protocol) -> None:
    setup_jumbo(bench, family, ForwardingMode.DNAT, protocol)
    frame = request(family, protocol, payload=PAYLOAD)
    headers = len(frame) - len(PAYLOAD)
    expected = bench.send(Hook.XDP, frame).frame

    assert run(bench, frame, headers)[1] == expected
    assert run(bench, frame, headers - 1) == (XDP_PASS, frame)
    assert run(bench, frame, 14) == (XDP_PASS, frame)


@FAMILIES
def test_a_frame_shorter_than_its_ip_length_passes(bench: Bench, family: int) -> None:
    setup_jumbo(bench, family)
    frame = request(family, payload=PAYLOAD)

    assert bench.send(Hook.XDP, frame[:-1]).reason == "malformed"
