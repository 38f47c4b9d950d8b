"""What is measured: services, the packets sent to them, and the ways these packets must go."""

from __future__ import annotations

from dataclasses import dataclass

import bench as dataplane
from bench import BACKEND_PORT, Hook
from sluicegate_agent.datapath.model import Algorithm, ForwardingMode, Protocol
from sluicegate_bench.packet.feed import Feed, from_backend, from_client
from sluicegate_bench.packet.flows import CLIENT_PORT, NAT_PORT
from sluicegate_bench.packet.node import FIRST_BACKEND, FIRST_CLIENT, Kind

NOBODY = {4: "198.51.100.1", 6: "2001:db8:f::1"}
"""Neither a VIP nor a backend."""

UNKNOWN_PORT = 40000
"""Client ports from here on belong to no flow."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of packet; ``reason`` under which the program must count it."""

    name: str
    feed: Feed
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """Cases over one service's flows on one hook, measured one after the other beside their own floors."""

    name: str
    hook: Hook
    kind: Kind
    cases: tuple[Case, ...]


def data(kind: Kind) -> Case:
    """A client's packet with data that is part of a request under way, or any UDP packet."""
    return Case("known flow, request", _request(kind, "PA"), "forwarded_request")


def new_request(kind: Kind) -> Case:
    """A client's packet that begins a new request."""
    return Case("known flow, a new request each", _request(kind, "PA", new_request=True), "forwarded_request")


def acknowledgement(kind: Kind) -> Case:
    """A client's packet without data."""
    return Case("known flow, bare ACK", _request(kind, "A"), "forwarded_request")


def miss(kind: Kind) -> Case:
    """A client's packet of a connection that nobody knows."""
    return Case("TCP of no known flow", _request(kind, "PA", source_port=UNKNOWN_PORT), "no_flow")


def reply(kind: Kind) -> Case:
    """A backend's packet with data."""
    source = FIRST_BACKEND[kind.mode][kind.family]
    if kind.mode is ForwardingMode.FULL_NAT:
        destination, port = dataplane.SOURCE[kind.family], NAT_PORT
    else:
        destination, port = FIRST_CLIENT[kind.family], CLIENT_PORT
    frame = from_backend(kind.family, kind.protocol, source, destination, port, flags="PA", source_port=BACKEND_PORT)
    to_client = kind.mode is not ForwardingMode.FULL_NAT
    feed = Feed(frame, "b0", by_destination=to_client, by_source_port=False, by_destination_port=True)
    return Case("known flow, reply", feed, "forwarded_reply")


def nobody(kind: Kind) -> Case:
    """A packet that is nothing to us."""
    frame = from_client(
        kind.family,
        kind.protocol,
        FIRST_CLIENT[kind.family],
        NOBODY[kind.family],
        443,
        flags="PA",
        source_port=CLIENT_PORT,
    )
    return Case("to no VIP, of no backend", Feed(frame, "c0"), "not_ours")


def opening(kind: Kind) -> Case:
    """A client's first packet."""
    return Case("first packet", _request(kind, "S"), "forwarded_request")


def _request(kind: Kind, flags: str, *, new_request: bool = False, source_port: int = CLIENT_PORT) -> Feed:
    frame = from_client(
        kind.family,
        kind.protocol,
        FIRST_CLIENT[kind.family],
        dataplane.VIP[kind.family],
        kind.port,
        flags=flags,
        source_port=source_port,
    )
    return Feed(frame, "c0", new_request=new_request)


def _kind(
    port: int,
    mode: ForwardingMode = ForwardingMode.FULL_NAT,
    family: int = 4,
    protocol: Protocol = Protocol.TCP,
    algorithm: Algorithm = Algorithm.MAGLEV,
    place: int = 0,
) -> Kind:
    return Kind(family, protocol, mode, algorithm, port, place)


_TCP4, _TCP6, _UDP4, _UDP6 = (
    _kind(80),
    _kind(80, family=6),
    _kind(81, protocol=Protocol.UDP),
    _kind(81, family=6, protocol=Protocol.UDP),
)
_DNAT4, _DNAT6 = _kind(82, ForwardingMode.DNAT), _kind(82, ForwardingMode.DNAT, 6)
_DIRECT4, _DIRECT6 = _kind(83, ForwardingMode.DIRECT_RETURN), _kind(83, ForwardingMode.DIRECT_RETURN, 6)

KNOWN = (
    Group(
        "XDP, FullNAT, TCP, IPv4",
        Hook.XDP,
        _TCP4,
        (data(_TCP4), acknowledgement(_TCP4), new_request(_TCP4), reply(_TCP4), miss(_TCP4), nobody(_TCP4)),
    ),
    Group("XDP, FullNAT, TCP, IPv6", Hook.XDP, _TCP6, (data(_TCP6), reply(_TCP6), nobody(_TCP6))),
    Group("XDP, FullNAT, UDP, IPv4", Hook.XDP, _UDP4, (data(_UDP4), reply(_UDP4))),
    Group("XDP, FullNAT, UDP, IPv6", Hook.XDP, _UDP6, (data(_UDP6), reply(_UDP6))),
    Group("XDP, DNAT, TCP, IPv4", Hook.XDP, _DNAT4, (data(_DNAT4), new_request(_DNAT4), reply(_DNAT4), miss(_DNAT4))),
    Group("XDP, DNAT, TCP, IPv6", Hook.XDP, _DNAT6, (data(_DNAT6), reply(_DNAT6))),
    Group("XDP, DirectReturn, TCP, IPv4", Hook.XDP, _DIRECT4, (data(_DIRECT4),)),
    Group("XDP, DirectReturn, TCP, IPv6", Hook.XDP, _DIRECT6, (data(_DIRECT6),)),
    Group("tc, FullNAT, TCP, IPv4", Hook.TC, _TCP4, (data(_TCP4), reply(_TCP4), nobody(_TCP4))),
)
"""Groups over flows that are in the tables."""

ALGORITHMS = (Algorithm.MAGLEV, Algorithm.LEAST_LOAD)

NEW = {
    mode: {
        algorithm: _kind(first + number, mode, algorithm=algorithm, place=number)
        for number, algorithm in enumerate(ALGORITHMS)
    }
    for mode, first in ((ForwardingMode.FULL_NAT, 90), (ForwardingMode.DNAT, 92))
}
"""Services whose flows are opened anew, 65,536 of them into empty tables."""
