"""From what the agent knows to what people are shown. Pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from sluicegate_agent.datapath.model import Algorithm, BackendState, Endpoint, FrontendId
from sluicegate_agent.datapath.protocol import Counters, Traffic
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.planning.desired import BackendOutcome
from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.planning.services import Service, ServiceBackend, expand
from sluicegate_agent.planning.steer import THOUSANDTHS
from sluicegate_agent.programs import needed_features
from sluicegate_agent.reports.conditions import conditions, refusal
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.sniffers import sniffer_views
from sluicegate_agent.reports.view import (
    AddressView,
    BackendView,
    DropView,
    InterfaceView,
    LimitsView,
    LoadBalancerView,
    PortView,
    StatusView,
)
from sluicegate_agent.signals.model import Latencies, Load
from sluicegate_api.claims import Claim
from sluicegate_api.common import ObjectKey
from sluicegate_api.loadbalancer import LoadBalancer, Port
from sluicegate_api.ports import Protocol

WAITING = "not in the kernel yet"

_ALGORITHMS = {
    Algorithm.MAGLEV: "Maglev",
    Algorithm.ROUND_ROBIN: "RoundRobin",
    Algorithm.LEAST_LOAD: "LeastLoad",
}
_STATES = {
    BackendState.ACTIVE: "active",
    BackendState.DRAINING: "draining",
    BackendState.DOWN: "down",
    BackendState.FREE: "pending",
}


@dataclass(frozen=True, slots=True)
class _Index:
    """What the parts of the document are looked up in, made once."""

    situation: Situation
    now: float
    frontends: Mapping[tuple[ServiceKey, Endpoint], FrontendId]
    lost: Mapping[tuple[ObjectKey, Claim], str]
    leaving: Mapping[ServiceKey, Sequence[BackendKey]]


def status(situation: Situation, now: float | None = None) -> StatusView:
    """The status document of this moment. ``now`` is of the clock that dates readings, the monotonic one by default."""
    configuration = situation.configuration
    leaving: dict[ServiceKey, list[BackendKey]] = {}
    for key, outcome in situation.desired.backends.items():
        if outcome.drained_at is not None:
            leaving.setdefault(key.service, []).append(key)
    index = _Index(
        situation,
        time.monotonic() if now is None else now,
        {place: identity for identity, place in situation.desired.names.frontends.items()},
        configuration.lost_claims(),
        leaving,
    )
    balancers = [_balancer(entry.object, entry.source, index) for entry in configuration.accepted]
    balancers += [
        LoadBalancerView(key.namespace, key.name, source, refusal(configuration.object_problems[key]), ())
        for key, source in configuration.refused_objects
    ]
    return StatusView(
        interfaces=tuple(_interfaces(situation)),
        loadbalancers=tuple(balancers),
        sniffers=tuple(sniffer_views(situation)),
        problems=configuration.problem_lines,
        active_flows=sum(situation.census.frontend_flows.values()),
        half_open_flows=situation.census.half_open,
        drops=_drops(situation.counters),
    )


def _drops(counters: Counters) -> tuple[DropView, ...]:
    """Summed over the hooks, most frequent first."""
    packets: Counter[tuple[str, str]] = Counter()
    for verdict in counters.verdicts:
        if verdict.kind == "drop":
            packets[verdict.reason, verdict.text] += verdict.packets
    return tuple(DropView(reason, text, count) for (reason, text), count in packets.most_common() if count)


def _interfaces(situation: Situation) -> Iterator[InterfaceView]:
    for ifindex, attached in sorted(situation.attached.items()):
        wanted = situation.desired.attachments.get(ifindex)
        reason = attached.reason or (wanted.because if wanted else "not needed any more")
        yield InterfaceView(attached.name, str(attached.mode), reason, attached.program)


def _balancer(balancer: LoadBalancer, source: str, index: _Index) -> LoadBalancerView:
    services: dict[str, list[Service]] = {}
    for service in expand(balancer):
        services.setdefault(service.key.port, []).append(service)
    ports = tuple(_port(balancer, port, services.get(port.label, ()), index) for port in balancer.spec.ports)
    obstacle = index.situation.programs.obstacle_for(needed_features([balancer]))
    found = conditions(index.situation, balancer, ports, obstacle)
    return LoadBalancerView(balancer.key.namespace, balancer.key.name, source, found, ports, _limits(balancer))


def _limits(balancer: LoadBalancer) -> LimitsView:
    spec = balancer.spec
    return LimitsView(
        affinity_seconds=spec.affinity_seconds,
        allowed_sources=None if spec.allowed_sources is None else tuple(map(str, spec.allowed_sources)),
        new_connections_per_second=spec.max_new_connections_per_second,
    )


def _port(balancer: LoadBalancer, port: Port, services: Sequence[Service], index: _Index) -> PortView:
    configured = (_backend(each.key, each, index) for service in services for each in service.backends)
    leaving = (_backend(key, None, index) for service in services for key in index.leaving.get(service.key, ()))
    panics, notes = index.situation.desired.panics, index.situation.pool_notes
    return PortView(
        name=port.label,
        protocol=str(port.protocol),
        port=port.port,
        algorithm=_ALGORITHMS[services[0].algorithm],
        mode=str(balancer.spec.forwarding.mode),
        addresses=tuple(_address(service, vip, index) for service in services for vip in service.vips),
        backends=tuple(chain(configured, leaving)),
        panic="; ".join(
            f"IPv{service.key.family}: {panics[service.key]}" for service in services if service.key in panics
        ),
        note="; ".join(
            f"IPv{service.key.family}: {notes[service.key]}" for service in services if service.key in notes
        ),
        weights=str(balancer.spec.dynamic_weights.type),
    )


def _address(service: Service, vip: Endpoint, index: _Index) -> AddressView:
    situation = index.situation
    identity = index.frontends.get((service.key, vip))
    programmed = identity is not None and vip in situation.applied.bound
    claim = Claim(vip.address, Protocol[vip.protocol.name], vip.port)
    refused = index.lost.get((service.key.object, claim)) or situation.desired.refused.get((service.key, vip))
    return AddressView(
        address=str(vip.address),
        programmed=programmed,
        reason="" if programmed else refused or WAITING,
        traffic=situation.counters.frontends.get(identity, Traffic()) if identity is not None else Traffic(),
        active_flows=situation.census.frontend_flows.get(identity, 0) if identity is not None else 0,
    )


def _backend(key: BackendKey, configured: ServiceBackend | None, index: _Index) -> BackendView:
    situation = index.situation
    outcome = situation.desired.backends.get(key, BackendOutcome(None, None, 0))
    health = situation.health.get(key)
    counters, census = situation.counters, situation.census
    signal = situation.readings.get(key)
    return BackendView(
        address=str(key.address),
        port=key.port,
        state=_state(outcome),
        health=str(health.state).lower() if health else "unchecked",
        reason=outcome.problem
        or outcome.held
        or (health.reason if health and health.state is not HealthState.UP else ""),
        weight=configured.weight if configured else 0,
        effective_weight=outcome.weight / THOUSANDTHS,
        traffic=counters.backends.get(outcome.id, Traffic()) if outcome.id is not None else Traffic(),
        active_flows=census.flows.get(outcome.id, 0) if outcome.id is not None else 0,
        checks=health.checks if health else 0,
        check_failures=health.failures if health else 0,
        decision=situation.decisions.get(key),
        override=situation.overrides.get(key),
        load=situation.loads.get(key, Load()),
        latencies=situation.latencies.get(key, Latencies()),
        signal=signal,
        signal_age=signal.age(index.now) if signal else None,
        held=outcome.held,
    )


def _state(outcome: BackendOutcome) -> str:
    if outcome.problem and outcome.state in {None, BackendState.DOWN}:
        return "unreachable"
    return "pending" if outcome.state is None else _STATES[outcome.state]
