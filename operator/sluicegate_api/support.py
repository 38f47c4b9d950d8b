"""What the resources can say and this version cannot do yet. It is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate_api.checks import WeightSource
from sluicegate_api.common import FieldProblem
from sluicegate_api.forwarding import ForwardingMode
from sluicegate_api.loadbalancer import LoadBalancer

NOT_YET = "not supported here yet"


def unsupported(loadbalancer: LoadBalancer) -> tuple[FieldProblem, ...]:
    """Fields of a valid load balancer that an agent outside a cluster cannot carry out."""
    return tuple(FieldProblem(path, f"{what} {NOT_YET}") for path, what in _missing(loadbalancer))


def _missing(loadbalancer: LoadBalancer) -> Iterator[tuple[str, str]]:
    spec = loadbalancer.spec
    if spec.node_selector is not None:
        yield "spec.nodeSelector", "selecting nodes is"
    if spec.backends.service_ref is not None:
        yield "spec.backends.serviceRef", "backends from a Service are"
    if spec.backends.pod_selector is not None:
        yield "spec.backends.podSelector", "backends from pods are"
    if spec.forwarding.mode is ForwardingMode.TUNNEL:
        yield "spec.forwarding.mode", f"{spec.forwarding.mode} is"
    if spec.dynamic_weights.type is not WeightSource.NONE:
        yield "spec.dynamicWeights.type", f"{spec.dynamic_weights.type} is"
    if spec.slow_start_seconds:
        yield "spec.slowStartSeconds", "slow start is"
