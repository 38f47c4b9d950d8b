"""Messages of rtnetlink as values: links, addresses, neighbours, routes. Pure.

Layouts: linux/if_link.h, if_addr.h, neighbour.h, rtnetlink.h, netconf.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from sluicegate_agent.datapath.model import InterfaceIndex, IPAddress
from sluicegate_agent.network.netlink import attribute, attributes

AF_INET = 2
AF_INET6 = 10
FAMILIES = {4: AF_INET, 6: AF_INET6}

MAIN_TABLE = 254


class Kind(IntEnum):
    """``RTM_*``: types of messages."""

    NEW_LINK = 16
    DEL_LINK = 17
    GET_LINK = 18
    NEW_ADDRESS = 20
    DEL_ADDRESS = 21
    GET_ADDRESS = 22
    NEW_ROUTE = 24
    DEL_ROUTE = 25
    GET_ROUTE = 26
    NEW_NEIGHBOUR = 28
    DEL_NEIGHBOUR = 29
    GET_NEIGHBOUR = 30
    NEW_RULE = 32
    DEL_RULE = 33
    NEW_NETCONF = 80
    GET_NETCONF = 82
    NEW_NEXTHOP = 104
    DEL_NEXTHOP = 105


GROUPS = (1, 3, 5, 7, 8, 9, 11, 19, 24, 25, 32)
"""``RTNLGRP_*``: link, neigh, ipv4 ifaddr/route/rule, ipv6 ifaddr/route/rule, ipv4/ipv6 netconf, nexthop."""


class RouteKind(IntEnum):
    """``RTN_*``: what a route does with its packets."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9


class LinkRow(NamedTuple):
    """A link as the kernel tells it; ``up`` is set up and with carrier."""

    ifindex: InterfaceIndex
    name: str
    kind: str
    mtu: int
    mac: bytes
    up: bool
    ethernet: bool
    loopback: bool


class AddressRow(NamedTuple):
    """An address of an interface; ``usable`` as a source: neither tentative nor a duplicate nor deprecated."""

    ifindex: InterfaceIndex
    address: IPAddress
    scope: int
    usable: bool


class NeighbourRow(NamedTuple):
    """A neighbour's hardware address; ``mac`` is None while the kernel does not send to it. ``address`` is packed."""

    ifindex: InterfaceIndex
    address: bytes
    mac: bytes | None


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route, or the answer to a lookup. ``mtu`` is 0 when the route has none of its own."""

    kind: int
    version: int
    table: int
    destination: int
    prefix_length: int
    interfaces: tuple[InterfaceIndex, ...]
    gateway: IPAddress | None
    source: IPAddress | None
    mtu: int
    cloned: bool


_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_ROUTE = struct.Struct(
    "=BBBBBBBBI"
)  # family, destination length, source length, tos, table, protocol, scope, type, flags
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, hops, index
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")

_ARPHRD_ETHER = 1
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_LOWER_UP = 0x10000
_SKIP_STATISTICS = 8
_UNFIT_FLAGS = 0x08 | 0x20 | 0x40  # IFA_F_DADFAILED, DEPRECATED, TENTATIVE
_VALID_STATES = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # NUD_REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT
_NTF_PROXY = 0x08
_CLONED = 0x200
_FIB_MATCH = 0x2000
_ALL_INTERFACES = -1


def ip_address(packed: bytes) -> IPAddress:
    """The address in 4 or 16 bytes."""
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def parse_link(body: bytes) -> LinkRow | None:
    """A link; None for what a bridge says about its ports and for wireless events, which look alike."""
    family, hardware, index, flags, _change = _LINK.unpack_from(body)
    found = attributes(body, _LINK.size)
    if family != 0 or 4 not in found or 3 not in found:
        return None
    kind = attributes(found.get(18, b"")).get(1, b"")
    return LinkRow(
        ifindex=InterfaceIndex(index),
        name=_text(found[3]),
        kind=_text(kind),
        mtu=_U32.unpack(found[4])[0],
        mac=found.get(1, b""),
        up=bool(flags & _IFF_UP and flags & _IFF_LOWER_UP),
        ethernet=hardware == _ARPHRD_ETHER,
        loopback=bool(flags & _IFF_LOOPBACK),
    )


def parse_address(body: bytes) -> AddressRow | None:
    """An address of an interface; None for families other than IP. Of a point-to-point link it is the near end."""
    family, _length, flags, scope, index = _ADDRESS.unpack_from(body)
    found = attributes(body, _ADDRESS.size)
    own = found.get(2) or found.get(1)
    if family not in {AF_INET, AF_INET6} or own is None:
        return None
    if 8 in found:
        flags = _U32.unpack(found[8])[0]
    return AddressRow(InterfaceIndex(index), ip_address(own), scope, not flags & _UNFIT_FLAGS)


def parse_neighbour(body: bytes) -> NeighbourRow | None:
    """A neighbour; None for bridges' tables, proxies and multicast, which no next hop ever uses."""
    family, index, state, flags, _kind = _NEIGHBOUR.unpack_from(body)
    found = attributes(body, _NEIGHBOUR.size)
    address = found.get(1)
    if family not in {AF_INET, AF_INET6} or flags & _NTF_PROXY or address is None or _is_multicast(address):
        return None
    mac = found.get(2, b"")
    return NeighbourRow(InterfaceIndex(index), address, mac if state & _VALID_STATES and len(mac) == 6 else None)


