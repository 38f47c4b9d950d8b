"""The counters behind ``top``: what the kernel counted until now, by backend and by VIP. Pure.

Rates are made by whoever asks twice: all figures only grow, and ``seconds`` is the clock that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.view import AddressView, BackendView, LoadBalancerView, PortView, StatusView
from sluicegate_agent.reports.weight_words import weight_reason


def top_document(situation: Situation, now: float) -> dict[str, object]:
    """``now`` is CLOCK_MONOTONIC in seconds. ``empty`` says why there are no rows, and is empty when there are."""
    view = status(situation)
    places = [(balancer, port) for balancer in view.loadbalancers for port in balancer.ports]
    backends = [_backend(balancer, port, backend) for balancer, port in places for backend in port.backends]
    vips = [_vip(balancer, port, address) for balancer, port in places for address in port.addresses]
    return {
        "seconds": now,
        "backends": backends,
        "vips": vips,
        "empty": {
            "backends": "" if backends else _why_no_backends(situation, view),
            "vips": "" if vips else _why_nothing(situation, view),
        },
        "silent": why_silent(situation, view),
    }


def _backend(balancer: LoadBalancerView, port: PortView, backend: BackendView) -> dict[str, object]:
    load, traffic = backend.load, backend.traffic
    return {
        "loadBalancer": _owner(balancer, port),
        "backend": {"address": backend.address, "port": backend.port},
        "state": backend.state,
        "weight": backend.weight,
        "effectiveWeight": backend.effective_weight,
        "reason": weight_reason(backend),
        "overridden": backend.override is not None,
        "packets": traffic.request_packets + traffic.reply_packets,
        "bytes": traffic.request_bytes + traffic.reply_bytes,
        "newFlows": traffic.opened,
        "activeFlows": _active(backend),
        "inFlight": load.in_flight,
        "responses": load.responses,
        "failures": load.resets + load.unanswered + load.empty_closes,
        "firstResponse": list(backend.latencies.first_response.counts),
    }


def _active(backend: BackendView) -> int:
    """Flows right now by the counters of selection, which are fresher than the last sweep of the flow tables."""
    load = backend.load
    return max(0, load.opened - load.closed + load.fix) if load.opened else backend.active_flows


def _vip(balancer: LoadBalancerView, port: PortView, address: AddressView) -> dict[str, object]:
    traffic = address.traffic
    return {
        "loadBalancer": _owner(balancer, port),
        "vip": {"address": address.address, "port": port.port},
        "protocol": port.protocol,
        "state": "balanced" if address.programmed else "waiting",
        "reason": address.reason or (f"panic: {port.panic}" if port.panic else port.note),
        "packets": traffic.request_packets + traffic.reply_packets,
        "bytes": traffic.request_bytes + traffic.reply_bytes,
        "newFlows": traffic.opened,
        "activeFlows": address.active_flows,
        "dropped": traffic.dropped,
    }


def _owner(balancer: LoadBalancerView, port: PortView) -> dict[str, object]:
    return {"namespace": balancer.namespace, "name": balancer.name, "port": port.name}


def _why_nothing(situation: Situation, view: StatusView) -> str:
    if situation.configuration.refused_objects or view.problems:
        return f"no load balancer is valid: {'; '.join(view.problems[:3])}"
    return "no load balancer is configured: the agent's files hold none"


def _why_no_backends(situation: Situation, view: StatusView) -> str:
    ports = [port for balancer in view.loadbalancers for port in balancer.ports]
    if not ports:
        return _why_nothing(situation, view)
    return f"none of the {len(ports)} ports has a backend of its VIPs' family: see spec.backends"


def why_silent(situation: Situation, view: StatusView) -> str:
    """Why nothing moves, as far as this node can tell; empty when packets were seen."""
    addresses = list(_addresses(view))
    if not addresses or any(address.traffic.request_packets for address in addresses):
        return ""
    if situation.programs.obstacle:
        return f"the programs are not in use: {situation.programs.obstacle}"
    waiting = next((address for address in addresses if not address.programmed), None)
    if waiting is not None and not any(address.programmed for address in addresses):
        return f"no VIP is balanced: {waiting.address}: {waiting.reason}"
    listed = ", ".join(sorted(each.name for each in situation.attached.values())) or "no interface"
    if any(address.traffic.dropped for address in addresses):
        return "every packet for a VIP was dropped: sluicegate status -o wide says why"
    return f"no packet for any VIP was ever seen on {listed}: route the VIPs to this node"


def _addresses(view: StatusView) -> Iterator[AddressView]:
    return (address for balancer in view.loadbalancers for port in balancer.ports for address in port.addresses)
