"""The latency guard: a backend much slower than the pool's median gets less. Being fast is never rewarded.

A reward for speed would feed a backend that fails fast, and two loops on one weight swing. So the guard only lowers,
and only against the median of the same pool in the same second, which a slow network or a heavy hour shifts as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import Final

from sluicegate_agent.signals.model import Passive

RISE: Final = 0.6
"""Weight of a new latency above the estimate."""
FALL: Final = 0.3
"""Weight of one below it with LeastLoad. Where the hash alone places flows it is RISE: recovery has no other help."""
FORGET: Final = 0.2
"""What an estimate moves towards the median in a tick without a sample: nobody is held to an old one."""
TOLERANCE: Final = 1.5
"""Times the median that cost nothing."""
SLACK: Final = 0.0005
"""Seconds above that which cost nothing either: so small a difference comes from the path, not from load."""
ENOUGH: Final = 8.0
"""Independent observations that make a full sample; fewer count in proportion."""
READS_PER_SECOND: Final = 10.0
"""How often the flows in flight are read: each reading is one observation of their mean."""
CLEARLY_SLOW: Final = 2.0
"""Times the median at which a backend counts as slow for the pool as a whole."""
ENTER_OVERLOAD: Final = 1 / 3
LEAVE_OVERLOAD: Final = 1 / 4
"""Parts of the pool's weight that are clearly slow. Above the first the pool is overloaded and taking weight from some
would break the others; the second is lower so that a pool at the edge does not swing."""
LONGEST: Final = 3600.0
SHORTEST: Final = 1e-6
"""Latencies are held between these, in seconds."""


def sampled(passive: Passive | None, estimate: float | None) -> tuple[float, float]:
    """One tick's latency, and how far it is to be believed: 0 without one, 1 from ENOUGH observations on.

    By Little's law a latency is a mean number in flight over a number of completions, so both limit it. A backend that
    hangs completes nothing and has no latency, but what is in flight is a lower bound of it.
    """
    if passive is None:
        return 0.0, 0.0
    done = max(passive.responses, passive.closed)
    level = passive.in_flight if passive.responses or passive.in_flight else passive.active
    observed = READS_PER_SECOND * passive.seconds * level
    latency = passive.latency
    if latency is None:
        if estimate is None:
            return 0.0, 0.0
        latency = passive.in_flight * passive.seconds / (1 + passive.responses)
    elif done:
        observed = min(observed, done)
    return min(max(latency, SHORTEST), LONGEST), min(1.0, max(0.0, observed) / ENOUGH)


def followed(
    estimate: float | None, sample: float, believed: float, reference: float | None, *, by_load: bool
) -> float | None:
    """The estimate after one more tick; ``reference`` is the pool's median of the tick before."""
    if estimate is None:
        if believed <= 0.0:
            return None
        estimate = sample if reference is None else reference
    weight = (RISE if sample > estimate or not by_load else FALL) * believed
    forgotten = FORGET * (1.0 - believed) * (reference - estimate) if reference is not None else 0.0
    return estimate + weight * (sample - estimate) + forgotten


def median(latencies: Iterable[tuple[float, float]]) -> float | None:
    """The least latency that backends with half of the weight keep to; from pairs of latency and weight."""
    ordered = sorted(latencies)
    half = fsum(weight for _, weight in ordered) / 2
    for latency, weight in ordered:
        half -= weight
        if half <= 0:
            return latency
    return None


def guard(latency: float | None, reference: float | None) -> float:
    """The factor: 1 up to TOLERANCE times the reference, then in inverse proportion to the latency."""
    if latency is None or reference is None:
        return 1.0
    return min(1.0, (TOLERANCE * reference + SLACK) / latency)


def clearly_slow(latency: float | None, reference: float | None) -> bool:
    """Whether a backend counts as slow for the pool as a whole."""
    return guard(latency, reference) < TOLERANCE / CLEARLY_SLOW


def overloaded(slow: Iterable[float], total: float, *, was: bool) -> bool:
    """Whether too much of the pool is slow for the guard to help; ``slow`` are the weights of the clearly slow ones.

    A single slow backend never makes a pool overloaded: the median already holds at least half of the weight.
    """
    weights = list(slow)
    return len(weights) > 1 and fsum(weights) > (LEAVE_OVERLOAD if was else ENTER_OVERLOAD) * total
