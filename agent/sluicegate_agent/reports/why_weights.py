"""The check on weights of ``why lb/NAME``: what each backend gets, and who says so. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.conditions import backend_name
from sluicegate_agent.reports.view import BackendView, LoadBalancerView, PortView
from sluicegate_agent.reports.weight_words import signal_trouble, weight_reason
from sluicegate_agent.weights.survey import NOTHING_SEEN

MOST_LINES = 12
"""One screen: what is told of more backends stands in status."""

_EJECTED = "ejected"
_FAMILIES = re.compile(r"IPv[46]: |; ")
"""What joins the notes of both families of a port."""


def weights(view: LoadBalancerView) -> Check:
    """One line for each backend whose weight is another than the configured one, or of which something is said.

    It fails where weights cannot do their work: a signal is lost, or a backend is ejected. What an operator or a
    backend asked for is no fault.
    """
    lines = [line for port in view.ports for line in _port(port, several=len(view.ports) > 1)]
    troubles = [trouble for port in view.ports for trouble in _troubles(port)]
    if not lines:
        return Check(CheckId.WEIGHTS, ok=True, message="every backend has its configured weight")
    more = len(lines) - MOST_LINES
    text = "\n".join([*lines[:MOST_LINES], *([f"and {more} more: sluicegate top backends"] if more > 0 else [])])
    return Check(CheckId.WEIGHTS, ok=not troubles, message=text, next=troubles[0] if troubles else "")


def _port(port: PortView, *, several: bool) -> Iterator[str]:
    place = f"{port.name} " if several else ""
    if port.panic:
        yield f"{place}panic: {port.panic}"
    if port.note and port.note not in port.panic:
        yield f"{place}{port.note}"
    for backend in port.backends:
        reason = weight_reason(backend)
        if reason or abs(backend.effective_weight - backend.weight) >= 0.0005 * max(1, backend.weight):
            yield f"{place}{_figures(backend)}" + (f": {reason}" if reason else "")


def _figures(backend: BackendView) -> str:
    return f"{backend_name(backend)} {backend.weight} -> {backend.effective_weight:.4g}"


def _troubles(port: PortView) -> Iterator[str]:
    """What to do about each trouble, the worst first."""
    if not port.panic and _FAMILIES.sub("", port.note.replace(NOTHING_SEEN, "")):
        yield "see what the line above says of the port; spec.dynamicWeights names the source"
    for backend in port.backends:
        if signal_trouble(backend):
            yield f"ask {backend.address} by hand for what spec.dynamicWeights says, from this node"
    for backend in port.backends:
        if backend.decision is not None and backend.decision.state == _EJECTED:
            yield f"see the log of the server on {backend.address}: new connections to it fail"
