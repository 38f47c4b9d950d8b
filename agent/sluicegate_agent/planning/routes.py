"""How the node gets to one backend: its next hop and our source address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate_agent.datapath.model import Backend, ForwardingMode, IPAddress, Nexthop, NexthopId
from sluicegate_agent.network.model import Link, NetworkSnapshot, NoPath, Path

LONGEST_MTU: Final = 65_535
"""``struct hop.mtu`` has 16 bits, as the length of an IP packet."""

SMALLEST_IPV6_MTU: Final = 1280
"""RFC 8200, section 5."""


@dataclass(frozen=True, slots=True)
class Route:
    """``hop`` is None when nothing leads to the backend, or not yet known; ``problem`` is empty in the latter case.

    With a hop, ``problem`` says what is wrong with a way that is used all the same.
    """

    hop: Nexthop | None
    source: IPAddress | None
    problem: str = ""


def route(
    address: IPAddress,
    mode: ForwardingMode,
    snapshot: NetworkSnapshot,
    row: Backend | None,
    hops: Mapping[NexthopId, Nexthop],
) -> Route:
    """The way to a backend whose row in the kernel is ``row``, if it has one, with next hops ``hops`` there.

    While the address has not been looked up yet, a backend keeps the way that the kernel has: a restart must not take
    away backends only because its first look at the network is not complete.
    """
    known_source = row.source if row else None
    path = snapshot.paths.get(address)
    if path is None:
        kept = hops.get(row.nexthop) if row else None
        return Route(kept if kept and kept.ifindex in snapshot.links else None, known_source)
    if isinstance(path, NoPath):
        return Route(None, known_source, path.reason)
    if path.local:
        return _to_ourselves(address, path, mode)
    link = snapshot.links.get(path.ifindex)
    if link is None:
        return Route(None, known_source, f"the interface of the route to {address} is gone")
    if mode is ForwardingMode.DIRECT_RETURN and (obstacle := _not_on_link(address, path, link)):
        return Route(None, None, obstacle)
    hop = Nexthop(
        ifindex=path.ifindex,
        gateway=path.gateway,
        mtu=min(path.mtu, LONGEST_MTU),
        source_mac=link.mac if link.ethernet else bytes(6),
        destination_mac=path.mac,
        xdp=path.mac is not None and link.takes_redirect,
    )
    source = path.source if mode is ForwardingMode.FULL_NAT else None
    return Route(hop, source, small_for_ipv6(path.mtu, link.name) if address.version == 6 else "")


def _to_ourselves(address: IPAddress, path: Path, mode: ForwardingMode) -> Route:
    """A backend on this node: reached in DNAT, so without a source of ours."""
    if mode is ForwardingMode.DIRECT_RETURN:
        obstacle = f"{address} is an address of this node, which forwarding.mode DirectReturn cannot serve: "
        return Route(None, None, f"{obstacle}use FullNAT or DNAT")
    hop = Nexthop(path.ifindex, path.gateway, LONGEST_MTU, bytes(6), None, xdp=False, local=True)
    return Route(hop, None)


def small_for_ipv6(mtu: int, interface: str) -> str:
    """What is wrong with this MTU for IPv6; empty when nothing is."""
    if mtu >= SMALLEST_IPV6_MTU:
        return ""
    return (
        f"the MTU through interface {interface} is {mtu}, less than the {SMALLEST_IPV6_MTU} that IPv6 needs: "
        f"raise it, ip link set {interface} mtu {SMALLEST_IPV6_MTU}"
    )


def _not_on_link(address: IPAddress, path: Path, link: Link) -> str:
    """Why only the MAC addresses of a packet are not enough to bring it there; empty when they are."""
    if not path.onlink:
        return (
            f"{address} is not on a link of this node, the route leads through {path.gateway}: forwarding.mode "
            "DirectReturn needs it on the same link; use FullNAT or DNAT, or a backend on the link"
        )
    if not link.ethernet:
        return (
            f"interface {link.name} carries no Ethernet frames, which forwarding.mode DirectReturn needs: "
            "use FullNAT or DNAT"
        )
    return ""
