"""The LoadBalancer resource: virtual addresses whose traffic is spread over backends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from sluicegate_api.addresses import IPAddress, IPNetwork, Network, UsableAddress
from sluicegate_api.backends import Backends, ServiceReference, StaticBackend, endpoint_text
from sluicegate_api.cel import cel, distinct, validations
from sluicegate_api.checks import DynamicWeights, HealthCheck, HealthCheckType, WeightSource
from sluicegate_api.common import ApiModel, LabelSelector, ObjectKey, ObjectMeta, Violation, repeated
from sluicegate_api.forwarding import (
    DEFAULT_AFFINITY_SECONDS,
    Algorithm,
    Forwarding,
    ForwardingMode,
    IdleTimeouts,
    SessionAffinity,
    SessionAffinityType,
)
from sluicegate_api.interfaces import InterfaceGlobs, interface_violations
from sluicegate_api.ports import Port, Protocol
from sluicegate_api.spec_rules import SPEC_RULES

__all__ = [
    "Algorithm",
    "Backends",
    "DynamicWeights",
    "Forwarding",
    "ForwardingMode",
    "HealthCheck",
    "HealthCheckType",
    "IPAddress",
    "IPNetwork",
    "IdleTimeouts",
    "LoadBalancer",
    "LoadBalancerSpec",
    "Port",
    "Protocol",
    "ServiceReference",
    "SessionAffinity",
    "SessionAffinityType",
    "StaticBackend",
    "WeightSource",
]


class LoadBalancerSpec(ApiModel):
    """What a load balancer shall do."""

    model_config = ConfigDict(json_schema_extra=validations(*SPEC_RULES))

    paused: Annotated[bool, Field(strict=True)] = False
    """While true, nodes keep what they have and changes wait."""
    node_selector: LabelSelector | None = None
    """Nodes that carry the addresses; default all."""
    interfaces: InterfaceGlobs | None = None
    """Interfaces on which clients' packets arrive, by name or glob; default those that hold a default route."""
    addresses: Annotated[
        tuple[UsableAddress, ...],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra=validations(distinct("ip(item)", "an address is listed twice")),
        ),
    ]
    """Virtual IP addresses (VIPs), IPv4 and IPv6."""
    ports: Annotated[
        tuple[Port, ...],
        Field(
            min_length=1,
            max_length=64,
            json_schema_extra=validations(
                distinct(
                    "has(item.protocol) && item.protocol == 'UDP' ? -item.port : item.port",
                    "a port is listed twice with the same protocol",
                ),
                cel(
                    "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && a.name == b.name))",
                    "two ports have the same name",
                ),
            ),
        ),
    ]
    """Ports of every address."""
    backends: Backends
    """Where the traffic goes."""
    algorithm: Algorithm | None = None
    """LeastLoad (default for TCP): the less loaded of a few candidates. Maglev (default for UDP and with ClientIP
    affinity): by a consistent hash. RoundRobin: in turn."""
    forwarding: Forwarding = Forwarding()
    """How packets get to the backends; default FullNAT."""
    session_affinity: SessionAffinity = SessionAffinity()
    """Whether a client's connections go to the same backend; default not."""
    health_check: HealthCheck | None = None
    """How backends are probed; default by a TCP connection to the backend's port. UDP ports are not probed unless a
    port is given here."""
    dynamic_weights: DynamicWeights = DynamicWeights()
    """How weights follow the measured load; default not."""
    slow_start_seconds: Annotated[int, Field(strict=True, ge=0, le=3600)] = 0
    """Seconds over which a new backend's share grows to its full size; default 0."""
    drain_seconds: Annotated[int, Field(strict=True, ge=0, le=86400)] = 30
    """Seconds for which a backend that leaves keeps its flows; default 30."""
    allowed_sources: (
        Annotated[
            tuple[Network, ...],
            Field(
                min_length=1,
                max_length=64,
                json_schema_extra=validations(distinct("cidr(item)", "a network is listed twice")),
            ),
        ]
        | None
    ) = None
    """Networks whose clients are served; default all."""
    max_new_connections_per_second: Annotated[int, Field(strict=True, ge=1, le=100_000_000)] | None = None
    """New flows per second and node; those above are refused and counted. Default no limit."""
    idle_timeouts: IdleTimeouts = IdleTimeouts()
    """After how long a silent flow is forgotten."""

    def effective_algorithm(self, port: Port) -> Algorithm:
        """The algorithm that places new flows of a port; with ClientIP affinity only those of unknown clients.

        A hash is the default for UDP, which has no end of a connection to count, and with ClientIP affinity, where a
        client's connections follow its first one and not the load.
        """
        if self.algorithm is not None:
            return self.algorithm
        sticky = self.session_affinity.type is SessionAffinityType.CLIENT_IP
        return Algorithm.MAGLEV if sticky or port.protocol is Protocol.UDP else Algorithm.LEAST_LOAD

    @property
    def affinity_seconds(self) -> int:
        """For how long after its last connection a client keeps its backend; 0 without affinity."""
        if self.session_affinity.type is SessionAffinityType.NONE:
            return 0
        given = self.session_affinity.timeout_seconds
        return DEFAULT_AFFINITY_SECONDS if given is None else given

    def effective_health_check(self, port: Port) -> HealthCheck | None:
        """How a port's backends are probed; None when they are not. Its port is None for the backend's own port."""
        check = self.health_check or HealthCheck()
        if check.type is HealthCheckType.NONE or (port.protocol is Protocol.UDP and check.port is None):
            return None
        return check

    def idle_seconds(self, port: Port) -> int:
        """After how many silent seconds a flow of this port is forgotten."""
        return self.idle_timeouts.udp_seconds if port.protocol is Protocol.UDP else self.idle_timeouts.tcp_seconds

    def violations(self) -> Iterator[Violation]:
        """Everything that fits field by field, and not together."""
        yield from self._address_violations()
        yield from self._port_violations()
        yield from self._backend_violations()
        yield from self._combination_violations()

    def _address_violations(self) -> Iterator[Violation]:
        for index, first, address in repeated(self.addresses):
            yield Violation(("addresses", index), f"{address} is already listed in addresses[{first}]")
        if self.backends.static is None:
            return
        indices = {backend.address: index for index, backend in enumerate(self.backends.static)}
        for index, address in enumerate(self.addresses):
            if address in indices:
                yield Violation(
                    ("addresses", index),
                    f"{address} is also the address of backends.static[{indices[address]}]: "
                    "a VIP cannot be one of its own backends",
                )

    def _port_violations(self) -> Iterator[Violation]:
        for index, first, (protocol, port) in repeated((p.protocol, p.port) for p in self.ports):
            yield Violation(
                ("ports", index, "port"),
                f"{protocol}/{port} is already listed in ports[{first}]",
                reads=(("ports", index, "protocol"), ("ports", first, "protocol")),
            )
        named = [(index, port.name) for index, port in enumerate(self.ports) if port.name is not None]
        for index, first, name in repeated(name for _, name in named):
            yield Violation(
                ("ports", named[index][0], "name"), f'"{name}" is already the name of ports[{named[first][0]}]'
            )
        for index, given in enumerate(self.ports):
            if isinstance(given.target_port, str) and self.backends.static is not None:
                yield Violation(("ports", index, "targetPort"), "must be a number: static backends have no named ports")

    def _backend_violations(self) -> Iterator[Violation]:
        static = self.backends.static or ()
        if len(self.ports) > 1:
            for index in (index for index, backend in enumerate(static) if backend.port is not None):
                yield Violation(
                    ("backends", "static", index, "port"),
                    f"can only be given with a single entry in ports, but there are {len(self.ports)}: use targetPort",
                )
            return
        default = self.ports[0].effective_target_port
        same = repeated((b.address, default if b.port is None else b.port) for b in static)
        for index, first, (address, port) in same:
            if static[index].port != static[first].port and isinstance(port, int):
                yield Violation(
                    ("backends", "static", index),
                    f"{endpoint_text(address, port)} is already listed in static[{first}]: "
                    f"a backend without a port uses targetPort, which is {port}",
                    reads=(("ports",), ("backends", "static", index, "port"), ("backends", "static", first, "port")),
                )

    def _combination_violations(self) -> Iterator[Violation]:
        yield from interface_violations(self.interfaces or ())
        for index, first, network in repeated(self.allowed_sources or ()):
            yield Violation(("allowedSources", index), f"{network} is already listed in allowedSources[{first}]")
        if self.forwarding.mode is ForwardingMode.DIRECT_RETURN:
            yield from self._direct_return_violations()
        if self.dynamic_weights.type is WeightSource.POD_METRICS and self.backends.static is not None:
            yield Violation(("dynamicWeights", "type"), "PodMetrics needs backends that are pods, not static ones")
        if self.dynamic_weights.type is WeightSource.PASSIVE and self.forwarding.mode is ForwardingMode.DIRECT_RETURN:
            yield Violation(
                ("dynamicWeights", "type"),
                "Passive measures replies, and with DirectReturn none comes through this node: use AgentCheck, HTTP or "
                "Prometheus",
                reads=(("forwarding", "mode"),),
            )
        check = self.health_check
        probes = check is not None and check.type is not HealthCheckType.NONE
        if check is not None and probes and check.port is None and {p.protocol for p in self.ports} == {Protocol.UDP}:
            yield Violation(
                ("healthCheck", "port"),
                f"is required: all ports are UDP, and a check of type {check.type} needs a TCP port",
                reads=(("ports",), ("healthCheck", "type"), ("healthCheck", "port")),
            )

    def _direct_return_violations(self) -> Iterator[Violation]:
        for index, port in enumerate(self.ports):
            if port.effective_target_port != port.port:
                yield Violation(
                    ("ports", index, "targetPort"),
                    f"must be {port.port}, the same as port, or be left out: DirectReturn leaves packets as they are",
                )
        if len(self.ports) == 1:
            wanted = self.ports[0].port
            for index, backend in enumerate(self.backends.static or ()):
                if backend.port not in {None, wanted}:
                    yield Violation(
                        ("backends", "static", index, "port"),
                        f"must be {wanted}, the same as ports[0].port, or be left out: "
                        "DirectReturn leaves packets as they are",
                        reads=(("ports",),),
                    )


class LoadBalancer(ApiModel):
    """Virtual addresses whose traffic is spread over backends."""

    api_version: Literal["sluicegate.io/v1alpha1"] = "sluicegate.io/v1alpha1"
    kind: Literal["LoadBalancer"] = "LoadBalancer"
    metadata: ObjectMeta
    spec: LoadBalancerSpec
    """What the load balancer shall do."""

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return self.metadata.key
