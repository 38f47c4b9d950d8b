"""Rows of services for the bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

from bench import B0_MAC, BACKEND_MAC, BACKEND_PORT, BACKENDS, C0_MAC, SOURCE, VIP, VIP_PORT, Bench
from frames import mac
from sluicegate_agent.datapath.model import (
    AddressFilter,
    Algorithm,
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    Interface,
    InterfaceFlag,
    InterfaceIndex,
    IPAddress,
    Nexthop,
    NexthopId,
    Protocol,
    Put,
    ServiceId,
    Settings,
    Table,
    address_hash,
)

SETTINGS = Settings(hop_generation=1)
IDLE_SECONDS = 120.0
TRANSLATING_MODES = (ForwardingMode.FULL_NAT, ForwardingMode.DNAT)
"""Modes in which requests and replies both pass the node and are rewritten."""


def setup_node(
    bench: Bench, settings: Settings = SETTINGS, flags: InterfaceFlag = InterfaceFlag.TAKES_REDIRECT
) -> None:
    """Settings and both interfaces."""
    bench.apply(Put(Table.SETTINGS, None, settings))
    for name, own in (("c0", C0_MAC), ("b0", B0_MAC)):
        bench.apply(Put(Table.INTERFACES, InterfaceIndex(bench.ifindex[name]), Interface(flags, 1500, mac(own))))


def setup_service(
    bench: Bench,
    *,
    family: int,
    protocol: Protocol = Protocol.TCP,
    mode: ForwardingMode = ForwardingMode.FULL_NAT,
    algorithm: Algorithm = Algorithm.MAGLEV,
    backends: int = 1,
    settings: Settings = SETTINGS,
    nexthop: Callable[[Nexthop], Nexthop] = lambda row: row,
    slots: tuple[int, ...] | None = None,
    service: int = 1,
    vip: str | None = None,
    frontend: Callable[[Frontend], Frontend] = lambda row: row,
    weights: tuple[int, ...] | None = None,
) -> list[BackendId]:
    """One VIP port with the first ``backends`` backends of the family; returns their ids, ``service`` * 10 and on.

    ``slots`` are indices into the returned ids. Services set up one after the other share backend addresses.
    """
    setup_node(bench, settings)
    addresses = [ip_address(address) for address in BACKENDS[family][:backends]]
    endpoint = Endpoint(ip_address(vip or VIP[family]), protocol, VIP_PORT)
    ids = [BackendId(service * 10 + index) for index in range(backends)]
    table = tuple(ids[slot] for slot in slots) if slots is not None else tuple(ids) * 7
    for backend_id, address, weight in zip(ids, addresses, weights or (1000,) * backends, strict=True):
        row = replace(backend_row(family, protocol, mode, address, backend_id, service), weight=weight)
        bench.apply(
            Put(Table.NEXTHOPS, NexthopId(backend_id), nexthop(nexthop_row(bench, address))),
            Put(Table.BACKENDS, backend_id, row),
        )
    frontend_id = FrontendId(service)
    before = bench.datapath.observe()
    bench.apply(
        Put(Table.SLOTS, ServiceId(service), table),
        Put(
            Table.FRONTENDS,
            frontend_id,
            frontend(Frontend(endpoint, ServiceId(service), len(table), algorithm, mode, IDLE_SECONDS)),
        ),
        Put(Table.FILTER, None, before.filter.union(filter_of(endpoint.address, addresses, mode))),
        Put(Table.VIPS, endpoint, frontend_id),
    )
    if mode is ForwardingMode.DNAT:
        for address in addresses:
            key = Endpoint(address, protocol, BACKEND_PORT)
            bench.apply(Put(Table.REVERSE, key, (*before.reverse.get(key, ()), frontend_id)))
    return ids


def set_state(bench: Bench, backend: BackendId, state: BackendState) -> None:
    """Move a backend to another state; FREE leaves nothing but its generation."""
    row = bench.datapath.observe().backends[backend]
    if state is BackendState.FREE:
        row = Backend(ServiceId(0), None, None, NexthopId(0), state, row.generation, 0)
    bench.apply(Put(Table.BACKENDS, backend, replace(row, state=state)))


def set_table(bench: Bench, slots: tuple[BackendId, ...], service: int = 1) -> None:
    """Swap a service's table in, the longer one of old and new being there at any time."""
    frontend = FrontendId(service)
    row = bench.datapath.observe().frontends[frontend]
    put_slots = Put(Table.SLOTS, ServiceId(service), slots)
    put_frontend = Put(Table.FRONTENDS, frontend, replace(row, slots=len(slots)))
    bench.apply(*((put_slots, put_frontend) if len(slots) >= row.slots else (put_frontend, put_slots)))


def nexthop_row(bench: Bench, address: IPAddress) -> Nexthop:
    """The way to an on-link backend."""
    return Nexthop(InterfaceIndex(bench.ifindex["b0"]), address, 1500, mac(B0_MAC), mac(BACKEND_MAC), xdp=True)


def backend_row(
    family: int,
    protocol: Protocol,
    mode: ForwardingMode,
    address: IPAddress,
    backend_id: BackendId,
    service: int = 1,
    *,
    state: BackendState = BackendState.ACTIVE,
    generation: int = 1,
) -> Backend:
    """The row of a backend of :func:`setup_service`."""
    source = ip_address(SOURCE[family]) if mode is ForwardingMode.FULL_NAT else None
    port = VIP_PORT if mode is ForwardingMode.DIRECT_RETURN else BACKEND_PORT
    endpoint = Endpoint(address, protocol, port)
    return Backend(ServiceId(service), endpoint, source, NexthopId(backend_id), state, generation)


def filter_of(vip: IPAddress, backends: list[IPAddress], mode: ForwardingMode) -> AddressFilter:
    """Filter bits of one service."""
    bits = frozenset(address_hash(address) for address in backends)
    by_mode = {ForwardingMode.FULL_NAT: "nat_backends", ForwardingMode.DNAT: "dnat_backends"}
    vips = AddressFilter(vips=frozenset({address_hash(vip)}))
    return replace(vips, **{by_mode[mode]: bits}) if mode in by_mode else vips
