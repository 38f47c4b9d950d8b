"""What the network and the backends are watched for, from the configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sluicegate_agent.datapath.model import BackendState, IPAddress
from sluicegate_agent.health.model import HttpQuestion, Target
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.services import Service
from sluicegate_agent.signals.targets import AgentQuestion, LoadQuestion, QueryQuestion, Question, SignalTarget
from sluicegate_api.checks import DEFAULT_PATH, DynamicWeights, HealthCheck, HealthCheckType


def health_targets(services: Iterable[Service]) -> dict[BackendKey, Target]:
    """One target per backend of a port that is checked."""
    return {
        backend.key: Target(
            key=backend.key,
            address=backend.endpoint.address,
            port=check.port or backend.endpoint.port,
            interval=float(check.interval_seconds),
            timeout=float(check.timeout_seconds),
            rise=check.rise,
            fall=check.fall,
            http=_http_question(check),
        )
        for service in services
        if (check := service.health_check) is not None
        for backend in service.backends
    }


def _http_question(check: HealthCheck) -> HttpQuestion | None:
    if check.type is not HealthCheckType.HTTP:
        return None
    return HttpQuestion(check.effective_path, check.host, check.effective_statuses)


def signal_targets(services: Iterable[Service]) -> dict[BackendKey, SignalTarget]:
    """One target per backend that is to be asked for its load, or to be looked for in the answer of Prometheus."""
    return {
        backend.key: SignalTarget(
            question, backend.endpoint.address, backend.endpoint.port, float(service.weights.interval_seconds)
        )
        for service in services
        for backend in service.backends
        if (question := _question(service.weights, backend.endpoint.address)) is not None
    }


def _question(weights: DynamicWeights, address: IPAddress) -> Question | None:
    if weights.agent_check is not None:
        return AgentQuestion(address, weights.agent_check.port)
    if weights.http is not None:
        return LoadQuestion(address, weights.http.port, weights.http.path or DEFAULT_PATH)
    if weights.prometheus is not None:
        return QueryQuestion(weights.prometheus.url, weights.prometheus.query)
    return None


def backend_addresses(services: Iterable[Service]) -> frozenset[IPAddress]:
    """Addresses of all configured backends: to each a way is needed."""
    return frozenset(backend.endpoint.address for service in services for backend in service.backends)


def vip_addresses(services: Iterable[Service]) -> frozenset[IPAddress]:
    """Addresses of all VIPs: where the node's own packets to them would leave, its own clients are met."""
    return frozenset(vip.address for service in services for vip in service.vips)


def leaving_addresses(desired: Desired) -> frozenset[IPAddress]:
    """Backends that keep flows although they are not configured any more."""
    return frozenset(key.address for key, outcome in desired.backends.items() if outcome.drained_at is not None)


def found_down(desired: Desired) -> Iterator[BackendKey]:
    """Backends that count as down: after a restart they stay so until checks say otherwise."""
    return (
        key for key, outcome in desired.backends.items() if outcome.state is BackendState.DOWN or outcome.distrusted
    )
