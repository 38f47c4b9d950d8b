"""What the resources can say and this version cannot do yet. It is refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate_api.checks import WeightSource
from sluicegate_api.common import FieldProblem
from sluicegate_api.detection import ActionType
from sluicegate_api.dpisniffer import DpiSniffer
from sluicegate_api.forwarding import ForwardingMode
from sluicegate_api.loadbalancer import LoadBalancer

NOT_YET = "not supported here yet"


def unsupported(resource: LoadBalancer | DpiSniffer) -> tuple[FieldProblem, ...]:
    """Fields of a valid object that this program outside a cluster cannot carry out."""
    missing = of_loadbalancer(resource) if isinstance(resource, LoadBalancer) else of_sniffer(resource)
    return tuple(FieldProblem(path, f"{what} {NOT_YET}") for path, what in missing)


def of_loadbalancer(loadbalancer: LoadBalancer) -> Iterator[tuple[str, str]]:
    """Paths of such fields of a load balancer, each with the beginning of a sentence."""
    spec = loadbalancer.spec
    if spec.node_selector is not None:
        yield "spec.nodeSelector", "selecting nodes is"
    if spec.backends.service_ref is not None:
        yield "spec.backends.serviceRef", "backends from a Service are"
    if spec.backends.pod_selector is not None:
        yield "spec.backends.podSelector", "backends from pods are"
    if spec.forwarding.mode is ForwardingMode.TUNNEL:
        yield "spec.forwarding.mode", f"{spec.forwarding.mode} is"
    if spec.dynamic_weights.type is WeightSource.POD_METRICS:
        yield "spec.dynamicWeights.type", f"{spec.dynamic_weights.type} is"


def of_sniffer(sniffer: DpiSniffer) -> Iterator[tuple[str, str]]:
    """Paths of such fields of a sniffer, each with the beginning of a sentence."""
    spec = sniffer.spec
    if spec.node_selector is not None:
        yield "spec.nodeSelector", "selecting nodes is"
    if spec.attach.pod_selector is not None:
        yield "spec.attach.podSelector", "sniffing at pods is"
    if spec.attach.namespace_selector is not None:
        yield "spec.attach.namespaceSelector", "sniffing at pods is"
    if spec.signatures.config_map_refs:
        yield "spec.signatures.configMapRefs", "rules from ConfigMaps are"
    for index, action in enumerate(spec.actions or ()):
        if action.action in {ActionType.CAPTURE, ActionType.WIDEN}:
            yield f"spec.actions[{index}].action", f"{action.action} is"
    if "pcap" in spec.export.model_fields_set:
        yield "spec.export.pcap", "writing captured packets is"
