"""The node itself as a party: its own clients, backends at its own addresses, and clients that its stack forwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from bench import (
    BACKEND_PORT,
    BACKENDS,
    C0_MAC,
    CLIENT,
    CLIENT_MAC,
    EGRESS,
    TC_NEXT,
    TC_REDIRECT,
    VIP,
    VIP_PORT,
    Bench,
    Hook,
)
from frames import ip_layer, reply, request, transport
from marks import FAMILIES, PROTOCOLS, TRANSLATING
from services import IDLE_SECONDS, filter_of, setup_node, setup_service
from sluicegate_agent.datapath.model import (
    Algorithm,
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    InterfaceIndex,
    Nexthop,
    NexthopId,
    Protocol,
    Put,
    ServiceId,
    Table,
)

pytestmark = pytest.mark.kernel


NODE = {4: "10.1.0.1", 6: "fd01::1"}
"""The node's address on the clients' network: that of its own clients and of its own backends."""


def from_node(family: int, protocol: Protocol, flags: str, *, port: int = 40000, payload: bytes = b"") -> bytes:
    """A packet of a process on the node to the VIP, as it leaves by c0 to a router there."""
    layers = ip_layer(family, NODE[family], VIP[family]) / transport(protocol, flags, port, VIP_PORT) / payload
    return bytes(Ether(src=C0_MAC, dst=CLIENT_MAC) / layers)


def answer_of_node(family: int, protocol: Protocol, flags: str, *, port: int = 40000, payload: bytes = b"") -> bytes:
    """A packet of a backend process on the node to a client, as it leaves by c0."""
    layers = ip_layer(family, NODE[family], CLIENT[family]) / transport(protocol, flags, BACKEND_PORT, port) / payload
    return bytes(Ether(src=C0_MAC, dst=CLIENT_MAC) / layers)


def setup_local(bench: Bench, family: int, protocol: Protocol, mode: ForwardingMode, remote: bool = False) -> BackendId:
    """A service with a backend on the node itself; ``remote`` adds one on the backends' network before it."""
    setup_node(bench)
    address = ip_address(NODE[family])
    local, service = BackendId(9), ServiceId(1)
    slots = (local,) * 7
    if remote:
        (other,) = setup_service(bench, family=family, protocol=protocol, mode=mode)
        slots = (local, other) * 4
    endpoint = Endpoint(ip_address(VIP[family]), protocol, VIP_PORT)
    bench.apply(
        Put(
            Table.NEXTHOPS, NexthopId(9), Nexthop(InterfaceIndex(1), address, 65535, bytes(6), None, False, local=True)
        ),
        Put(
            Table.FILTER,
            None,
            bench.datapath.observe().filter.union(filter_of(endpoint.address, [address], ForwardingMode.DNAT)),
        ),
        Put(
            Table.BACKENDS,
            local,
            Backend(
                service,
                Endpoint(address, protocol, BACKEND_PORT),
                None,
                NexthopId(9),
                BackendState.ACTIVE,
                1,
                local=True,
            ),
        ),
        Put(Table.SLOTS, service, slots),
        Put(
            Table.FRONTENDS,
            FrontendId(1),
            Frontend(endpoint, service, len(slots), Algorithm.MAGLEV, mode, IDLE_SECONDS),
        ),
        Put(Table.REVERSE, Endpoint(address, protocol, BACKEND_PORT), (FrontendId(1),)),
        Put(Table.VIPS, endpoint, FrontendId(1)),
    )
    return local


def tuple_of(frame: bytes) -> tuple[str, int, str, int]:
    packet = Ether(frame)
    header = packet[IP] if IP in packet else packet[IPv6]
    return header.src, header.payload.sport, header.dst, header.payload.dport


def has_right_checksums(frame: bytes) -> bool:
    fresh = Ether(frame)
    for layer in (fresh.payload, fresh.payload.payload):
        del layer.chksum
    return bytes(fresh) == frame


# A client on the node


