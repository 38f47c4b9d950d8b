"""Rows of the kernel's tables that follow from other rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sluicegate_agent.datapath.invariants import REVERSE_FRONTENDS
from sluicegate_agent.datapath.model import (
    AddressFilter,
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
    IPNetwork,
    KernelState,
    ServiceId,
    address_hash,
)
from sluicegate_agent.network.model import Link, NetworkSnapshot
from sluicegate_agent.planning.attachments import LOOPBACK
from sluicegate_agent.planning.services import Service


def rows_in_use(observed: KernelState) -> dict[BackendId, Backend]:
    """Backends that are not free."""
    return {identity: row for identity, row in observed.backends.items() if row.state is not BackendState.FREE}


def interface_rows(snapshot: NetworkSnapshot, needed: Collection[InterfaceIndex]) -> dict[InterfaceIndex, Interface]:
    """Every interface that a packet may take: those that are up, because a client's way back may lead through any."""
    return {
        link.ifindex: _interface(link)
        for link in snapshot.links.values()
        if link.ifindex in needed or (link.up and link.ethernet and link.name != LOOPBACK)
    }


def _interface(link: Link) -> Interface:
    flags = InterfaceFlag(0)
    if link.takes_redirect:
        flags |= InterfaceFlag.TAKES_REDIRECT
    if link.kind:
        flags |= InterfaceFlag.PARTIAL_CHECKSUMS
    if not link.ethernet:
        flags |= InterfaceFlag.L3
    return Interface(flags, link.mtu, link.mac if link.ethernet else b"")


def reverse_rows(
    backends: Iterable[Backend], frontends: Mapping[FrontendId, Frontend]
) -> dict[Endpoint, tuple[FrontendId, ...]]:
    """Which frontends each backend endpoint that is reached in DNAT may answer for.

    Services for which it takes new flows come before those for which it only keeps old ones, should all not fit.
    """
    by_service: dict[ServiceId, list[FrontendId]] = {}
    local_only: dict[ServiceId, list[FrontendId]] = {}
    for identity, frontend in sorted(frontends.items()):
        if frontend.mode is ForwardingMode.DNAT:
            by_service.setdefault(frontend.service, []).append(identity)
        elif frontend.mode is ForwardingMode.FULL_NAT:
            local_only.setdefault(frontend.service, []).append(identity)
    rows: dict[Endpoint, list[FrontendId]] = {}
    for backend in sorted(backends, key=lambda row: (row.state is BackendState.DRAINING, row.service)):
        if backend.source is None and backend.endpoint is not None:
            row = rows.setdefault(backend.endpoint, [])
            row.extend(by_service.get(backend.service, ()))
            row.extend(local_only.get(backend.service, ()) if backend.local else ())
    return {endpoint: tuple(sorted(row[:REVERSE_FRONTENDS])) for endpoint, row in rows.items() if row}


def source_rows(services: Mapping[ServiceId, Service]) -> dict[ServiceId, frozenset[IPNetwork]]:
    """Allowed clients of the services that do not serve all."""
    return {identity: service.sources for identity, service in services.items() if service.sources is not None}


def address_filter(
    vips: Iterable[Endpoint], backends: Iterable[Backend], services: Mapping[ServiceId, Service]
) -> AddressFilter:
    """Bits of every VIP and of every backend that still has flows whose replies come through this node."""
    nat: set[int] = set()
    dnat: set[int] = set()
    for backend in backends:
        service = services.get(backend.service)
        if backend.endpoint is None or (service and service.mode is ForwardingMode.DIRECT_RETURN):
            continue
        (dnat if backend.source is None else nat).add(address_hash(backend.endpoint.address))
    return AddressFilter(frozenset(address_hash(vip.address) for vip in vips), frozenset(nat), frozenset(dnat))
