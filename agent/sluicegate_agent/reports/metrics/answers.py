"""What the kernel saw of the answers of a backend: requests, responses, failures, times."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite

from sluicegate_agent.reports.metrics.definition import Definition, Kind, Label, Metric, Point, single
from sluicegate_agent.reports.metrics.latency import BOUNDS, distribution
from sluicegate_agent.reports.metrics.sample import BackendRow
from sluicegate_agent.reports.metrics.scopes import BACKEND
from sluicegate_agent.signals.model import Load

_NOT_SEEN = "No series for UDP, nor with DirectReturn, where replies are not seen."
_SOURCE = Label(
    "source",
    "handshake: SYN to SYN-ACK, first_response: request to the first byte of the response",
    ("handshake", "first_response"),
)


def _counted(read: Callable[[Load], int]) -> Callable[[BackendRow], Iterable[Point]]:
    return single(lambda row: read(row.view.load) if row.measured else None)


def _latency(row: BackendRow) -> Iterable[Point]:
    if row.measured:
        yield ("handshake",), distribution(row.view.latencies.handshake)
        yield ("first_response",), distribution(row.view.latencies.first_response)


def _mean(row: BackendRow) -> float | None:
    latency = row.view.decision.latency if row.view.decision else None
    return latency if latency is not None and isfinite(latency) else None


BACKENDS: tuple[Metric[BackendRow], ...] = (
    Metric(
        Definition(
            "sluicegate_lb_requests_total",
            Kind.COUNTER,
            "Turns of clients: the first data of a connection, and data after the backend had spoken. Pipelined or "
            f"multiplexed requests count as one. {_NOT_SEEN}",
            BACKEND,
        ),
        _counted(lambda load: load.requests),
    ),
    Metric(
        Definition(
            "sluicegate_lb_responses_total",
            Kind.COUNTER,
            f"Requests of which the backend sent a first byte of the response. {_NOT_SEEN}",
            BACKEND,
        ),
        _counted(lambda load: load.responses),
    ),
    Metric(
        Definition(
            "sluicegate_lb_resets_total",
            Kind.COUNTER,
            f"Connections that the backend reset before any byte of it. {_NOT_SEEN}",
            BACKEND,
        ),
        _counted(lambda load: load.resets),
    ),
    Metric(
        Definition(
            "sluicegate_lb_unanswered_total",
            Kind.COUNTER,
            f"Connections whose SYN the backend did not answer. {_NOT_SEEN}",
            BACKEND,
        ),
        _counted(lambda load: load.unanswered),
    ),
    Metric(
        Definition(
            "sluicegate_lb_empty_closes_total",
            Kind.COUNTER,
            f"Connections that the backend closed without a byte. {_NOT_SEEN}",
            BACKEND,
        ),
        _counted(lambda load: load.empty_closes),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_latency_seconds",
            Kind.HISTOGRAM,
            "Times of one flow in eight, measured in the kernel. The sum is an estimate: the kernel counts by powers "
            "of two, and each time is taken as the geometric mean of its bucket, at most 1.41 times too long or too "
            f"short. {_NOT_SEEN}",
            BACKEND,
            (_SOURCE,),
            "seconds",
            BOUNDS,
        ),
        _latency,
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_mean_latency_seconds",
            Kind.GAUGE,
            "Smoothed mean time of a response by Little's law (mean in flight by completions per second), which the "
            "weight controller compares. No series without dynamic weights or without enough traffic.",
            BACKEND,
            unit="seconds",
        ),
        single(_mean),
    ),
)
