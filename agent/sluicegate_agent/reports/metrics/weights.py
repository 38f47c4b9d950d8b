"""Weights and what moves them: factors, signals, an operator's word."""

from __future__ import annotations

from collections.abc import Iterable

from sluicegate_agent.reports.metrics.definition import Definition, Kind, Label, Metric, Point, one_of, single
from sluicegate_agent.reports.metrics.sample import BackendRow
from sluicegate_agent.reports.metrics.scopes import BACKEND
from sluicegate_agent.weights import standing

_FREE = "free"
_FACTOR = Label(
    "factor",
    "prior: what the backend is worth by its signal, guard: less than 1 for being slower than the pool, errors: share "
    "of failures, slow_start: less than 1 while it warms up",
    ("prior", "guard", "errors", "slow_start"),
)
_STEERED = Label(
    "state",
    "free: nothing of these, drain, maint and down: the backend said so, ejected: too many of its connections failed, "
    "probation: it was ejected and is tried again",
    (_FREE, standing.DRAIN, standing.MAINT, standing.DOWN, standing.EJECTED, standing.PROBATION),
)
_ACTION = Label("action", "what the operator asked for", ("drain",))


def _factors(row: BackendRow) -> Iterable[Point]:
    decision = row.view.decision
    if decision is not None:
        yield ("prior",), decision.prior
        yield ("guard",), decision.guard
        yield ("errors",), decision.errors
        yield ("slow_start",), decision.slow_start


def _steered(row: BackendRow) -> str | None:
    return None if row.view.decision is None else row.view.decision.state or _FREE


def _utilization(row: BackendRow) -> float | None:
    report = row.view.signal.report if row.view.signal else None
    return report.utilization if report else None


def _override(row: BackendRow) -> Iterable[Point]:
    if row.view.override is not None:
        yield ("drain",), row.view.override.until


BACKENDS: tuple[Metric[BackendRow], ...] = (
    Metric(
        Definition("sluicegate_lb_backend_weight", Kind.GAUGE, "Configured weight.", BACKEND),
        single(lambda row: row.view.weight),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_effective_weight",
            Kind.GAUGE,
            "Weight that the selection table is made from, in the unit of configured weights.",
            BACKEND,
        ),
        single(lambda row: row.view.effective_weight),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_weight_factor",
            Kind.GAUGE,
            "What the effective weight is made of: configured weight x prior x guard x (1 - errors)^2 x slow_start, "
            "before limits on steps. No series without dynamic weights and slow start.",
            BACKEND,
            (_FACTOR,),
        ),
        _factors,
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_weight_state",
            Kind.GAUGE,
            "1 for what the weight controller holds of the backend, 0 for the others; with drain, maint, down and "
            "ejected it gets no new flows. No series without dynamic weights and slow start.",
            BACKEND,
            (_STEERED,),
        ),
        one_of(_STEERED, _steered),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_signal_age_seconds",
            Kind.GAUGE,
            "Time since the last good report of the backend's load. No series before the first one, nor when nobody is "
            "asked.",
            BACKEND,
            unit="seconds",
        ),
        single(lambda row: row.view.signal_age),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_signal_failing",
            Kind.GAUGE,
            "1 while the backend's load cannot be learnt (status says why), 0 while it can. No series when nobody is "
            "asked.",
            BACKEND,
        ),
        single(lambda row: None if row.view.signal is None else float(bool(row.view.signal.error))),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_utilization_ratio",
            Kind.GAUGE,
            "Used part of the backend's capacity in its last good report: 1 is full, more is overloaded.",
            BACKEND,
            unit="ratio",
        ),
        single(_utilization),
    ),
    Metric(
        Definition(
            "sluicegate_lb_backend_override_expiry_timestamp_seconds",
            Kind.GAUGE,
            "When an operator's word on this backend ends, in Unix time. No series without one.",
            BACKEND,
            (_ACTION,),
            "seconds",
        ),
        _override,
    ),
)
