"""What the agent knows about the network of its namespace: links, addresses, and the way to each watched address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from sluicegate_agent.datapath.model import InterfaceIndex, IPAddress


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface.

    ``kind`` is rtnetlink's (``veth``, ``bridge``, …) and empty for hardware. ``mac`` is empty when the interface has
    no hardware address. ``up`` means that it is set up and has a carrier. ``takes_redirect`` means that its driver
    transmits frames redirected to it by XDP right now (bit NDO_XMIT of the device's xdp-features).
    """

    ifindex: InterfaceIndex
    name: str
    kind: str
    mtu: int
    mac: bytes
    up: bool
    ethernet: bool
    takes_redirect: bool


@dataclass(frozen=True, slots=True)
class Path:
    """How this node reaches an address.

    ``gateway`` is the neighbour that takes the packets: the address itself when it is on-link; it may be of the other
    family (IPv4 through an IPv6 router, RFC 5549). ``mac`` is the neighbour's, None while its entry is not valid.
    ``mtu`` is in bytes, the route's where it has one and else the interface's. ``host_route`` tells a /32 or /128
    without a gateway, as container networks set for the interface of one pod. ``local``: it is the node's own address.
    """

    ifindex: InterfaceIndex
    gateway: IPAddress
    source: IPAddress
    mtu: int
    mac: bytes | None
    onlink: bool
    host_route: bool
    local: bool = False


@dataclass(frozen=True, slots=True)
class NoPath:
    """Why an address cannot be reached, in words for an operator."""

    reason: str


@dataclass(frozen=True, slots=True)
class NetworkSnapshot:
    """The network at one moment.

    ``forwarding`` tells by family (4, 6) whether the node forwards packets (``net.ipv4.ip_forward``,
    ``net.ipv6.conf.all.forwarding``). ``hop_generation`` moves whenever a next hop that a packet may have used can
    have changed: a route, a link, or a neighbour's hardware address or its validity; not on reachability checks
    of a neighbour that stays the same.
    """

    links: Mapping[InterfaceIndex, Link] = field(default_factory=lambda: MappingProxyType({}))
    addresses: frozenset[IPAddress] = frozenset()
    default_interfaces: frozenset[InterfaceIndex] = frozenset()
    paths: Mapping[IPAddress, Path | NoPath] = field(default_factory=lambda: MappingProxyType({}))
    forwarding: Mapping[int, bool] = field(default_factory=lambda: MappingProxyType({}))
    hop_generation: int = 0
