"""Questions to the kernel of the current network namespace about its network, answered as values."""

from __future__ import annotations

import errno

from sluicegate_agent.datapath.model import InterfaceIndex, IPAddress
from sluicegate_agent.network.model import NoPath, Path
from sluicegate_agent.network.netlink import ROUTE, Message, NetlinkError, Requests
from sluicegate_agent.network.resolve import resolve, unroutable
from sluicegate_agent.network.rtnetlink import (
    MAIN_TABLE,
    Kind,
    RouteKind,
    RouteRow,
    addresses_request,
    forwarding_request,
    links_request,
    lookup_request,
    neighbours_request,
    parse_route,
    routes_request,
)
from sluicegate_agent.network.tables import Tables, Work

_NOT_THERE = {errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP}
"""No such table yet, or a kernel without that family."""


class Reader:
    """One request socket. Every method may raise :class:`NetlinkError` where the kernel refuses to tell."""

    def __init__(self) -> None:
        self._requests = Requests(ROUTE)

    def tables(self) -> Tables:
        """Links, addresses, neighbours and forwarding as they are now; ``redirect`` stays empty."""
        tables, unused = Tables(), Work()
        dumps = (
            (Kind.GET_LINK, Kind.NEW_LINK, links_request()),
            (Kind.GET_ADDRESS, Kind.NEW_ADDRESS, addresses_request()),
            (Kind.GET_NEIGHBOUR, Kind.NEW_NEIGHBOUR, neighbours_request()),
        )
        for question, answer, request in dumps:
            for body in self._requests.dump(question, request):
                tables.apply(Message(answer, 0, 0, body), unused)
        for version in (4, 6):
            answered = self._forwarding(version)
            if answered is not None:
                tables.apply(Message(Kind.NEW_NETCONF, 0, 0, answered), unused)
        return tables

    def path(self, address: IPAddress, tables: Tables) -> Path | NoPath:
        """How this node reaches an address now."""
        try:
            answer = parse_route(self._requests.ask(Kind.GET_ROUTE, lookup_request(address, entry=False)))
            entry = parse_route(self._requests.ask(Kind.GET_ROUTE, lookup_request(address, entry=True)))
        except NetlinkError as error:
            return unroutable(address, error.errno or 0)
        return resolve(address, answer, entry, tables)

    def default_interfaces(self) -> frozenset[InterfaceIndex]:
        """Interfaces that hold a default route of the main table, in either family."""
        found: set[InterfaceIndex] = set()
        for version in (4, 6):
            for route in self._default_routes(version):
                found.update(route.interfaces if route.kind == RouteKind.UNICAST else ())
        return frozenset(found)

    def close(self) -> None:
        """Close the socket."""
        self._requests.close()

    def _default_routes(self, version: int) -> list[RouteRow]:
        try:
            bodies = self._requests.dump(Kind.GET_ROUTE, routes_request(version, MAIN_TABLE), keep=_is_default)
        except NetlinkError as error:
            if error.errno in _NOT_THERE:
                return []
            raise
        return [parse_route(body) for body in bodies]

    def _forwarding(self, version: int) -> bytes | None:
        try:
            return self._requests.ask(Kind.GET_NETCONF, forwarding_request(version))
        except NetlinkError as error:
            if error.errno in _NOT_THERE:
                return None
            raise


def _is_default(route: bytes) -> bool:
    return route[1] == 0  # rtm_dst_len; looked at before parsing, a node may hold a million routes
