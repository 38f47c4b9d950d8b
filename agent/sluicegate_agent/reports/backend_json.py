"""The parts of the status document that tell of one backend's weight, load and times. Pure."""

from __future__ import annotations

from sluicegate_agent.planning.steer import THOUSANDTHS
from sluicegate_agent.reports.quantiles import quantile
from sluicegate_agent.signals.model import Histogram, Latencies, Load, Reading
from sluicegate_agent.wallclock import utc_text
from sluicegate_agent.weights.model import Decision, Override


def weights_json(decision: Decision | None) -> dict[str, object] | None:
    """What became of its weight, and why; weights are in the unit of configured ones."""
    if decision is None:
        return None
    return {
        "effective": decision.weight / THOUSANDTHS,
        "prior": decision.prior,
        "guard": decision.guard,
        "errors": decision.errors,
        "slowStart": decision.slow_start,
        "state": decision.state,
        "reason": decision.reason,
        "absent": list(decision.absent),
        "latencySeconds": decision.latency,
    }


def override_json(override: Override | None) -> dict[str, object] | None:
    """An operator's word on it."""
    if override is None:
        return None
    return {"action": "drain", "until": utc_text(override.until)}


def signal_json(reading: Reading | None, age: float | None) -> dict[str, object] | None:
    """What the backend says of its load; ``age`` is in seconds, None before the first report."""
    if reading is None:
        return None
    report = reading.report
    return {
        "ageSeconds": None if age is None else round(age, 3),
        "error": reading.error,
        "utilization": report.utilization if report else None,
        "rps": report.rps if report else None,
        "eps": report.eps if report else None,
    }


def measured_json(load: Load, latencies: Latencies) -> dict[str, object]:
    """What the kernel saw of it since it got its id; times in seconds."""
    return {
        "requests": load.requests,
        "responses": load.responses,
        "resets": load.resets,
        "unanswered": load.unanswered,
        "emptyCloses": load.empty_closes,
        "inFlight": load.in_flight,
        "firstResponse": _quantiles_json(latencies.first_response),
        "handshake": _quantiles_json(latencies.handshake),
    }


def _quantiles_json(histogram: Histogram) -> dict[str, float | None]:
    return {"p50": quantile(histogram, 0.5), "p99": quantile(histogram, 0.99)}
