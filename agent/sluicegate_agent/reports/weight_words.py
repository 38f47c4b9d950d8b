"""Why a backend has the weight it has, in one line: the same words in top and in why. Pure."""

from __future__ import annotations

from sluicegate_agent.planning.pools import drained_words
from sluicegate_agent.reports.view import BackendView
from sluicegate_agent.weights.reasons import CONFIGURED, NOT_USABLE


def weight_reason(backend: BackendView) -> str:
    """What an operator said first, then checks and routes, then what was measured; empty when nothing is said."""
    override = drained_words(backend.override) if backend.override is not None else ""
    decision = backend.decision.reason if backend.decision is not None else ""
    parts = [
        override,
        backend.reason,
        "" if decision in {CONFIGURED, NOT_USABLE} else decision,
        signal_trouble(backend),
    ]
    told: list[str] = []
    for part in parts:
        if part and not any(part in other for other in told):
            told = [*(other for other in told if other not in part), part]
    return "; ".join(told)


def signal_trouble(backend: BackendView) -> str:
    """What is wrong with what the backend is asked for; empty while it answers, or is not asked."""
    signal = backend.signal
    if signal is None or not signal.error:
        return ""
    age = backend.signal_age
    last = "never answered" if age is None else f"last answer {age:.0f} s ago"
    return f"signal: {signal.error} ({last})"


def takes_flows(backend: BackendView) -> bool:
    """Whether new flows can go to it."""
    return backend.state == "active" and backend.effective_weight > 0
