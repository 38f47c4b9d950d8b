"""Packets above the next hop's MTU: the sender is told, in the name of the address that it wrote to."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, PadN

from bench import B0_MAC, BACKEND_MAC, C0_MAC, CLIENT, CLIENT_MAC, SOURCE, VIP, VIP_PORT, Bench, Hook
from frames import from_client, ip_layer, locate, partial_checksum, reply, request, transport
from marks import FAMILIES, HOOKS, PROTOCOLS, TRANSLATING
from pieces import cut, icmp, link
from services import setup_service
from sluicegate_agent.datapath.model import ForwardingMode, InterfaceIndex, Nexthop, Protocol, Put, Table

pytestmark = pytest.mark.kernel

HEAD = {4: (3, 4), 6: (2, 0)}
MTU = 1400
QUOTED_TRANSPORT = 20


def narrow(row: Nexthop) -> Nexthop:
    return replace(row, mtu=MTU)


def report(frame: bytes, header: int, mtu: int = MTU) -> bytes:
    """What the sender of this frame must be told, from the IP header on."""
    family = 4 if frame[12:14] == b"\x08\x00" else 6
    at, size = (26, 4) if family == 4 else (22, 16)
    source, destination = frame[at : at + size], frame[at + size : at + 2 * size]
    return icmp(family, destination, source, HEAD[family], mtu.to_bytes(4), frame[14 : 14 + header + QUOTED_TRANSPORT])


def exactly(family: int, protocol: Protocol, length: int, **more: object) -> bytes:
    """A request that is so long from its IP header on."""
    headers = len(request(family, protocol)) - 14
    return request(family, protocol, payload=b"x" * (length - headers), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("hook", "family", "protocol", "mode"), list(product(Hook, (4, 6), Protocol, ForwardingMode)))
@pytest.mark.parametrize("over", [1, 2, 3, 100])
def test_the_sender_of_a_request_is_told(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, mode: ForwardingMode, over: int
) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=mode, nexthop=narrow)
    assert bench.send(hook, exactly(family, protocol, MTU)).reason == "forwarded_request"
    frame = exactly(family, protocol, MTU + over)

    outcome = bench.send(hook, frame)

    assert outcome.reason == "reported_too_big"
    assert outcome.frame[:14] == link(C0_MAC, CLIENT_MAC, family)
    assert outcome.frame[14:] == report(frame, 20 if family == 4 else 40)


@HOOKS
@pytest.mark.parametrize("flags", ["", "DF"])
def test_an_ipv4_sender_is_told_whether_it_asked_or_not(bench: Bench, hook: Hook, flags: str) -> None:
    setup_service(bench, family=4, protocol=Protocol.UDP, nexthop=narrow)
    header = ip_layer(4, CLIENT[4], VIP[4])
    header.flags = flags
    frame = bytes(from_client(header, transport(Protocol.UDP, "", 40000, VIP_PORT) / (b"x" * MTU)))

    assert bench.send(hook, frame).frame[14:] == report(frame, 20)


@HOOKS
@FAMILIES
@TRANSLATING
def test_the_backend_is_told_about_its_reply(bench: Bench, hook: Hook, family: int, mode: ForwardingMode) -> None:
    setup_service(bench, family=family, mode=mode)
    port = bench.send(hook, request(family)).source_port
    index = InterfaceIndex(bench.ifindex["c0"])
    interface = bench.datapath.observe().interfaces[index]
    bench.apply(Put(Table.INTERFACES, index, replace(interface, mtu=1300)))
    seen = SOURCE[family] if mode is ForwardingMode.FULL_NAT else CLIENT[family]
    frame = reply(family, flags="A", to_port=port, to=seen, payload=b"x" * 1300)

    outcome = bench.send(hook, frame, "b0")

    assert outcome.reason == "reported_too_big"
    assert outcome.frame[:14] == link(B0_MAC, BACKEND_MAC, family)
    assert outcome.frame[14:] == report(frame, 20 if family == 4 else 40, 1300)
    assert bench.send(hook, reply(family, to_port=port, to=seen), "b0").reason == "forwarded_reply"


@HOOKS
@FAMILIES
def test_tags_stay(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, nexthop=narrow)
    frame = exactly(family, Protocol.TCP, MTU + 1)
    for tags in (b"\x81\x00\x00\x05", b"\x88\xa8\x00\x07\x81\x00\x00\x05"):
        outcome = bench.send(hook, frame[:12] + tags + frame[12:])

        assert outcome.reason == "reported_too_big"
        turned = link(C0_MAC, CLIENT_MAC, family)
        assert outcome.frame[: 14 + len(tags)] == turned[:12] + tags + turned[12:]
        assert outcome.frame[14 + len(tags) :] == report(frame, 20 if family == 4 else 40)


@HOOKS
@pytest.mark.parametrize("options", [4, 40])
def test_the_quote_holds_ipv4_options(bench: Bench, hook: Hook, options: int) -> None:
    setup_service(bench, family=4, nexthop=narrow)
    header = ip_layer(4, CLIENT[4], VIP[4])
    header.options = b"\x01" * options
    frame = bytes(from_client(header, transport(Protocol.TCP, "S", 40000, VIP_PORT) / (b"x" * MTU)))

    assert bench.send(hook, frame).frame[14:] == report(frame, 20 + options)


@HOOKS
@pytest.mark.parametrize("padding", [4, 12, 100])
def test_the_quote_holds_extension_headers(bench: Bench, hook: Hook, padding: int) -> None:
    setup_service(bench, family=6, nexthop=narrow)
    options = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(padding))])
    layers = ip_layer(6, CLIENT[6], VIP[6]) / options, transport(Protocol.TCP, "S", 40000, VIP_PORT) / (b"x" * MTU)
    frame = bytes(from_client(*layers))

    outcome = bench.send(hook, frame)

    assert outcome.frame[14:] == report(frame, locate(frame).transport - 14)


@HOOKS
@FAMILIES
def test_every_fragment_that_is_too_big_is_answered(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, protocol=Protocol.UDP, nexthop=narrow)
    small_first, *later = cut(request(family, Protocol.UDP, payload=b"x" * 1600), 800, 5)
    big_first = cut(request(family, Protocol.UDP, payload=b"x" * 2000), MTU, 6)[0]

    outcome = bench.send(hook, big_first)
    assert outcome.frame[14:] == report(big_first, 20 if family == 4 else 48)
    assert bench.send(hook, small_first).reason == "forwarded_request"

    assert later
    data = bytearray(later[0])
    grown = MTU + 8
    if family == 4:
        data[16:18] = (20 + grown).to_bytes(2)
    else:
        data[18:20] = (8 + grown).to_bytes(2)
    frame = bytes(data[: 14 + (20 if family == 4 else 48)]) + b"y" * grown
    outcome = bench.send(hook, frame)
    assert outcome.reason == "reported_too_big"
    assert outcome.frame[14:] == report(frame, 40)


@FAMILIES
@PROTOCOLS
def test_an_unfinished_checksum_is_not_quoted(bench: Bench, family: int, protocol: Protocol) -> None:
    """The kernel would finish it behind our back, and the sum over the quote would be wrong."""
    setup_service(bench, family=family, protocol=protocol, nexthop=narrow)
    frame = partial_checksum(exactly(family, protocol, MTU + 1))

    assert bench.send(Hook.TC, frame).reason == "too_big"


@FAMILIES
def test_a_batch_of_segments_is_cut_again_later_on(bench: Bench, family: int) -> None:
    setup_service(bench, family=family, nexthop=narrow)

    outcome = bench.send(Hook.TC, exactly(family, Protocol.TCP, MTU + 1000), gso_size=1000)

    assert outcome.reason == "forwarded_request"


@HOOKS
@FAMILIES
def test_a_report_opens_nothing_and_costs_the_flow_nothing(bench: Bench, hook: Hook, family: int) -> None:
    (backend,) = setup_service(bench, family=family, mode=ForwardingMode.DNAT, nexthop=narrow)
    bench.send(hook, request(family))
    before = bench.datapath.counters().backends[backend]

    bench.send(hook, exactly(family, Protocol.TCP, MTU + 1, flags="A"))

    assert bench.datapath.counters().backends[backend] == before
    assert bench.send(hook, request(family, flags="A")).reason == "forwarded_request"


@HOOKS
@FAMILIES
def test_what_has_no_hops_left_is_not_answered(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, nexthop=narrow)

    assert bench.send(hook, exactly(family, Protocol.TCP, MTU + 1, hops=1)).reason == "ttl_exceeded"


@FAMILIES
def test_xdp_leaves_the_report_to_tc_where_it_cannot_send_back(bench: Bench, family: int) -> None:
    setup_service(bench, family=family, nexthop=narrow)
    index = InterfaceIndex(bench.ifindex["c0"])
    interface = bench.datapath.observe().interfaces[index]
    bench.apply(Put(Table.INTERFACES, index, replace(interface, flags=type(interface.flags)(0))))
    frame = exactly(family, Protocol.TCP, MTU + 1)

    assert bench.send(Hook.XDP, frame).reason == "no_redirect"
    assert bench.send(Hook.TC, frame).reason == "reported_too_big"
