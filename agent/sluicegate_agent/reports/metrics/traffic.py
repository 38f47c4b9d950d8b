"""What passed: flows, packets and bytes by backend, and what a port and a load balancer come to."""

from __future__ import annotations

from collections.abc import Iterable

from sluicegate_agent.reports.condition import ConditionStatus, ConditionType
from sluicegate_agent.reports.metrics.definition import Definition, Kind, Label, Metric, Point, one_of, single
from sluicegate_agent.reports.metrics.sample import BackendRow, BalancerRow, PortRow
from sluicegate_agent.reports.metrics.scopes import BACKEND, BALANCER, PORT

_DIRECTION = Label("direction", "request: towards the backend, reply: towards the client", ("request", "reply"))
_STATE = Label(
    "state",
    "active, draining (keeps its flows, gets no new ones), down (checks fail), unreachable (no route), pending (not in "
    "the kernel yet)",
    ("active", "draining", "down", "unreachable", "pending"),
)
_CONDITION = Label("type", "type of the condition", tuple(ConditionType))


def _packets(row: BackendRow) -> Iterable[Point]:
    traffic = row.view.traffic
    return (("request",), traffic.request_packets), (("reply",), traffic.reply_packets)


def _bytes(row: BackendRow) -> Iterable[Point]:
    traffic = row.view.traffic
    return (("request",), traffic.request_bytes), (("reply",), traffic.reply_bytes)


def _conditions(row: BalancerRow) -> Iterable[Point]:
    return [
        ((condition.type,), float(condition.status is ConditionStatus.TRUE))
        for condition in row.view.conditions
        if condition.status is not ConditionStatus.UNKNOWN
    ]


BALANCERS: tuple[Metric[BalancerRow], ...] = (
    Metric(
        Definition(
            "sluicegate_lb_condition",
            Kind.GAUGE,
            "1 when a condition of the load balancer is true, 0 when it is false; no series while it is unknown.",
            BALANCER,
            (_CONDITION,),
        ),
        _conditions,
    ),
)

PORTS: tuple[Metric[PortRow], ...] = (
    Metric(
        Definition(
            "sluicegate_lb_dropped_packets_total",
            Kind.COUNTER,
            "Packets for a port's VIPs that were dropped, for any reason.",
            PORT,
        ),
        single(lambda row: row.view.traffic.dropped),
    ),
    Metric(
        Definition(
            "sluicegate_lb_panic",
            Kind.GAUGE,
            "1 while backends that fail their checks are used because too few pass them.",
            PORT,
        ),
        single(lambda row: float(bool(row.view.panic))),
    ),
)

BACKENDS: tuple[Metric[BackendRow], ...] = (
    Metric(
        Definition("sluicegate_lb_connections_total", Kind.COUNTER, "Flows opened towards a backend.", BACKEND),
        single(lambda row: row.view.traffic.opened),
    ),
    Metric(
        Definition("sluicegate_lb_packets_total", Kind.COUNTER, "Packets forwarded.", BACKEND, (_DIRECTION,)), _packets
    ),
    Metric(
        Definition(
            "sluicegate_lb_bytes_total",
            Kind.COUNTER,
            "Bytes of forwarded packets, from the IP header on.",
            BACKEND,
            (_DIRECTION,),
            "bytes",
        ),
        _bytes,
    ),
    Metric(
        Definition("sluicegate_lb_active_flows", Kind.GAUGE, "Flows alive at the last sweep.", BACKEND),
        single(lambda row: row.view.active_flows),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_state",
            Kind.GAUGE,
            "1 for the state that the backend is in, 0 for the others.",
            BACKEND,
            (_STATE,),
        ),
        one_of(_STATE, lambda row: row.view.state),
    ),
)
