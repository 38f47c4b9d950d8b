"""LoadBalancers taken apart into what the kernel knows: one service per port and address family."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sluicegate_agent.datapath.invariants import REVERSE_FRONTENDS
from sluicegate_agent.datapath.model import Algorithm, Endpoint, ForwardingMode, IPAddress, IPNetwork, Protocol
from sluicegate_agent.planning.capacity import full
from sluicegate_agent.planning.ids import BackendKey, ServiceIdentity, ServiceKey
from sluicegate_api import loadbalancer as api
from sluicegate_api.checks import DynamicWeights, HealthCheck, WeightSource

FAMILIES: Final = (4, 6)

_ALGORITHMS: Final = {
    api.Algorithm.MAGLEV: Algorithm.MAGLEV,
    api.Algorithm.ROUND_ROBIN: Algorithm.ROUND_ROBIN,
    api.Algorithm.LEAST_LOAD: Algorithm.LEAST_LOAD,
}
_MODES: Final = {
    api.ForwardingMode.FULL_NAT: ForwardingMode.FULL_NAT,
    api.ForwardingMode.DNAT: ForwardingMode.DNAT,
    api.ForwardingMode.DIRECT_RETURN: ForwardingMode.DIRECT_RETURN,
}


@dataclass(frozen=True, slots=True)
class ServiceBackend:
    """A configured backend of a service; ``weight`` is the spec's, 0 to 1000."""

    key: BackendKey
    endpoint: Endpoint
    weight: int


@dataclass(frozen=True, slots=True)
class Service:
    """One port of a LoadBalancer for one family: its VIPs, its backends and how it treats flows; times in seconds.

    ``affinity_seconds`` and ``rate`` (new flows per second) are 0 for none. ``sources`` are the networks whose clients
    are served, None for all and empty for nobody. ``weights`` says how weights follow the load.
    """

    key: ServiceKey
    vips: tuple[Endpoint, ...]
    backends: tuple[ServiceBackend, ...]
    algorithm: Algorithm
    mode: ForwardingMode
    idle_seconds: float
    drain_seconds: float
    health_check: HealthCheck | None
    affinity_seconds: float = 0.0
    rate: int = 0
    sources: frozenset[IPNetwork] | None = None
    weights: DynamicWeights = field(default_factory=DynamicWeights)
    slow_start_seconds: float = 0.0

    @property
    def steered(self) -> bool:
        """Whether weights other than the configured ones may be in force."""
        return self.weights.type is not WeightSource.NONE or self.slow_start_seconds > 0

    @property
    def closed(self) -> bool:
        """Whether no client at all may use it."""
        return self.sources is not None and not self.sources

    @property
    def identity(self) -> ServiceIdentity:
        """What its id in the kernel stands for."""
        return ServiceIdentity(self.key, self.mode)


@dataclass(frozen=True, slots=True)
class Admitted:
    """Services with the VIPs they may have. ``refused`` gives the reason for each VIP that is left out."""

    services: tuple[Service, ...] = ()
    refused: Mapping[tuple[ServiceKey, Endpoint], str] = field(default_factory=dict)


def expand(balancer: api.LoadBalancer) -> Iterator[Service]:
    """Services of one LoadBalancer: one per port and family that it has a VIP of, in the order of the spec."""
    spec = balancer.spec
    for port in spec.ports:
        protocol = Protocol[port.protocol.value]
        for family in FAMILIES:
            vips = tuple(Endpoint(vip, protocol, port.port) for vip in spec.addresses if vip.version == family)
            if not vips:
                continue
            key = ServiceKey(balancer.key, port.label, family)
            yield Service(
                key=key,
                vips=vips,
                backends=_backends(spec, port, key, protocol),
                algorithm=_ALGORITHMS[spec.effective_algorithm(port)],
                mode=_MODES[spec.forwarding.mode],
                idle_seconds=float(spec.idle_seconds(port)),
                drain_seconds=float(spec.drain_seconds),
                health_check=spec.effective_health_check(port),
                affinity_seconds=float(spec.affinity_seconds),
                rate=spec.max_new_connections_per_second or 0,
                sources=_sources(spec, family),
                weights=spec.dynamic_weights,
                slow_start_seconds=float(spec.slow_start_seconds),
            )


def _sources(spec: api.LoadBalancerSpec, family: int) -> frozenset[IPNetwork] | None:
    if spec.allowed_sources is None:
        return None
    return frozenset(network for network in spec.allowed_sources if network.version == family)


def _backends(
    spec: api.LoadBalancerSpec, port: api.Port, key: ServiceKey, protocol: Protocol
) -> tuple[ServiceBackend, ...]:
    found: dict[Endpoint, ServiceBackend] = {}
    target = port.effective_target_port
    for backend in spec.backends.static or ():
        number = backend.port or target
        if backend.address.version != key.family or isinstance(number, str):  # names are resolved by the cluster
            continue
        endpoint = Endpoint(backend.address, protocol, number)
        found.setdefault(endpoint, ServiceBackend(BackendKey(key, backend.address, number), endpoint, backend.weight))
    return tuple(found.values())


def admit(
    services: Sequence[Service], own_addresses: Collection[IPAddress], bound: Collection[Endpoint], most_sources: int
) -> Admitted:
    """Decide which VIPs may be bound.

    Refused are addresses of the node itself, VIPs whose allowed clients the kernel cannot hold (``most_sources``
    networks per family), and DNAT VIPs whose replies could not be told apart: the kernel knows up to 8 DNAT frontends
    per backend endpoint. VIPs that are ``bound`` now keep their place, then the order counts.
    """
    refused: dict[tuple[ServiceKey, Endpoint], str] = {}
    shared: dict[Endpoint, int] = {}
    crowded = _crowded_out(services, bound, most_sources)
    places = [(service, vip) for service in services for vip in service.vips]
    for service, vip in sorted(places, key=lambda place: place[1] not in bound):
        if service.key in crowded:
            refused[service.key, vip] = full("allowedSources", most_sources, "SLUICEGATE_SOURCES")
        elif vip.address in own_addresses:
            refused[service.key, vip] = (
                f"{vip.address} is an address of this node: give the VIP an address of its own, routed to this node"
            )
        elif service.mode is ForwardingMode.DNAT:
            endpoints = [backend.endpoint for backend in service.backends]
            crowd = next((each for each in endpoints if shared.get(each, 0) >= REVERSE_FRONTENDS), None)
            if crowd:
                refused[service.key, vip] = (
                    f"backend {crowd} already answers for {REVERSE_FRONTENDS} VIP ports with forwarding.mode DNAT, "
                    "which is the limit: use FullNAT, or fewer VIPs or ports for this backend"
                )
            else:
                shared.update({each: shared.get(each, 0) + 1 for each in endpoints})
    kept = (
        replace(service, vips=tuple(vip for vip in service.vips if (service.key, vip) not in refused))
        for service in services
    )
    return Admitted(tuple(service for service in kept if service.vips), refused)


def _crowded_out(services: Sequence[Service], bound: Collection[Endpoint], most: int) -> set[ServiceKey]:
    """Services whose allowed clients find no room any more."""
    held = dict.fromkeys(FAMILIES, 0)
    crowded: set[ServiceKey] = set()
    for service in sorted(services, key=lambda each: not any(vip in bound for vip in each.vips)):
        count, family = len(service.sources or ()), service.key.family
        if held[family] + count > most:
            crowded.add(service.key)
        else:
            held[family] += count
    return crowded
