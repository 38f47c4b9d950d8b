"""The Prometheus endpoint. Names, labels and units are an API: they may grow, not change."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sluicegate_agent.datapath.protocol import Traffic, Verdict
from sluicegate_agent.failure import StartError
from sluicegate_agent.reports.view import BackendView, LoadBalancerView, PortView, StatusView
from sluicegate_agent.settings import ListenAddress

log = logging.getLogger(__name__)

_PORT = ("namespace", "loadbalancer", "port", "protocol")
_BACKEND = (*_PORT, "backend")
_DIRECTIONS = {"xdp": "ingress", "tc_ingress": "ingress", "tc_egress": "egress"}
STATES = ("active", "draining", "down", "unreachable", "pending")


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything that one scrape shows. ``config_generation`` counts accepted configurations of this process."""

    status: StatusView = field(default_factory=StatusView)
    verdicts: tuple[Verdict, ...] = ()
    map_entries: Mapping[str, int] = field(default_factory=dict)
    map_capacity: Mapping[str, int] = field(default_factory=dict)
    config_generation: int = 0
    config_stale: bool = False
    reconcile_failures: int = 0


class AgentCollector(Collector):
    """Turns a fresh sample into metrics at every scrape."""

    def __init__(self, sample: Callable[[], Sample]) -> None:
        self._sample = sample

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the registry must not take a sample when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        sample = self._sample()
        yield from _traffic(sample.status)
        yield from _backends(sample.status)
        yield from _node(sample)


class MetricsServer:
    """Serves the metrics over HTTP from threads of its own. Use as a context manager."""

    def __init__(self, address: ListenAddress, sample: Callable[[], Sample]) -> None:
        registry = CollectorRegistry()
        registry.register(AgentCollector(sample))
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=registry)
        try:
            self._server: WSGIServer
            self._server, self._thread = start_http_server(address.port, address.host, registry)
        except OSError as error:
            raise StartError(
                f"cannot serve metrics on {address}: {error.strerror or error}",
                f"find who listens there with: ss -ltnp 'sport = {address.port}', or choose another with --metrics ADDR"
                if error.errno == errno.EADDRINUSE
                else "give an address of this namespace with --metrics ADDR",
            ) from error

    @property
    def port(self) -> int:
        """The port that was bound."""
        return self._server.server_port

    def close(self) -> None:
        """Stop serving and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _ports(status: StatusView) -> Iterator[tuple[tuple[str, ...], PortView]]:
    for balancer in status.loadbalancers:
        for port in balancer.ports:
            yield _port_labels(balancer, port), port


def _port_labels(balancer: LoadBalancerView, port: PortView) -> tuple[str, ...]:
    return balancer.namespace, balancer.name, port.name, port.protocol


def _backend_name(backend: BackendView) -> str:
    host = f"[{backend.address}]" if ":" in backend.address else backend.address
    return f"{host}:{backend.port}"


def _traffic(status: StatusView) -> Iterator[Metric]:
    connections = CounterMetricFamily("sluicegate_lb_connections", "Flows opened towards a backend.", labels=_BACKEND)
    packets = CounterMetricFamily("sluicegate_lb_packets", "Packets forwarded.", labels=(*_BACKEND, "direction"))
    octets = CounterMetricFamily("sluicegate_lb_bytes", "Bytes of forwarded packets.", labels=(*_BACKEND, "direction"))
    dropped = CounterMetricFamily(
        "sluicegate_lb_dropped_packets", "Packets for a port's VIPs that were dropped, for any reason.", labels=_PORT
    )
    active = GaugeMetricFamily("sluicegate_lb_active_flows", "Flows alive at the last sweep.", labels=_BACKEND)
    for labels, port in _ports(status):
        dropped.add_metric(labels, port.traffic.dropped)
        for backend in port.backends:
            full = (*labels, _backend_name(backend))
            connections.add_metric(full, backend.traffic.opened)
            active.add_metric(full, backend.active_flows)
            for direction, count, size in _directions(backend.traffic):
                packets.add_metric((*full, direction), count)
                octets.add_metric((*full, direction), size)
    yield from (connections, packets, octets, dropped, active)


def _directions(traffic: Traffic) -> tuple[tuple[str, int, int], ...]:
    return (
        ("request", traffic.request_packets, traffic.request_bytes),
        ("reply", traffic.reply_packets, traffic.reply_bytes),
    )


def _backends(status: StatusView) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "sluicegate_lb_backend_state", "1 for the state that the backend is in, 0 for the others.",
        labels=(*_BACKEND, "state"),
    )  # fmt: skip
    weight = GaugeMetricFamily("sluicegate_lb_backend_weight", "Configured weight.", labels=_BACKEND)
    effective = GaugeMetricFamily(
        "sluicegate_lb_backend_effective_weight", "Weight that the selection table is made from.", labels=_BACKEND
    )
    checks = CounterMetricFamily(
        "sluicegate_lb_health_checks", "Health checks done, by result.", labels=(*_BACKEND, "result")
    )
    for labels, port in _ports(status):
        for backend in port.backends:
            full = (*labels, _backend_name(backend))
            weight.add_metric(full, backend.weight)
            effective.add_metric(full, backend.effective_weight)
            for name in STATES:
                state.add_metric((*full, name), float(backend.state == name))
            checks.add_metric((*full, "success"), backend.checks - backend.check_failures)
            checks.add_metric((*full, "failure"), backend.check_failures)
    yield from (state, weight, effective, checks)


def _node(sample: Sample) -> Iterator[Metric]:
    packets = CounterMetricFamily(
        "sluicegate_packets",
        "Packets seen by a program, by what became of them and why.",
        labels=("program", "reason", "verdict"),
    )
    dropped = CounterMetricFamily(
        "sluicegate_dropped_packets",
        "Packets dropped by a program, by reason.",
        labels=("program", "reason", "direction"),
    )
    for verdict in sample.verdicts:
        packets.add_metric((verdict.hook, verdict.reason.lower(), verdict.kind), verdict.packets)
        if verdict.kind == "drop":
            direction = _DIRECTIONS.get(verdict.hook, "ingress")
            dropped.add_metric((verdict.hook, verdict.reason.lower(), direction), verdict.packets)
    entries = GaugeMetricFamily("sluicegate_map_entries", "Entries in a kernel map.", labels=("map",))
    capacity = GaugeMetricFamily("sluicegate_map_capacity", "Most entries that a kernel map holds.", labels=("map",))
    for name, value in sample.map_entries.items():
        entries.add_metric((name,), value)
    for name, value in sample.map_capacity.items():
        capacity.add_metric((name,), value)
    attached = GaugeMetricFamily(
        "sluicegate_xdp_attach_info", "1 per interface with our programs.", labels=("interface", "mode")
    )
    for interface in sample.status.interfaces:
        attached.add_metric((interface.name, interface.mode), 1)
    build = GaugeMetricFamily("sluicegate_build_info", "1, with the agent's version.", labels=("version",))
    build.add_metric((version("sluicegate"),), 1)
    yield from (packets, dropped, entries, capacity, attached, build)
    yield GaugeMetricFamily(
        "sluicegate_config_stale", "1 while a file has errors and what was read before stays in force.",
        value=float(sample.config_stale),
    )  # fmt: skip
    yield GaugeMetricFamily(
        "sluicegate_config_generation", "Configurations taken over since the agent started.",
        value=sample.config_generation,
    )  # fmt: skip
    yield CounterMetricFamily(
        "sluicegate_reconcile_failures", "Operations that the kernel refused; they are tried again.",
        value=sample.reconcile_failures,
    )  # fmt: skip
