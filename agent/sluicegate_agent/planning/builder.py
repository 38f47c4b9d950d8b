"""Makes the desired state from configuration, network, health and what the kernel holds. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from sluicegate_agent.datapath.model import (
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    InterfaceIndex,
    IPAddress,
    KernelState,
    Nexthop,
    NexthopId,
    ServiceId,
    Settings,
    Slots,
)
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.planning.attachments import arrival_interfaces, attachments
from sluicegate_agent.planning.capacity import full
from sluicegate_agent.planning.desired import Desired, Limits, Names, Problems
from sluicegate_agent.planning.ids import (
    BackendKey,
    IdPool,
    Member,
    ServiceIdentity,
    ServiceKey,
    next_generation,
    recover_services,
)
from sluicegate_agent.planning.lifecycle import Configured, Lifecycle, advance
from sluicegate_agent.planning.rows import address_filter, interface_rows, reverse_rows, rows_in_use, source_rows
from sluicegate_agent.planning.scene import Scene, outcomes_of, routes_to, steers_of
from sluicegate_agent.planning.services import Service, admit, expand
from sluicegate_agent.planning.steer import THOUSANDTHS, Steer
from sluicegate_agent.planning.tables import Entry, TableCache
from sluicegate_api.backends import endpoint_text
from sluicegate_api.loadbalancer import LoadBalancer

_UNSTEERED: Final[Mapping[BackendKey, Steer]] = MappingProxyType({})
_NOT_SNIFFED: Final[Mapping[InterfaceIndex, str]] = MappingProxyType({})
_HOP_GENERATIONS: Final = 65_535
"""``struct hop.generation`` has 16 bits; 0 is left for hops that were never resolved."""


class DesiredBuilder:
    """Turns what should be and what is into :class:`Desired`.

    Remembers ids, drains under way and built tables. All of it can be lost: ids are found again in the kernel, and
    drains start anew.
    """

    def __init__(self, limits: Limits, settings: Settings) -> None:
        """``settings`` are the agent's; their hop generation is replaced."""
        self._limits = limits
        self._settings = settings
        self._services: IdPool[ServiceIdentity] = IdPool(limits.services - 1)
        self._frontends: IdPool[tuple[Endpoint, ForwardingMode]] = IdPool(limits.frontends - 1)
        self._backends: IdPool[Member] = IdPool(limits.backends - 1)
        self._nexthops: IdPool[Nexthop] = IdPool(limits.nexthops - 1)
        self._tables = TableCache()
        self._drains: Mapping[Member, float] = {}
        self._hop_base: int | None = None

    def build(
        self,
        accepted: Sequence[LoadBalancer],
        snapshot: NetworkSnapshot,
        health: Mapping[BackendKey, HealthState],
        observed: KernelState,
        now: float,
        *,
        steering: Mapping[BackendKey, Steer] = _UNSTEERED,
        sniffed: Mapping[InterfaceIndex, str] = _NOT_SNIFFED,
    ) -> Desired:
        """The tables for ``accepted``, in which no two objects claim the same VIP, protocol and port.

        ``health`` holds the backends that are checked, ``steering`` those that are not simply to get their configured
        weight, ``sniffed`` gives the reason for each interface that is. ``now`` is any clock that only goes forward, in
        seconds.
        """
        admitted = admit(
            [each for balancer in accepted for each in expand(balancer)],
            snapshot.addresses,
            observed.vips,
            self._limits.sources,
        )
        refused = dict(admitted.refused)
        scene = self._scene(admitted.services, snapshot, observed, refused)
        steers = steers_of(scene, steering)
        life = self._advance(scene, health, steers, observed, now)
        rows = self._backend_rows(scene, life, steers, observed)
        slots = self._slots(scene.services, rows)
        frontends = self._frontend_rows(scene.services, slots, observed, refused)
        outcomes = outcomes_of(scene, rows, life, steers, self._limits)
        panics = {scene.services[identity].key: panic for identity, panic in life.panics.items()}
        problems = Problems()
        problems.add_all(admitted.services, outcomes, refused, panics)
        arrivals = _arrivals(accepted, admitted.services, snapshot, problems)
        backends = dict(rows.values())
        used = {row.nexthop for row in backends.values()}
        nexthops = {NexthopId(identity): hop for hop, identity in scene.hops.items() if identity in used}
        vips = {row.endpoint: identity for identity, row in frontends.items()}
        towards = _towards(backends, nexthops)
        attached = attachments(arrivals, towards, [vip.address for vip in vips], snapshot, sniffed)
        state = KernelState(
            settings=replace(self._settings, hop_generation=self._hop_generation(snapshot, observed)),
            interfaces=interface_rows(snapshot, attached.keys() | {hop.ifindex for hop in nexthops.values()}),
            nexthops=nexthops,
            backends=backends,
            slots=slots,
            frontends=frontends,
            vips=vips,
            reverse=reverse_rows(backends.values(), frontends),
            sources=source_rows(scene.services),
            filter=address_filter(vips, backends.values(), scene.services),
        )
        names = Names(
            {identity: (scene.services[row.service].key, row.endpoint) for identity, row in frontends.items()},
            {identity: service.key for identity, service in scene.services.items()},
            {outcome.id: key for key, outcome in outcomes.items() if outcome.id is not None},
        )
        return Desired(
            state, attached, names, admitted.services, outcomes, refused, problems.by_object(), life.wake_at, panics
        )

    def _scene(
        self,
        services: Sequence[Service],
        snapshot: NetworkSnapshot,
        observed: KernelState,
        refused: dict[tuple[ServiceKey, Endpoint], str],
    ) -> Scene:
        by_identity = {service.identity: service for service in services}
        endpoints = {
            identity: (service.vips, [backend.endpoint for backend in service.backends])
            for identity, service in by_identity.items()
        }
        ids = self._services.assign(by_identity, recover_services(endpoints, observed, self._services.held))
        for service in services:
            if service.identity not in ids:
                refused.update(
                    {(service.key, vip): full("services", self._limits.services - 1) for vip in service.vips}
                )
        numbered = {ServiceId(identity): by_identity[key] for key, identity in ids.items()}
        members = {
            Member(identity, backend.endpoint): (service, backend)
            for identity, service in numbered.items()
            for backend in service.backends
        }
        present = {
            Member(row.service, row.endpoint): (identity, row)
            for identity, row in rows_in_use(observed).items()
            if row.endpoint is not None
        }
        routes = routes_to(numbered, members, present, snapshot, observed)
        ways = [way.hop for way in routes.values() if way.hop]
        present_hops: dict[int, Nexthop | None] = dict(observed.nexthops.items())
        hops = self._nexthops.assign(ways, present_hops)
        return Scene(numbered, members, present, routes, hops)

    def _advance(
        self,
        scene: Scene,
        health: Mapping[BackendKey, HealthState],
        steers: Mapping[Member, Steer],
        observed: KernelState,
        now: float,
    ) -> Lifecycle:
        configured = {
            member: Configured(
                backend.weight,
                health.get(backend.key),
                scene.hop_id(member) != 0,
                held=steers[member].out,
                down=steers[member].down,
            )
            for member, (_, backend) in scene.members.items()
        }
        kept = {(vip, service.mode) for service in scene.services.values() for vip in service.vips}
        reachable = {row.service for row in observed.frontends.values() if (row.endpoint, row.mode) in kept}
        in_use = {member.service for member in scene.present}
        life = advance(
            configured,
            {member: row.state for member, (_, row) in scene.present.items()},
            self._drains,
            now,
            drain_seconds={identity: service.drain_seconds for identity, service in scene.services.items()},
            abandoned=in_use - scene.services.keys() - reachable,
        )
        self._drains = life.drains
        return life

    def _backend_rows(
        self, scene: Scene, life: Lifecycle, steers: Mapping[Member, Steer], observed: KernelState
    ) -> dict[Member, tuple[BackendId, Backend]]:
        holders: dict[int, Member | None] = {identity: member for member, (identity, _) in scene.present.items()}
        spent = observed.backends.keys() - holders.keys()
        ids = self._backends.assign(life.states, holders, spent)
        rows: dict[Member, tuple[BackendId, Backend]] = {}
        for member, number in ids.items():
            identity = BackendId(number)
            before = observed.backends.get(identity)
            if member in scene.present and before:
                generation = before.generation
            else:
                generation = next_generation(before.generation if before else 0)
            row = Backend(
                service=member.service,
                endpoint=member.endpoint,
                source=scene.routes[member].source,
                local=scene.is_local(member),
                nexthop=scene.hop_id(member),
                state=life.states[member],
                generation=generation,
                weight=_weight(scene, life, steers, member),
            )
            rows[member] = (identity, row)
        return rows

    def _slots(
        self, services: Mapping[ServiceId, Service], rows: Mapping[Member, tuple[BackendId, Backend]]
    ) -> dict[ServiceId, Slots]:
        slots: dict[ServiceId, Slots] = {}
        for identity, service in services.items():
            usable: list[Entry] = []
            for backend in service.backends:
                number, row = rows.get(Member(identity, backend.endpoint), (None, None))
                if number is not None and row is not None and row.state is BackendState.ACTIVE:
                    usable.append(Entry(endpoint_text(backend.key.address, backend.key.port), row.weight, number))
            slots[identity] = self._tables.slots(service.algorithm, len(service.backends), usable)
        self._tables.forget_unused()
        return slots

    def _frontend_rows(
        self,
        services: Mapping[ServiceId, Service],
        slots: Mapping[ServiceId, Slots],
        observed: KernelState,
        refused: dict[tuple[ServiceKey, Endpoint], str],
    ) -> dict[FrontendId, Frontend]:
        wanted = [(vip, service.mode) for service in services.values() for vip in service.vips]
        present: dict[int, tuple[Endpoint, ForwardingMode] | None] = {
            identity: (row.endpoint, row.mode) for identity, row in observed.frontends.items()
        }
        ids = self._frontends.assign(wanted, present)
        rows: dict[FrontendId, Frontend] = {}
        for identity, service in services.items():
            for vip in service.vips:
                number = ids.get((vip, service.mode))
                if number is None:
                    refused[service.key, vip] = full("frontends", self._limits.frontends - 1)
                    continue
                rows[FrontendId(number)] = Frontend(
                    endpoint=vip,
                    service=identity,
                    slots=len(slots[identity]),
                    algorithm=service.algorithm,
                    mode=service.mode,
                    idle_seconds=service.idle_seconds,
                    affinity_seconds=service.affinity_seconds,
                    rate=service.rate,
                    restricted=service.sources is not None,
                )
        return rows

    def _hop_generation(self, snapshot: NetworkSnapshot, observed: KernelState) -> int:
        """Another one than the kernel's at the start, because no one watched the network before; then the monitor's."""
        if self._hop_base is None:
            self._hop_base = observed.settings.hop_generation - snapshot.hop_generation
        return (self._hop_base + snapshot.hop_generation) % _HOP_GENERATIONS + 1


