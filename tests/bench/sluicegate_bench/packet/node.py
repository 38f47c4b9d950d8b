"""The node under measurement: its network, its services, and their flows."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import numpy as np

import bench as dataplane
import services
from sluicegate_agent.datapath.kernel import KernelDatapath
from sluicegate_agent.datapath.model import (
    AddressFilter,
    Algorithm,
    BackendId,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    NexthopId,
    Operation,
    Protocol,
    Put,
    ServiceId,
    Settings,
    Table,
)
from sluicegate_agent.datapath.tables import KernelTable, KernelTables
from sluicegate_agent.kernel.libbpf import Program
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.planning.tables import Entry, TableCache
from sluicegate_bench.common.rig import load_real, own_network, pin_directory
from sluicegate_bench.packet.flows import NAT_PORT, PEERS, Service, known, network_order, peers

FIRST_CLIENT = {4: "10.1.0.16", 6: "fd01::10"}
FIRST_BACKEND = {
    ForwardingMode.FULL_NAT: {4: "10.2.0.16", 6: "fd02::10"},
    ForwardingMode.DNAT: {4: "10.2.0.48", 6: "fd02::30"},
    ForwardingMode.DIRECT_RETURN: {4: "10.2.0.80", 6: "fd02::50"},
}
"""Apart by mode: a reply of an address that serves in two modes is looked up twice."""

_PLACE = 96

SETTINGS = Settings(hop_generation=1, half_open_limit=1 << 30)
"""No limit to half-open flows: a run of SYNs alone is a flood otherwise."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A service to measure: it has PEERS backends and a VIP port of its own."""

    family: int
    protocol: Protocol
    mode: ForwardingMode
    algorithm: Algorithm
    port: int
    place: int = 0
    """Services of one mode in different places share no backend's address: DNAT would have to tell them apart."""


@dataclass
class Node(dataplane.Bench):
    """Both hooks, configured."""

    _filter: AddressFilter = field(default_factory=AddressFilter)
    _reverse: dict[Endpoint, tuple[FrontendId, ...]] = field(default_factory=dict)

    def add(self, number: int, kind: Kind) -> Service:
        """Configure service ``number``, from 1."""
        backends = [address + kind.place * _PLACE for address in peers(FIRST_BACKEND[kind.mode][kind.family])]
        ids = tuple(BackendId(number * PEERS + index) for index in range(PEERS))
        vip = ip_address(dataplane.VIP[kind.family])
        endpoint = Endpoint(vip, kind.protocol, kind.port)
        operations: list[Operation] = []
        for backend_id, address in zip(ids, backends, strict=True):
            row = services.backend_row(kind.family, kind.protocol, kind.mode, address, backend_id, number)
            if kind.mode is ForwardingMode.DIRECT_RETURN:
                row = replace(row, endpoint=Endpoint(address, kind.protocol, kind.port))
            operations += [
                Put(Table.NEXTHOPS, NexthopId(backend_id), services.nexthop_row(self, address)),
                Put(Table.BACKENDS, backend_id, row),
            ]
        names = [
            Entry(f"{address}:{dataplane.BACKEND_PORT}", 1000, one) for address, one in zip(backends, ids, strict=True)
        ]
        table = TableCache().slots(kind.algorithm, PEERS, names)
        frontend = Frontend(endpoint, ServiceId(number), len(table), kind.algorithm, kind.mode, services.IDLE_SECONDS)
        self._filter = self._filter.union(services.filter_of(vip, backends, kind.mode))
        operations += [
            Put(Table.SLOTS, ServiceId(number), table),
            Put(Table.FRONTENDS, FrontendId(number), frontend),
            Put(Table.FILTER, None, self._filter),
            Put(Table.VIPS, endpoint, FrontendId(number)),
        ]
        if kind.mode is ForwardingMode.DNAT:
            for address in backends:
                place = Endpoint(address, kind.protocol, dataplane.BACKEND_PORT)
                self._reverse[place] = (*self._reverse.get(place, ()), FrontendId(number))
                operations.append(Put(Table.REVERSE, place, self._reverse[place]))
        self.apply(*operations)
        return Service(
            FrontendId(number),
            kind.protocol,
            ip_address(FIRST_CLIENT[kind.family]),
            vip,
            ids,
            backends[0],
            kind.port if kind.mode is ForwardingMode.DIRECT_RETURN else dataplane.BACKEND_PORT,
            ip_address(dataplane.SOURCE[kind.family]) if kind.mode is ForwardingMode.FULL_NAT else None,
        )

    def forget(self) -> None:
        """Empty the tables of flows, and the counts that selection compares."""
        for name in ("flows4", "flows6", "nat4", "nat6"):
            empty(self.tables[name])
        load = self.tables["backend_load"]
        keys = b"".join(index.to_bytes(4, "little") for index in range(load.capacity))
        load.map.update_batch(keys, bytes(load.capacity * load.map.stored_size), load.capacity)

    def know(self, service: Service) -> None:
        """Flows of this service, and of no other."""
        self.forget()
        for table, keys, values in known(service, self.tables):
            table.map.update_batch(keys, values, len(keys) // table.map.info.key_size)

    def occupy_first_port(self, service: Service) -> None:
        """The first FullNAT port towards every backend belongs to somebody; each backend holds some flows."""
        (_, (nat, keys, values)) = known(service, self.tables)
        rows = np.frombuffer(keys, nat.key)
        taken = np.flatnonzero(rows["source_port"] == network_order(np.array([NAT_PORT], np.uint32)))
        for index in taken:
            nat.map.update(rows[index].tobytes(), values[index * nat.value.itemsize : (index + 1) * nat.value.itemsize])
        load = self.tables["backend_load"]
        for number, backend in enumerate(service.backends):
            load.put(backend, (100 + number).to_bytes(load.value.itemsize, "little"))


def empty(table: KernelTable) -> None:
    """Delete all rows of a hash."""
    size = table.map.info.key_size
    for keys, _, count in list(table.map.items_batch()):
        for row in range(count):
            table.map.delete(keys[row * size : (row + 1) * size])


@contextmanager
def node(sources: Path | None = None, **features: bool) -> Iterator[Node]:
    """A node in a namespace of its own, the calling thread in it."""
    with pin_directory() as pins:
        manifest = load_real(pins, sources=sources, **features)
        with own_network():
            dataplane.lay_out_network()
            _add_neighbours()
            with _open(manifest) as one:
                services.setup_node(one, SETTINGS)
                yield one


@contextmanager
def _open(manifest: Manifest) -> Iterator[Node]:
    datapath = KernelDatapath(manifest)
    programs = {
        dataplane.Hook.XDP: Program.open(manifest.programs["xdp_main"].path),
        dataplane.Hook.TC: Program.open(manifest.programs["tc_ingress"].path),
    }
    ifindex = {name: socket.if_nametoindex(name) for name in ("c0", "b0")}
    try:
        with KernelTables(manifest) as tables:
            yield Node(manifest, datapath, tables, ifindex, programs)
    finally:
        for program in programs.values():
            program.close()
        datapath.close()


def _add_neighbours() -> None:
    client, backend = dataplane.CLIENT_MAC, dataplane.BACKEND_MAC
    for family in (4, 6):
        dataplane.ip(
            *(f"neigh replace {a} lladdr {client} dev c0 nud permanent" for a in peers(FIRST_CLIENT[family])),
            *(
                f"neigh replace {address} lladdr {backend} dev b0 nud permanent"
                for mode in FIRST_BACKEND.values()
                for address in peers(mode[family])
            ),
        )
