"""Learning what backends can do from their latency alone, where nothing else tells.

Only where LeastLoad places flows: it keeps a wrong weight from filling a queue, so a slow integrator may look for the
right one. Where the hash alone places flows the same integrator makes waiting times worse than no weights at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import fsum
from typing import Final, NamedTuple

from sluicegate_agent.weights.guard import SLACK

GAIN: Final = 0.15
"""Exponent of a tick's step. Above 0.2 the loop is faster than what it measures, and swings."""
PULL: Final = 0.03
"""Exponent towards 1 in every tick: what is not confirmed is forgotten within half a minute."""
HEAL: Final = 0.2
"""The same for a backend below 1 that was no slower than the median for two ticks."""
GOOD_TICKS: Final = 2
DEAD: Final = 0.15
"""Differences from the median that teach nothing."""
FASTEST: Final = 1.5
"""Times faster than the median that count: more is suspicious, not good."""
FAILING: Final = 0.1
"""Share of failures above which speed teaches nothing: failing is quick."""
LEAST: Final = 0.05
MOST: Final = 4.0


class Learned(NamedTuple):
    """A backend's learned factor, and for how many ticks it was no slower than the median."""

    factor: float = 1.0
    good: int = 0


UNKNOWN: Final = Learned()


class Lesson(NamedTuple):
    """One tick of a backend: its smoothed latency, that of the tick alone and how far that is to be believed (0 to 1),
    the pool's median, and the backend's share of failures."""

    latency: float | None
    sample: float
    believed: float
    reference: float | None
    errors: float


def followed(known: Learned, lesson: Lesson) -> Learned:
    """What is known after one more tick."""
    latency, sample, believed, reference, errors = lesson
    ratio = 1.0
    slower = False
    if latency is not None and reference is not None and believed > 0.0:
        ratio = min((reference + SLACK) / (latency + SLACK), FASTEST if errors <= FAILING else 1.0)
        slower = sample > reference
    good = 0 if slower else min(known.good + 1, GOOD_TICKS)
    pull = HEAL if known.factor < 1.0 and good >= GOOD_TICKS else PULL
    factor = known.factor ** (1.0 - pull)
    if abs(ratio - 1.0) >= DEAD:
        factor *= ratio ** (GAIN * believed)
    if abs(factor - 1.0) < 1e-3:
        factor = 1.0
    return Learned(min(max(factor, LEAST), MOST), good)


def mean(known: Iterable[tuple[float, int]]) -> float:
    """The mean of learned factors by configured weight, which stands for 1; from pairs of factor and weight."""
    pairs = list(known)
    total = sum(weight for _, weight in pairs)
    return fsum(factor * weight for factor, weight in pairs) / total if total else 1.0