@FAMILIES
@PROTOCOLS
@TRANSLATING
def test_a_client_on_the_node_is_balanced_on_its_way_out(
    bench: Bench, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=mode)
    sent = bench.send(EGRESS, from_node(family, protocol, "S", payload=b"hello"))
    assert (sent.reason, sent.action) == ("forwarded_request", TC_REDIRECT)
    source, port, destination, destination_port = tuple_of(sent.frame)
    assert (destination, destination_port) == (BACKENDS[family][0], BACKEND_PORT)
    assert has_right_checksums(sent.frame)
    if mode is ForwardingMode.DNAT:
        assert (source, port) == (NODE[family], 40000)

    back = reply(family, protocol, "SA", to_port=port, to=source, payload=b"hello")
    assert bench.send(Hook.XDP, back, "b0").reason == "local"
    got = bench.send(Hook.TC, back, "b0")
    assert (got.reason, got.action) == ("forwarded_reply", TC_REDIRECT)
    assert tuple_of(got.frame) == (VIP[family], VIP_PORT, NODE[family], 40000)
    assert Ether(got.frame).dst == C0_MAC, "the stack takes only what is addressed to the interface that it comes in on"
    assert has_right_checksums(got.frame)

    again = bench.send(EGRESS, from_node(family, protocol, "A"))
    assert (again.reason, tuple_of(again.frame)) == ("forwarded_request", tuple_of(sent.frame))


@FAMILIES
@TRANSLATING
def test_a_reply_finds_a_local_client_also_when_the_network_changed(
    bench: Bench, family: int, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, mode=mode)
    sent = bench.send(EGRESS, from_node(family, Protocol.TCP, "S"))
    settings = bench.datapath.observe().settings
    bench.apply(Put(Table.SETTINGS, None, replace(settings, hop_generation=settings.hop_generation + 1)))
    source, port, _, _ = tuple_of(sent.frame)
    got = bench.send(Hook.TC, reply(family, to_port=port, to=source), "b0")
    assert (got.reason, Ether(got.frame).dst) == ("forwarded_reply", C0_MAC)


@FAMILIES
def test_a_request_from_outside_in_the_name_of_the_node_is_not_answered_to_the_node(bench: Bench, family: int) -> None:
    """Only a flow that began on the way out has a client here."""
    setup_service(bench, family=family, mode=ForwardingMode.DNAT)
    assert bench.send(Hook.XDP, request(family, client=NODE[family])).reason == "forwarded_request"
    back = reply(family, to_port=40000, to=NODE[family])
    assert bench.send(Hook.TC, back, "b0").reason == "no_route"


@FAMILIES
def test_a_ping_of_the_node_to_the_vip_is_answered_to_the_node(bench: Bench, family: int) -> None:
    setup_service(bench, family=family)
    if family == 4:
        packet = IP(src=NODE[4], dst=VIP[4]) / ICMP(id=7, seq=1) / b"ping"
    else:
        from scapy.layers.inet6 import ICMPv6EchoRequest  # noqa: PLC0415

        packet = IPv6(src=NODE[6], dst=VIP[6]) / ICMPv6EchoRequest(id=7, seq=1, data=b"ping")
    got = bench.send(EGRESS, bytes(Ether(src=C0_MAC, dst=CLIENT_MAC) / packet))
    assert (got.reason, got.action) == ("answered_echo", TC_REDIRECT)
    assert Ether(got.frame).dst == C0_MAC


@FAMILIES
@PROTOCOLS
def test_what_is_not_for_a_vip_leaves_as_it_is(bench: Bench, family: int, protocol: Protocol) -> None:
    setup_service(bench, family=family, protocol=protocol)
    elsewhere = (
        Ether(src=C0_MAC, dst=CLIENT_MAC)
        / ip_layer(family, NODE[family], CLIENT[family])
        / transport(protocol, "S", 40000, VIP_PORT)
    )
    assert bench.send(EGRESS, bytes(elsewhere)).reason == "not_ours"


# A backend on the node


