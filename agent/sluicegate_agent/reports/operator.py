"""What ``drain`` and ``ready`` answer: which backends were meant, and what becomes of the others. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sluicegate_agent.control.questions import text_of
from sluicegate_agent.datapath.model import BackendState
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.wallclock import utc_text


def drain_document(situation: Situation, backends: Sequence[BackendKey], until: float) -> dict[str, object]:
    """``until`` is wall-clock time in seconds. ``warnings`` name the ports that are left without a backend."""
    return {
        "action": "drain",
        "until": utc_text(until),
        "backends": [_backend(key) for key in backends],
        "warnings": _left_alone(situation, frozenset(backends)),
    }


def ready_document(
    situation: Situation, backends: Sequence[BackendKey], taken_back: Collection[BackendKey]
) -> dict[str, object]:
    """``warnings`` name the backends that were not drained by an operator, with what keeps them out, if anything."""
    return {
        "action": "ready",
        "until": None,
        "backends": [_backend(key) for key in backends if key in taken_back],
        "warnings": [_not_drained(situation, key) for key in backends if key not in taken_back],
    }


def _backend(key: BackendKey) -> dict[str, object]:
    owner = key.service.object
    return {
        "loadBalancer": {"namespace": owner.namespace, "name": owner.name, "port": key.service.port},
        "address": str(key.address),
        "port": key.port,
    }


def _left_alone(situation: Situation, drained: frozenset[BackendKey]) -> list[str]:
    """Services whose last backends these are: nothing is left to take new flows."""
    outcomes, overrides = situation.desired.backends, situation.overrides
    warnings = []
    for service in dict.fromkeys(key.service for key in sorted(drained)):
        others = [
            key
            for key, outcome in outcomes.items()
            if key.service == service
            and key not in drained
            and key not in overrides
            and outcome.state is BackendState.ACTIVE
            and outcome.weight
        ]
        if not others:
            warnings.append(
                f"no other backend of {service.object} {service.port} over IPv{service.family} takes new flows: "
                "new connections are refused until one does"
            )
    return warnings


def _not_drained(situation: Situation, key: BackendKey) -> str:
    name = f"{key.service.object} {key.service.port} {text_of(key.address, key.port)}"
    outcome, health = situation.desired.backends.get(key), situation.health.get(key)
    decision = situation.decisions.get(key)
    if outcome is None or outcome.state is None:
        why = (outcome.problem if outcome else "") or "it is not in the kernel yet"
    elif outcome.state is BackendState.ACTIVE and outcome.weight:
        why = "it takes new flows"
    elif outcome.problem:
        why = outcome.problem
    elif outcome.state is BackendState.DOWN and health is not None and health.reason:
        why = f"its health check fails: {health.reason}"
    elif decision is not None and decision.reason:
        why = decision.reason
    else:
        why = "its weight is 0" if not outcome.weight else f"it is {outcome.state.name.lower()}"
    return f"{name} was not drained by an operator: {why}"
