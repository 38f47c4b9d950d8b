"""What there is to decide on: services with their ids, backends wanted and present, and the ways to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sluicegate_agent.datapath.model import (
    Backend,
    BackendId,
    BackendState,
    ForwardingMode,
    KernelState,
    Nexthop,
    NexthopId,
    ServiceId,
)
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.planning.capacity import full
from sluicegate_agent.planning.desired import BackendOutcome, Limits
from sluicegate_agent.planning.ids import BackendKey, Member
from sluicegate_agent.planning.lifecycle import Lifecycle
from sluicegate_agent.planning.routes import Route, route
from sluicegate_agent.planning.services import Service, ServiceBackend
from sluicegate_agent.planning.steer import AS_CONFIGURED, Steer, slow_start_of

_BEFORE = "as it was before the agent started"


@dataclass(frozen=True, slots=True)
class Scene:
    """``members`` are configured, ``present`` are the rows in use; ``hops`` are the next hops that got an id."""

    services: Mapping[ServiceId, Service]
    members: Mapping[Member, tuple[Service, ServiceBackend]]
    present: Mapping[Member, tuple[BackendId, Backend]]
    routes: Mapping[Member, Route]
    hops: Mapping[Nexthop, int]

    def hop_id(self, member: Member) -> NexthopId:
        """The next hop's id, 0 without one."""
        hop = self.routes[member].hop
        return NexthopId(self.hops.get(hop, 0) if hop else 0)

    def is_local(self, member: Member) -> bool:
        """Whether it is on this node."""
        hop = self.routes[member].hop
        return hop is not None and hop.local


def routes_to(
    services: Mapping[ServiceId, Service],
    members: Iterable[Member],
    present: Mapping[Member, tuple[BackendId, Backend]],
    snapshot: NetworkSnapshot,
    observed: KernelState,
) -> dict[Member, Route]:
    """The way to every backend, configured or leaving."""
    routes: dict[Member, Route] = {}
    for member in dict.fromkeys((*members, *present)):
        row = present[member][1] if member in present else None
        service = services.get(member.service)
        if service:
            mode = service.mode
        else:
            mode = ForwardingMode.DNAT if row and row.source is None else ForwardingMode.FULL_NAT
        routes[member] = route(member.endpoint.address, mode, snapshot, row, observed.nexthops)
    return routes


def steers_of(scene: Scene, steering: Mapping[BackendKey, Steer]) -> dict[Member, Steer]:
    """How every configured backend is to be steered.

    Where weights follow the load and nothing was decided yet, as after a restart, what the kernel has stays.
    """
    return {
        member: steering.get(backend.key) or (_undecided(scene, member) if service.steered else AS_CONFIGURED)
        for member, (service, backend) in scene.members.items()
    }


def _undecided(scene: Scene, member: Member) -> Steer:
    service, backend = scene.members[member]
    if member in scene.present:
        row = scene.present[member][1]
        return Steer(row.weight or None, held=row.state is BackendState.DRAINING and row.weight > 0, because=_BEFORE)
    return Steer(slow_start_of(backend.weight)) if service.slow_start_seconds else AS_CONFIGURED


def outcomes_of(
    scene: Scene,
    rows: Mapping[Member, tuple[BackendId, Backend]],
    life: Lifecycle,
    steers: Mapping[Member, Steer],
    limits: Limits,
) -> dict[BackendKey, BackendOutcome]:
    """What becomes of every backend that is configured, or leaving a service that is."""
    outcomes: dict[BackendKey, BackendOutcome] = {}
    for member, (_, backend) in scene.members.items():
        identity, row = rows.get(member, (None, None))
        way = scene.routes[member]
        problem = way.problem
        if way.hop and way.hop not in scene.hops:
            problem = full("next hops", limits.nexthops - 1, "SLUICEGATE_BACKENDS")
        elif row is None and member in life.states:
            problem = full("backends", limits.backends - 1, "SLUICEGATE_BACKENDS")
        active = row is not None and row.state is BackendState.ACTIVE
        outcomes[backend.key] = BackendOutcome(
            identity,
            row.state if row else None,
            row.weight if row is not None and active else 0,
            problem,
            distrusted=active and member in life.distrusted,
            held=steers[member].because if row is not None and not active else "",
            usable=member in life.usable,
            found=scene.present[member][1] if member in scene.present else None,
        )
    for member, (identity, row) in rows.items():
        service = scene.services.get(member.service)
        if member not in scene.members and service:
            key = BackendKey(service.key, member.endpoint.address, member.endpoint.port)
            outcomes[key] = BackendOutcome(identity, row.state, 0, drained_at=life.drains.get(member))
    return outcomes
