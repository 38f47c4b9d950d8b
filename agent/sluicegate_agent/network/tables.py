"""The kernel's links, addresses and neighbours as events leave them, and the work that each event causes. Pure.

Thousands of neighbours change their reachability all the time, and every new pod brings routes and a link. So an
event names the least that has to be done: look up all watched addresses, those inside a prefix, or none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sluicegate_agent.datapath.model import InterfaceIndex, IPAddress
from sluicegate_agent.network.model import Link
from sluicegate_agent.network.netlink import Message
from sluicegate_agent.network.rtnetlink import (
    AddressRow,
    Kind,
    LinkRow,
    parse_address,
    parse_forwarding,
    parse_link,
    parse_neighbour,
    parse_route,
)

Hop = tuple[InterfaceIndex, bytes]
"""A neighbour: interface and packed address."""

_MOST_PREFIXES = 16


@dataclass(frozen=True, slots=True)
class Prefix:
    """Destination of a route; ``network`` is the address as a number."""

    version: int
    network: int
    length: int

    def holds(self, address: IPAddress) -> bool:
        """Whether the route can be the one to ``address``."""
        shift = address.max_prefixlen - self.length
        return address.version == self.version and int(address) >> shift == self.network >> shift


@dataclass(slots=True)
class Work:
    """What is left to do after some events.

    reread: events were lost, read everything again. lookups: look up every watched address. prefixes: only the
    addresses inside. interfaces: only those reached through them, and those without a path. hops: neighbours whose
    hardware address is another one. defaults: find the default routes again. publish: something in the snapshot
    changed. moved: cached client hops may be wrong. gone: a neighbour vanished, cached client hops should be asked
    again before long.
    """

    reread: bool = False
    lookups: bool = False
    prefixes: set[Prefix] = field(default_factory=set)
    interfaces: set[InterfaceIndex] = field(default_factory=set)
    hops: set[Hop] = field(default_factory=set)
    defaults: bool = False
    publish: bool = False
    moved: bool = False
    gone: bool = False

    def add_prefix(self, prefix: Prefix) -> None:
        """Note a changed route; beyond a few it is cheaper to look up everything."""
        if len(self.prefixes) < _MOST_PREFIXES:
            self.prefixes.add(prefix)
        else:
            self.lookups = True


@dataclass(slots=True)
class Tables:
    """The state that events change. ``neighbours`` holds those with a valid hardware address only."""

    links: dict[InterfaceIndex, LinkRow] = field(default_factory=dict)
    addresses: dict[tuple[InterfaceIndex, IPAddress], AddressRow] = field(default_factory=dict)
    neighbours: dict[Hop, bytes] = field(default_factory=dict)
    forwarding: dict[int, bool] = field(default_factory=dict)
    redirect: dict[InterfaceIndex, bool] = field(default_factory=dict)

    def apply(self, message: Message, work: Work) -> None:
        """Take in one rtnetlink event and add to ``work`` what it makes necessary."""
        match message.kind:
            case Kind.NEW_NEIGHBOUR | Kind.DEL_NEIGHBOUR:
                self._neighbour(message.body, work, present=message.kind == Kind.NEW_NEIGHBOUR)
            case Kind.NEW_ROUTE | Kind.DEL_ROUTE:
                _route(message.body, work)
            case Kind.NEW_LINK | Kind.DEL_LINK:
                self._link(message.body, work, present=message.kind == Kind.NEW_LINK)
            case Kind.NEW_ADDRESS | Kind.DEL_ADDRESS:
                self._address(message.body, work, present=message.kind == Kind.NEW_ADDRESS)
            case Kind.NEW_RULE | Kind.DEL_RULE | Kind.NEW_NEXTHOP | Kind.DEL_NEXTHOP:
                work.lookups = work.moved = work.defaults = True
            case Kind.NEW_NETCONF:
                self._forwarding(message.body, work)
            case _:
                pass

    def set_redirect(self, ifindex: InterfaceIndex, takes: bool, work: Work) -> None:
        """Take in whether a device transmits frames that XDP redirects to it."""
        if self.redirect.get(ifindex, False) != takes:
            self.redirect[ifindex] = takes
            work.publish = work.moved = True

    def link(self, row: LinkRow) -> Link:
        """A link as the rest of the agent sees it."""
        takes_redirect = self.redirect.get(row.ifindex, False)
        return Link(row.ifindex, row.name, row.kind, row.mtu, row.mac, row.up, row.ethernet, takes_redirect)

    def _neighbour(self, body: bytes, work: Work, *, present: bool) -> None:
        row = parse_neighbour(body)
        if row is None:
            return
        hop = (row.ifindex, row.address)
        link = self.links.get(row.ifindex)
        before, now = self.neighbours.get(hop), row.mac if present else None
        if before == now or (link is not None and link.loopback):
            return
        work.hops.add(hop)
        if now is None:
            del self.neighbours[hop]
            work.gone = True
        else:
            self.neighbours[hop] = now
            work.moved = work.moved or before is not None

    def _link(self, body: bytes, work: Work, *, present: bool) -> None:
        row = parse_link(body)
        if row is None:
            return
        before = self.links.get(row.ifindex)
        if present and before == row:
            return
        if present:
            self.links[row.ifindex] = row
        else:
            self.links.pop(row.ifindex, None)
            self.redirect.pop(row.ifindex, None)
        work.publish = True
        # The kernel drops and revives the IPv4 routes of a link without a word, so everything may lead elsewhere.
        was_up, is_up = before is not None and before.up, present and row.up
        if was_up or is_up:
            work.lookups = work.defaults = True
            work.moved = work.moved or before is not None

    def _address(self, body: bytes, work: Work, *, present: bool) -> None:
        row = parse_address(body)
        if row is None:
            return
        key = (row.ifindex, row.address)
        before = self.addresses.get(key)
        if before == (row if present else None):
            return
        if present:
            self.addresses[key] = row
        else:
            del self.addresses[key]
        work.publish = True
        if row.address.version == 6 and row.address.is_link_local:
            work.interfaces.add(row.ifindex)  # every new pod's interface brings one; it serves nobody else
        else:
            work.lookups = work.defaults = True  # routes with this preferred source went with it, again without a word

    def _forwarding(self, body: bytes, work: Work) -> None:
        found = parse_forwarding(body)
        if found is not None and self.forwarding.get(found[0]) != found[1]:
            self.forwarding[found[0]] = found[1]
            work.publish = True


def _route(body: bytes, work: Work) -> None:
    row = parse_route(body)
    if row.cloned:
        return
    work.moved = True
    work.add_prefix(Prefix(row.version, row.destination, row.prefix_length))
    work.defaults = work.defaults or row.prefix_length == 0
