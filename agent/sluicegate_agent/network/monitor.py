"""Keeps a :class:`NetworkSnapshot` of the current network namespace fresh from netlink events."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import MappingProxyType
from typing import Self

from sluicegate_agent.datapath.model import IPAddress
from sluicegate_agent.network.model import NetworkSnapshot, NoPath, Path
from sluicegate_agent.network.netlink import ROUTE, Events, Message, NetlinkError
from sluicegate_agent.network.reader import Reader
from sluicegate_agent.network.rtnetlink import GROUPS
from sluicegate_agent.network.tables import Hop, Tables, Work
from sluicegate_agent.network.xdp_features import XdpFeatures

_log = logging.getLogger(__name__)

_COALESCE_SECONDS = 0.02
_RETRY_SECONDS = 1.0
_REST_FACTOR = 5  # rest this many times as long as a refresh took: never more than a sixth of a core
_MOST_REST_SECONDS = 1.0
_GONE_SECONDS = 1.0  # vanished neighbours, mostly old ones that the kernel collects, move the generation this seldom
_BATCH = 500
_LOOKUPS_AT_ONCE = 250


class NetworkMonitor:
    """Watches links, addresses, neighbours and the ways to given addresses.

    An async context manager; the namespace is the one that the thread is in when it is entered. One consumer reads
    :attr:`snapshot` and waits in :meth:`changed`.
    """

    def __init__(self) -> None:
        self._watched: frozenset[IPAddress] = frozenset()
        self._tables = Tables()
        self._hops: dict[Hop, list[IPAddress]] = {}
        self._work = Work(reread=True)
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._gone_timer: asyncio.TimerHandle | None = None
        # Hops that flows cached under a former agent must not look fresh, so the count starts anywhere.
        self._snapshot = NetworkSnapshot(hop_generation=secrets.randbelow(1 << 16))

    async def __aenter__(self) -> Self:
        with ExitStack() as opened:
            self._events = Events(ROUTE, GROUPS)
            opened.callback(self._events.close)
            self._reader = Reader()
            opened.callback(self._reader.close)
            self._features = _open_features()
            if self._features is not None:
                opened.callback(self._features.close)
            await self._refresh()
            self._opened = opened.pop_all()
        self._tasks = [
            asyncio.create_task(self._follow(self._events, self._take_event)),
            asyncio.create_task(self._keep_fresh()),
        ]
        if self._features is not None:
            self._tasks.append(asyncio.create_task(self._follow(self._features.events, self._take_feature)))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._gone_timer is not None:
            self._gone_timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._opened.close()

    @property
    def snapshot(self) -> NetworkSnapshot:
        """The network as it is known now. Parts that did not change are the same objects as before."""
        return self._snapshot

    def watch(self, addresses: frozenset[IPAddress]) -> None:
        """Find the ways to these addresses, and only these, from now on; the next snapshots hold them."""
        if addresses != self._watched:
            self._watched = addresses
            self._wake.set()

    async def changed(self) -> None:
        """Return once the snapshot is another one than when this returned last. Raises what broke the monitor."""
        waiter = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait([waiter, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        for task in self._tasks:
            if task.done():
                task.result()
        self._changed.clear()

    async def _follow(self, events: Events, take: Callable[[Message], None]) -> None:
        while True:
            await _readable(events.fileno())
            await asyncio.sleep(_COALESCE_SECONDS)
            more = True
            while more:
                batch = events.read(_BATCH)
                for message in batch.messages:
                    take(message)
                self._work.reread = self._work.reread or batch.lost
                if self._work != Work():
                    self._wake.set()
                more = batch.more
                await asyncio.sleep(0)

    def _take_event(self, message: Message) -> None:
        self._tables.apply(message, self._work)

    def _take_feature(self, message: Message) -> None:
        device = self._features.parse_event(message) if self._features is not None else None
        if device is not None:
            self._tables.set_redirect(*device, self._work)

    async def _keep_fresh(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            started = loop.time()
            try:
                await self._refresh()
            except OSError as error:
                _log.warning("the kernel did not tell the state of the network: %s; asking again", error)
                self._work.reread = True
                self._wake.set()
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(min(_MOST_REST_SECONDS, _REST_FACTOR * (loop.time() - started)))

    async def _refresh(self) -> None:
        work, self._work = self._work, Work()
        if work.reread:
            self._read_tables()
            work.lookups = work.defaults = work.publish = work.moved = True
        before = self._snapshot
        defaults = self._reader.default_interfaces() if work.defaults else before.default_interfaces
        paths = await self._paths(work, before.paths)
        if work.gone and self._gone_timer is None:
            self._gone_timer = asyncio.get_running_loop().call_later(_GONE_SECONDS, self._neighbours_gone)
        after = replace(
            before,
            default_interfaces=defaults,
            paths=paths,
            hop_generation=(before.hop_generation + work.moved) & 0xFFFFFFFF,
        )
        if work.publish:
            after = self._with_tables(after)
        if after != before:
            self._snapshot = after
            self._changed.set()

    def _read_tables(self) -> None:
        self._tables = self._reader.tables()
        if self._features is not None:
            self._tables.redirect = self._features.read()

    def _with_tables(self, snapshot: NetworkSnapshot) -> NetworkSnapshot:
        tables = self._tables
        return replace(
            snapshot,
            links=MappingProxyType({index: tables.link(row) for index, row in tables.links.items()}),
            addresses=frozenset(row.address for row in tables.addresses.values()),
            forwarding=MappingProxyType(dict(tables.forwarding)),
        )

    async def _paths(self, work: Work, before: Mapping[IPAddress, Path | NoPath]) -> Mapping[IPAddress, Path | NoPath]:
        watched = self._watched
        stale = set(watched if work.lookups else watched - before.keys())
        for prefix in work.prefixes if not work.lookups else ():
            stale.update(address for address in watched if prefix.holds(address))
        if work.interfaces:
            stale.update(
                address
                for address, path in before.items()
                if address in watched and (isinstance(path, NoPath) or path.ifindex in work.interfaces)
            )
        moved = [address for hop in work.hops & self._hops.keys() for address in self._hops[hop]]
        if not stale and not moved and len(watched) == len(before):
            return before
        paths = {address: path for address, path in before.items() if address in watched}
        for count, address in enumerate(stale):
            if count % _LOOKUPS_AT_ONCE == _LOOKUPS_AT_ONCE - 1:
                await asyncio.sleep(0)
            paths[address] = self._reader.path(address, self._tables)
        for address in moved:
            path = paths.get(address)
            if isinstance(path, Path):
                paths[address] = replace(path, mac=self._tables.neighbours.get((path.ifindex, path.gateway.packed)))
        if paths == before:
            return before
        self._hops = _hops(paths)
        return MappingProxyType(paths)

    def _neighbours_gone(self) -> None:
        self._gone_timer = None
        self._work.moved = True
        self._wake.set()


def _hops(paths: Mapping[IPAddress, Path | NoPath]) -> dict[Hop, list[IPAddress]]:
    hops: dict[Hop, list[IPAddress]] = defaultdict(list)
    for address, path in paths.items():
        if isinstance(path, Path):
            hops[path.ifindex, path.gateway.packed].append(address)
    return dict(hops)


def _open_features() -> XdpFeatures | None:
    try:
        return XdpFeatures()
    except NetlinkError as error:
        _log.warning(
            "this kernel does not tell which devices take redirected frames (netlink family netdev: %s); "
            "packets to all of them go through tc, which is slower; Linux 6.3 and later tell it",
            error.strerror,
        )
        return None


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
