"""What people and scrapers are shown: the status document, typed. JSON keys are the camelCase of the names here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from sluicegate_agent.datapath.protocol import Traffic
from sluicegate_agent.reports.backend_json import measured_json, override_json, signal_json, weights_json
from sluicegate_agent.reports.condition import Condition, WithConditions
from sluicegate_agent.reports.sniffer_view import SnifferView, sniffer_json
from sluicegate_agent.signals.model import Latencies, Load, Reading
from sluicegate_agent.weights.model import Decision, Override


@dataclass(frozen=True, slots=True)
class BackendView:
    """One backend of one port.

    ``state`` is active, draining, down, unreachable (no route) or pending (not in the kernel yet); ``health`` is
    unknown, up, down or unchecked. ``effective_weight`` is what the tables are made from, in the unit of configured
    weights. Packets and bytes are of both directions; flows are of TCP and UDP. ``decision`` is there with dynamic
    weights or slow start, ``override`` while an operator's word holds, ``signal`` when the backend is asked for its
    load; ``signal_age`` is in seconds, None before the first report. ``held`` is who wants it out of use, as far as
    that is a signal, a decision or an operator.
    """

    address: str
    port: int
    state: str
    health: str
    reason: str
    weight: int
    effective_weight: float
    traffic: Traffic = field(default_factory=Traffic)
    active_flows: int = 0
    checks: int = 0
    check_failures: int = 0
    decision: Decision | None = None
    override: Override | None = None
    load: Load = field(default_factory=Load)
    latencies: Latencies = field(default_factory=Latencies)
    signal: Reading | None = None
    signal_age: float | None = None
    held: str = ""


@dataclass(frozen=True, slots=True)
class AddressView:
    """One VIP on one port: ``programmed`` tells that packets to it are balanced."""

    address: str
    programmed: bool
    reason: str
    traffic: Traffic = field(default_factory=Traffic)
    active_flows: int = 0


@dataclass(frozen=True, slots=True)
class PortView:
    """One port of a load balancer, over all its VIPs. ``panic`` says why backends that fail their checks are used.

    ``note`` is what holds for the weights of all its backends, such as a lost source; ``weights`` says where they come
    from (``dynamicWeights.type``).
    """

    name: str
    protocol: str
    port: int
    algorithm: str
    mode: str
    addresses: tuple[AddressView, ...]
    backends: tuple[BackendView, ...]
    panic: str = ""
    note: str = ""
    weights: str = "None"

    @property
    def traffic(self) -> Traffic:
        """The sum over the VIPs."""
        return sum_traffic(address.traffic for address in self.addresses)

    @property
    def active_flows(self) -> int:
        """The sum over the VIPs."""
        return sum(address.active_flows for address in self.addresses)


@dataclass(frozen=True, slots=True)
class LimitsView:
    """Who may open flows, how many, and for how many seconds a client keeps its backend; empty means no limit."""

    affinity_seconds: int = 0
    allowed_sources: tuple[str, ...] | None = None
    new_connections_per_second: int | None = None


@dataclass(frozen=True, slots=True)
class LoadBalancerView(WithConditions):
    """One load balancer. ``source`` is the file it comes from."""

    namespace: str
    name: str
    source: str
    conditions: tuple[Condition, ...]
    ports: tuple[PortView, ...]
    limits: LimitsView = field(default_factory=LimitsView)


@dataclass(frozen=True, slots=True)
class InterfaceView:
    """An interface with our programs: ``mode`` is xdp or tc, ``reason`` says why it is not xdp or why it is used."""

    name: str
    mode: str
    reason: str
    program: str


@dataclass(frozen=True, slots=True)
class DropView:
    """Packets that all hooks of this node dropped for one reason of bpf/reasons.h; ``text`` is for people."""

    reason: str
    text: str
    packets: int


@dataclass(frozen=True, slots=True)
class StatusView:
    """The whole document. Flows are those of the last sweep, the half-open ones being among the active."""

    interfaces: tuple[InterfaceView, ...] = ()
    loadbalancers: tuple[LoadBalancerView, ...] = ()
    sniffers: tuple[SnifferView, ...] = ()
    problems: tuple[str, ...] = ()
    active_flows: int = 0
    half_open_flows: int = 0
    drops: tuple[DropView, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether there is nothing to complain about: load balancers and sniffers work, and no file has an error."""
        return not self.problems and all(
            [*(each.ready for each in self.loadbalancers), *(each.ready for each in self.sniffers)]
        )

    def to_json(self) -> dict[str, object]:
        """The shape that ``status -o json`` promises."""
        return {
            "ready": self.ready,
            "interfaces": [asdict(interface) for interface in self.interfaces],
            "loadbalancers": [_balancer_json(balancer) for balancer in self.loadbalancers],
            "sniffers": [sniffer_json(sniffer) for sniffer in self.sniffers],
            "flows": {"active": self.active_flows, "halfOpen": self.half_open_flows},
            "drops": [asdict(drop) for drop in self.drops],
            "problems": list(self.problems),
        }


