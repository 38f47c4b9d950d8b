"""From the kernel's answer to a route lookup to the path to a backend, or to words why there is none. Pure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from sluicegate_agent.datapath.model import InterfaceIndex, IPAddress
from sluicegate_agent.network.model import NoPath, Path
from sluicegate_agent.network.rtnetlink import AddressRow, LinkRow, RouteKind, RouteRow
from sluicegate_agent.network.tables import Tables

_UNROUTABLE = {
    errno.ENETUNREACH: "no route to {address}; add a route on this node or correct the address",
    errno.EHOSTUNREACH: "the route to {address} is of type unreachable; replace it by one with a gateway or interface",
    errno.EACCES: "the route to {address} is of type prohibit; replace it by one with a gateway or interface",
    errno.EINVAL: "the route to {address} is of type blackhole; replace it by one with a gateway or interface",
    errno.EAFNOSUPPORT: "no route to {address}: this node does not speak IPv{address.version}",
    errno.EOPNOTSUPP: "no route to {address}: this node does not speak IPv{address.version}",
}

_LONGEST = 65_535  # bytes of an IP packet

_KIND_ERRORS: dict[int, int] = {
    RouteKind.BLACKHOLE: errno.EINVAL,
    RouteKind.UNREACHABLE: errno.EHOSTUNREACH,
    RouteKind.PROHIBIT: errno.EACCES,
    RouteKind.THROW: errno.ENETUNREACH,
}


def unroutable(address: IPAddress, code: int) -> NoPath:
    """Words for the error number of a lookup."""
    words = _UNROUTABLE.get(code)
    if words is None:
        return NoPath(f"the route lookup for {address} failed: {os.strerror(code)}")
    return NoPath(words.format(address=address))


def resolve(address: IPAddress, answer: RouteRow, entry: RouteRow, tables: Tables) -> Path | NoPath:
    """The path to ``address``.

    ``answer`` is the kernel's decision (interface, gateway, source), ``entry`` the route that it comes from: its
    prefix and MTU as configured, without what path MTU discovery learned for a while.
    """
    refusal = _refusal(address, answer)
    if refusal is not None:
        return refusal
    if answer.kind == RouteKind.LOCAL:
        return _to_ourselves(address, answer)
    link = _outgoing(address, answer, tables)
    if isinstance(link, NoPath):
        return link
    source = answer.source
    if source is None or source.is_loopback:  # with no better address the kernel names ::1, which no reply ever reaches
        source = source_address(address, link.ifindex, tables.addresses.values())
    if source is None:
        return NoPath(
            f"this node has no IPv{address.version} address to reach {address} from; add one to interface {link.name}"
        )
    gateway = answer.gateway or address
    onlink = gateway == address
    return Path(
        ifindex=link.ifindex,
        gateway=gateway,
        source=source,
        mtu=min(entry.mtu or link.mtu, link.mtu),
        mac=tables.neighbours.get((link.ifindex, gateway.packed)),
        onlink=onlink,
        host_route=onlink and entry.prefix_length == address.max_prefixlen,
    )


def source_address(address: IPAddress, ifindex: InterfaceIndex, rows: Iterable[AddressRow]) -> IPAddress | None:
    """An own address for packets to ``address`` whose route prefers none.

    The first of the interface that has the widest scope; where the interface has none of that family, the same among
    all interfaces (an unnumbered link borrows one).
    """
    usable = [
        row for row in rows if row.usable and row.address.version == address.version and not row.address.is_loopback
    ]
    local = [row for row in usable if row.ifindex == ifindex]
    borrowed = [row for row in usable if not row.address.is_link_local]
    best = min(local or borrowed, key=lambda row: row.scope, default=None)
    return best.address if best else None


def _refusal(address: IPAddress, answer: RouteRow) -> NoPath | None:
    match answer.kind:
        case RouteKind.LOCAL if address.is_loopback:
            return NoPath(f"{address} is a loopback address: name the one at which the server answers others")
        case RouteKind.UNICAST | RouteKind.LOCAL:
            return None
        case RouteKind.BROADCAST | RouteKind.MULTICAST | RouteKind.ANYCAST:
            return NoPath(f"{address} is a {RouteKind(answer.kind).name.lower()} address, no host's")
        case _:
            return unroutable(address, _KIND_ERRORS.get(answer.kind, errno.ENETUNREACH))


def _to_ourselves(address: IPAddress, answer: RouteRow) -> Path:
    """The node's stack takes the packets; nothing of the device that the kernel names matters."""
    ifindex = answer.interfaces[0] if answer.interfaces else InterfaceIndex(1)
    return Path(ifindex, address, address, _LONGEST, None, onlink=True, host_route=False, local=True)


def _outgoing(address: IPAddress, answer: RouteRow, tables: Tables) -> LinkRow | NoPath:
    if not answer.interfaces:
        return NoPath(f"the route to {address} has no interface; replace it by one with a gateway or interface")
    link = tables.links.get(answer.interfaces[0])
    if link is None:
        return NoPath(f"the interface of the route to {address} (index {answer.interfaces[0]}) is not there any more")
    if link.loopback:
        return NoPath(
            f"{address} is routed to the loopback interface {link.name}, which leads nowhere; "
            "add it to this node as an address, or route it to where it is"
        )
    if not link.up:
        return NoPath(f"interface {link.name}, which leads to {address}, is down or has no carrier")
    return link
