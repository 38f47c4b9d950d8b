"""Health checks of backends."""

from __future__ import annotations

from collections.abc import Iterable

from sluicegate_agent.health.durations import BOUNDS
from sluicegate_agent.reports.metrics.definition import Definition, Distribution, Kind, Label, Metric, Point, single
from sluicegate_agent.reports.metrics.sample import BackendRow
from sluicegate_agent.reports.metrics.scopes import BACKEND

_RESULT = Label(
    "result",
    "success, failure, or inconclusive: this node could not carry out the check",
    ("success", "failure", "inconclusive"),
)
_TO = Label("to", "the new state", ("up", "down"))
_UNCHECKED = "No series for backends that are not checked."


def _checks(row: BackendRow) -> Iterable[Point]:
    if row.health is not None:
        yield ("success",), row.health.checks - row.health.failures
        yield ("failure",), row.health.failures
        yield ("inconclusive",), row.health.inconclusive


def _transitions(row: BackendRow) -> Iterable[Point]:
    if row.health is not None:
        yield ("up",), row.health.rises
        yield ("down",), row.health.falls


def _durations(row: BackendRow) -> Distribution | None:
    durations = row.health.durations if row.health else None
    return Distribution(durations.counts, durations.seconds) if durations else None


BACKENDS: tuple[Metric[BackendRow], ...] = (
    Metric(
        Definition(
            "sluicegate_lb_health_checks_total",
            Kind.COUNTER,
            f"Health checks done, by result. {_UNCHECKED}",
            BACKEND,
            (_RESULT,),
        ),
        _checks,
    ),
    Metric(
        Definition(
            "sluicegate_lb_health_check_duration_seconds",
            Kind.HISTOGRAM,
            f"How long checks took that passed. {_UNCHECKED}",
            BACKEND,
            unit="seconds",
            bounds=BOUNDS,
        ),
        single(_durations),
    ),
    Metric(
        Definition(
            "sluicegate_lb_health_transitions_total",
            Kind.COUNTER,
            f"How often checks turned the state of the backend. {_UNCHECKED}",
            BACKEND,
            (_TO,),
        ),
        _transitions,
    ),
)
