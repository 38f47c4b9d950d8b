"""How the node gets to one backend: its next hop and our source address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate_agent.datapath.model import Backend, ForwardingMode, IPAddress, Nexthop, NexthopId
from sluicegate_agent.network.model import NetworkSnapshot, NoPath

LONGEST_MTU: Final = 65_535
"""``struct hop.mtu`` has 16 bits, as the length of an IP packet."""


@dataclass(frozen=True, slots=True)
class Route:
    """``hop`` is None when nothing leads to the backend, or not yet known; ``problem`` is empty in the latter case."""

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
    link = snapshot.links.get(path.ifindex)
    if link is None:
        return Route(None, known_source, f"the interface of the route to {address} is gone")
    hop = Nexthop(
        ifindex=path.ifindex,
        gateway=path.gateway,
        mtu=min(path.mtu, LONGEST_MTU),
        source_mac=link.mac if link.ethernet else bytes(6),
        destination_mac=path.mac,
        xdp=path.mac is not None and link.takes_redirect,
    )
    return Route(hop, path.source if mode is ForwardingMode.FULL_NAT else None)
