"""Decisions in words for people: short, with the number that made the difference."""

from __future__ import annotations

from typing import Final

from sluicegate_agent.weights import standing
from sluicegate_agent.weights.errors import Errors
from sluicegate_agent.weights.prior import FORGOTTEN, Known

CONFIGURED: Final = "its configured weight"
NO_WEIGHT: Final = "its configured weight is 0: no new flows"
NOT_USABLE: Final = "not usable: its checks, the way to it or an operator keep new flows away"
_STATES: Final = {
    standing.DRAIN: "says drain: no new flows",
    standing.MAINT: "says maint: no new flows",
    standing.DOWN: "says down: no new flows",
}


def percent(part: float) -> str:
    """A part of one as people write it."""
    return f"{100 * part:.0f} %" if part >= 0.01 or part == 0.0 else f"{100 * part:.2g} %"


def state(name: str, errors: Errors) -> str:
    """Why a backend gets no new flows."""
    if name != standing.EJECTED:
        return _STATES[name]
    left = max(0.0, errors.pause - errors.seconds)
    return f"ejected: {percent(errors.share)} of its new flows failed; a few again in {left:.0f} s"


def stated(known: Known, prior: float, stale_after: float) -> str:
    """What an AgentCheck backend asks for."""
    if known.weight is None and known.share is None:
        return ""
    says = f"says weight {known.weight}" if known.weight is not None else f"says {percent(known.share or 0.0)}"
    if known.quiet > stale_after:
        return f"{says}, but that was {known.quiet:.0f} s ago: going back to {CONFIGURED}"
    return says if prior != 1.0 else ""


def measured(known: Known, prior: float, stale_after: float) -> str:
    """What its load says of its capacity."""
    if known.at is not None and known.quiet > stale_after:
        way = "back to" if known.quiet > stale_after + FORGOTTEN or known.capacity is None else "going back to"
        return f"no report for {known.quiet:.0f} s: {way} {CONFIGURED}"
    capacity = known.capacity
    if capacity is None or abs(prior - 1.0) < 0.05:
        return ""
    return f"full at about {capacity:.3g} requests/s: {percent(prior)} of its weight"


def learned(prior: float) -> str:
    """What its latency taught."""
    return "" if abs(prior - 1.0) < 0.05 else f"learned from its latency: {percent(prior)} of its weight"


def slow(latency: float | None, reference: float | None, factor: float) -> str:
    """Why the guard lowers it."""
    if factor >= 1.0 or not latency or not reference:
        return ""
    return f"{latency / reference:.1f} times slower than the pool's median: {percent(factor)} of its weight"


def failing(errors: Errors) -> str:
    """Why failures lower it."""
    if errors.probation:
        return f"on probation after {errors.ejections} ejection{'s' if errors.ejections > 1 else ''}"
    if errors.share < 0.01:
        return ""
    return f"{percent(errors.share)} of its new flows fail: {percent(errors.factor)} of its weight"


def slow_start(factor: float, age: float, window: float) -> str:
    """Why a backend that has just come does not get all."""
    return "" if factor >= 1.0 else f"slow start: {percent(factor)} after {age:.0f} of {window:.0f} s"


def steps(base: float, target: float) -> str:
    """Why a weight is not yet where it belongs."""
    if base < 0.95 * target:
        return f"rising by at most 30 % per tick, to {percent(target)}"
    return f"falling step by step to {percent(target)}" if base > 1.05 * target else ""


def together(*parts: str) -> str:
    """One line from the parts that have something to say."""
    return "; ".join(filter(None, parts)) or CONFIGURED


def overload(slow_ones: int, total: int) -> str:
    """Why the guard is off for the pool."""
    return (
        f"overloaded: {slow_ones} of {total} backends are more than twice as slow as the median, too many for weights "
        "to help: the latency guard is off"
    )