def parse_route(body: bytes) -> RouteRow:
    """A route of a table, an event, or the answer to a lookup."""
    family, length, _source_length, _tos, table, _protocol, _scope, kind, flags = _ROUTE.unpack_from(body)
    found = attributes(body, _ROUTE.size)
    mtu = attributes(found.get(8, b"")).get(2, b"")
    return RouteRow(
        kind=kind,
        version=4 if family == AF_INET else 6,
        table=_U32.unpack(found[15])[0] if 15 in found else table,
        destination=int.from_bytes(found.get(1, b""), "big"),
        prefix_length=length,
        interfaces=tuple(_interfaces(found)),
        gateway=_gateway(found),
        source=ip_address(found[7]) if 7 in found else None,
        mtu=_U32.unpack(mtu)[0] if mtu else 0,
        cloned=bool(flags & _CLONED),
    )


def parse_forwarding(body: bytes) -> tuple[int, bool] | None:
    """IP version and whether all interfaces forward it; None for a word about one interface."""
    found = attributes(body, 4)
    if body[0] not in {AF_INET, AF_INET6} or not {1, 2} <= found.keys():
        return None
    if _S32.unpack(found[1])[0] != _ALL_INTERFACES:
        return None
    return (4 if body[0] == AF_INET else 6), bool(_S32.unpack(found[2])[0])


def links_request() -> bytes:
    """Body of a dump of all links, without their statistics."""
    return _LINK.pack(0, 0, 0, 0, 0) + attribute(29, _U32.pack(_SKIP_STATISTICS))


def addresses_request() -> bytes:
    """Body of a dump of all addresses."""
    return _ADDRESS.pack(0, 0, 0, 0, 0)


def neighbours_request() -> bytes:
    """Body of a dump of all neighbours."""
    return _NEIGHBOUR.pack(0, 0, 0, 0, 0)


def routes_request(version: int, table: int) -> bytes:
    """Body of a dump of one routing table."""
    return _ROUTE.pack(FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0) + attribute(15, _U32.pack(table))


def lookup_request(address: IPAddress, *, entry: bool) -> bytes:
    """Body of a lookup: the way to ``address``, or with ``entry`` the table's route that leads there."""
    flags = _FIB_MATCH if entry else 0
    header = _ROUTE.pack(FAMILIES[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, flags)
    return header + attribute(1, address.packed)


def forwarding_request(version: int) -> bytes:
    """Body of a question about forwarding on all interfaces."""
    return bytes([FAMILIES[version], 0, 0, 0]) + attribute(1, _S32.pack(_ALL_INTERFACES))


def _interfaces(found: dict[int, bytes]) -> Iterator[InterfaceIndex]:
    if 4 in found:
        yield InterfaceIndex(_U32.unpack(found[4])[0])
    hops, offset = found.get(9, b""), 0
    while offset + _NEXT_HOP.size <= len(hops):
        length, _flags, _hops, index = _NEXT_HOP.unpack_from(hops, offset)
        if length < _NEXT_HOP.size:
            return
        yield InterfaceIndex(index)
        offset += (length + 3) & ~3


def _gateway(found: dict[int, bytes]) -> IPAddress | None:
    if 5 in found:
        return ip_address(found[5])
    if 18 in found:  # RTA_VIA: a gateway of the other family, after two bytes of family
        return ip_address(found[18][2:])
    return None


def _is_multicast(address: bytes) -> bool:
    return address[0] == 0xFF if len(address) == 16 else 224 <= address[0] < 240


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")