def _weight(scene: Scene, life: Lifecycle, steers: Mapping[Member, Steer], member: Member) -> int:
    """In thousandths. Panic asks for configured weights; they also stand in rows that nothing is sent to."""
    if member not in scene.members:
        return 0
    configured = scene.members[member][1].weight * THOUSANDTHS
    return configured if member in life.distrusted else steers[member].weight or configured


def _arrivals(
    accepted: Sequence[LoadBalancer], services: Sequence[Service], snapshot: NetworkSnapshot, problems: Problems
) -> list[Mapping[InterfaceIndex, str]]:
    """Interfaces where clients arrive, of the LoadBalancers that have a VIP."""
    balancing = {service.key.object for service in services}
    arrivals: list[Mapping[InterfaceIndex, str]] = []
    for balancer in accepted:
        if balancer.key in balancing:
            found, complaints = arrival_interfaces(balancer, snapshot)
            arrivals.append(found)
            for complaint in complaints:
                problems.add(balancer.key, complaint)
    return arrivals


def _towards(
    backends: Mapping[BackendId, Backend], nexthops: Mapping[NexthopId, Nexthop]
) -> dict[InterfaceIndex, IPAddress]:
    """One backend for each interface that leads to any."""
    found: dict[InterfaceIndex, IPAddress] = {}
    for row in backends.values():
        if row.nexthop and row.endpoint and not row.local:
            found.setdefault(nexthops[row.nexthop].ifindex, row.endpoint.address)
    return found