@FAMILIES
@PROTOCOLS
@TRANSLATING
def test_a_backend_on_the_node_is_reached_in_dnat(
    bench: Bench, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    setup_local(bench, family, protocol, mode)
    for flags in ("S", "A"):
        frame = request(family, protocol, flags, payload=b"hello")
        assert bench.send(Hook.XDP, frame).reason == "local"
        sent = bench.send(Hook.TC, frame)
        assert (sent.reason, sent.action) == ("forwarded_request", TC_NEXT)
        assert tuple_of(sent.frame) == (CLIENT[family], 40000, NODE[family], BACKEND_PORT)
        assert has_right_checksums(sent.frame)
        assert Ether(sent.frame).dst == C0_MAC

        got = bench.send(EGRESS, answer_of_node(family, protocol, "SA" if flags == "S" else "A", payload=b"hello"))
        assert (got.reason, got.action) == ("forwarded_reply", TC_NEXT)
        assert tuple_of(got.frame) == (VIP[family], VIP_PORT, CLIENT[family], 40000)
        assert has_right_checksums(got.frame)
        assert (Ether(got.frame).src, Ether(got.frame).dst) == (C0_MAC, CLIENT_MAC)


@FAMILIES
@TRANSLATING
def test_flows_to_local_and_remote_backends_live_side_by_side(bench: Bench, family: int, mode: ForwardingMode) -> None:
    local = setup_local(bench, family, Protocol.TCP, mode, remote=True)
    went = {}
    for port in range(40000, 40040):
        frame = request(family, port=port)
        outcome = bench.send(Hook.XDP, frame)
        if outcome.reason == "local":
            outcome = bench.send(Hook.TC, frame)
        assert outcome.reason == "forwarded_request"
        went[port] = outcome.destination
    assert set(went.values()) == {NODE[family], BACKENDS[family][0]}
    for port, destination in went.items():
        frame = request(family, flags="A", port=port)
        outcome = bench.send(Hook.TC, frame)
        assert (outcome.reason, outcome.destination) == ("forwarded_request", destination)
    assert bench.load(local)[0] == list(went.values()).count(NODE[family])


@FAMILIES
@TRANSLATING
def test_a_client_on_the_node_is_not_sent_to_a_backend_on_the_node(
    bench: Bench, family: int, mode: ForwardingMode
) -> None:
    setup_local(bench, family, Protocol.TCP, mode, remote=True)
    for port in range(40000, 40020):
        assert bench.send(EGRESS, from_node(family, Protocol.TCP, "S", port=port)).destination == BACKENDS[family][0]


@FAMILIES
@TRANSLATING
def test_with_nothing_but_a_local_backend_a_local_client_is_refused_by_name(
    bench: Bench, family: int, mode: ForwardingMode
) -> None:
    setup_local(bench, family, Protocol.TCP, mode)
    assert bench.send(EGRESS, from_node(family, Protocol.TCP, "S")).reason == "local_loop"


@FAMILIES
@TRANSLATING
def test_other_packets_of_a_local_backend_leave_as_they_are(bench: Bench, family: int, mode: ForwardingMode) -> None:
    setup_local(bench, family, Protocol.TCP, mode)
    assert bench.send(EGRESS, answer_of_node(family, Protocol.TCP, "A")).reason == "no_translation"


@TRANSLATING
def test_a_datagram_in_fragments_reaches_a_local_backend(bench: Bench, mode: ForwardingMode) -> None:
    setup_local(bench, 4, Protocol.UDP, mode)
    whole = IP(src=CLIENT[4], dst=VIP[4], id=77) / UDP(sport=40000, dport=VIP_PORT) / (b"x" * 1992)
    first, second = (Ether(src=CLIENT_MAC, dst=C0_MAC) / part for part in _fragments(whole))
    for part in (first, second):
        assert bench.send(Hook.XDP, bytes(part)).reason == "local"
        outcome = bench.send(Hook.TC, bytes(part))
        assert (outcome.reason, outcome.action, outcome.destination) == ("forwarded_request", TC_NEXT, NODE[4])


def _fragments(whole: IP) -> Iterator[IP]:
    from scapy.layers.inet import fragment  # noqa: PLC0415

    yield from fragment(whole, fragsize=1400)


# Clients that the stack forwards, such as pods


@FAMILIES
@TRANSLATING
def test_a_forwarded_client_is_balanced_and_its_replies_come_back_the_same_way(
    bench: Bench, family: int, mode: ForwardingMode
) -> None:
    """The reply enters where the request left, so that the stack's own translations undo themselves."""
    pod = {4: "10.9.0.7", 6: "fd09::7"}[family]
    setup_service(bench, family=family, mode=mode)
    frame = bytes(
        Ether(src=C0_MAC, dst=CLIENT_MAC)
        / ip_layer(family, pod, VIP[family])
        / transport(Protocol.TCP, "S", 40000, VIP_PORT)
    )
    sent = bench.send(EGRESS, frame)
    assert sent.reason == "forwarded_request"
    source, port, _, _ = tuple_of(sent.frame)
    got = bench.send(Hook.TC, reply(family, to_port=port, to=source), "b0")
    assert (got.reason, tuple_of(got.frame)) == ("forwarded_reply", (VIP[family], VIP_PORT, pod, 40000))
    assert Ether(got.frame).dst == C0_MAC