def sum_traffic(parts: Iterable[Traffic]) -> Traffic:
    """Counters added up field by field."""
    total = Traffic()
    for part in parts:
        total = Traffic(
            request_packets=total.request_packets + part.request_packets,
            request_bytes=total.request_bytes + part.request_bytes,
            reply_packets=total.reply_packets + part.reply_packets,
            reply_bytes=total.reply_bytes + part.reply_bytes,
            opened=total.opened + part.opened,
            dropped=total.dropped + part.dropped,
        )
    return total


def _balancer_json(balancer: LoadBalancerView) -> dict[str, object]:
    backends = [backend for port in balancer.ports for backend in port.backends]
    return {
        "namespace": balancer.namespace,
        "name": balancer.name,
        "source": balancer.source,
        "ready": balancer.ready,
        "conditions": [asdict(condition) for condition in balancer.conditions],
        "backends": {
            "total": len(backends),
            "healthy": sum(1 for backend in backends if backend.state == "active"),
            "draining": sum(1 for backend in backends if backend.state == "draining"),
        },
        "limits": {
            "affinitySeconds": balancer.limits.affinity_seconds,
            "allowedSources": None
            if balancer.limits.allowed_sources is None
            else list(balancer.limits.allowed_sources),
            "maxNewConnectionsPerSecond": balancer.limits.new_connections_per_second,
        },
        "ports": [_port_json(port) for port in balancer.ports],
    }


def _port_json(port: PortView) -> dict[str, object]:
    return {
        "name": port.name,
        "protocol": port.protocol,
        "port": port.port,
        "algorithm": port.algorithm,
        "mode": port.mode,
        "panic": port.panic,
        "note": port.note,
        "dynamicWeights": port.weights,
        **_traffic_json(port.traffic, port.active_flows),
        "addresses": [
            {
                "address": address.address,
                "programmed": address.programmed,
                "reason": address.reason,
                **_traffic_json(address.traffic, address.active_flows),
            }
            for address in port.addresses
        ],
        "backends": [
            {
                "address": backend.address,
                "port": backend.port,
                "state": backend.state,
                "health": backend.health,
                "reason": backend.reason,
                "weight": backend.weight,
                "effectiveWeight": backend.effective_weight,
                "weights": weights_json(backend.decision),
                "override": override_json(backend.override),
                "signal": signal_json(backend.signal, backend.signal_age),
                "measured": measured_json(backend.load, backend.latencies),
                **_traffic_json(backend.traffic, backend.active_flows),
            }
            for backend in port.backends
        ],
    }


def _traffic_json(traffic: Traffic, active_flows: int) -> dict[str, int]:
    return {
        "packets": traffic.request_packets + traffic.reply_packets,
        "bytes": traffic.request_bytes + traffic.reply_bytes,
        "newFlows": traffic.opened,
        "activeFlows": active_flows,
        "dropped": traffic.dropped,
    }
