"""The prior: what a backend is worth by its own word or by its load, before anything goes wrong.

Measured load (HTTP, Prometheus): requests per second over utilisation is the rate at which it would be full. That is
its capacity whatever its present share, unlike idle CPU, which rewards whoever happens to get little. Capacities count
relative to the median of the pool, so that one that lies moves the others little.

Stated load (AgentCheck): the share or weight that it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, fsum
from typing import Final, NamedTuple

from sluicegate_agent.signals.model import Passive, Reading, Report
from sluicegate_agent.weights.guard import median
from sluicegate_agent.weights.ticks import Tick
from sluicegate_api.checks import WeightSource

ALPHA: Final = 0.3
"""Weight of a new report."""
BLACKOUT: Final = 3
"""Good reports in a row before the first one counts: a backend that has just started has nothing to say yet."""
TINY_UTILIZATION: Final = 0.05
TINY_RATE: Final = 1.0
"""Below these a quotient of the two is noise."""
FADE: Final = 10.0
"""Seconds in which a stale prior loses all but 1/e of its distance from the configured weight."""
FORGOTTEN: Final = 3 * FADE
"""Seconds after which a stale prior is forgotten."""
BENEFIT: Final = 0.2
"""What a low capacity moves per report towards the median while its backend gets too little to show what it can do and
others are busy. Without it a bad estimate would keep itself alive: LeastLoad gives a small weight next to nothing."""
SPREAD: Final = 10.0
"""How many times more or less than the median a capacity counts."""
MOST_SHARE: Final = 10.0
MOST_WEIGHT: Final = 1000
MOST_RATE: Final = 1e12
MOST_UTILIZATION: Final = 1e3
"""What a report may say; above, it is taken for these."""

MEASURED: Final = frozenset({WeightSource.HTTP, WeightSource.PROMETHEUS, WeightSource.POD_METRICS})
ASKED: Final = MEASURED | {WeightSource.AGENT_CHECK}


class Known(NamedTuple):
    """What a backend's reports said so far.

    ``at`` is the time of the last one, ``quiet`` the seconds without a new one by the controller's own count, which no
    jump of a clock moves. ``rate`` and ``utilization`` are smoothed; ``share`` is what it asked for as part of its
    configured weight, ``weight`` the weight itself. ``idle``: the last report told of too little load to count.
    """

    at: float | None = None
    quiet: float = 0.0
    rate: float | None = None
    utilization: float | None = None
    share: float | None = None
    weight: int | None = None
    idle: bool = False

    @property
    def capacity(self) -> float | None:
        """Requests per second at full load."""
        if self.rate is None or self.utilization is None:
            return None
        return self.rate / self.utilization

    def stated(self, configured: int) -> float:
        """What it asks for, as a factor of its configured weight, which is above 0."""
        if self.weight is not None:
            return self.weight / configured
        return 1.0 if self.share is None else self.share


class Scale(NamedTuple):
    """What turns capacities into factors of configured weights: ``middle`` is the pool's median capacity per unit of
    configured weight, ``correction`` makes the mean of the weights the configured one."""

    middle: float | None = None
    correction: float = 1.0


UNKNOWN: Final = Known()


def followed(known: Known, reading: Reading | None, passive: Passive | None, time: Tick, stale_after: float) -> Known:
    """What is known after one more tick; ``passive`` gives the rate when the report does not."""
    if reading is None or reading.report is None or reading.at is None or reading.at == known.at:
        if known.at is None:
            return known
        known = known._replace(quiet=known.quiet + time.elapsed)
        return Known(known.at, known.quiet) if known.quiet > stale_after + FORGOTTEN else known
    first = known.at is None
    known = _heard(known, reading.report, reading.count, passive)
    quiet = min(max(0.0, time.now - reading.at), stale_after + FORGOTTEN) if first else 0.0
    return known._replace(at=reading.at, quiet=quiet)


def _heard(known: Known, report: Report, count: int, passive: Passive | None) -> Known:
    if report.weight is not None:
        return known._replace(weight=min(max(report.weight, 0), MOST_WEIGHT), share=None)
    if report.share is not None:
        return known._replace(share=min(max(report.share, 0.0), MOST_SHARE), weight=None)
    rate = own_rate(passive) if report.rps is None else report.rps
    used = report.utilization
    if count < BLACKOUT or rate is None or used is None:
        return known
    if rate < TINY_RATE or used < TINY_UTILIZATION:
        return known._replace(idle=True)
    rate, used = min(rate, MOST_RATE), min(used, MOST_UTILIZATION)
    if known.rate is None or known.utilization is None:
        return known._replace(rate=rate, utilization=used, idle=False)
    return known._replace(
        rate=known.rate + ALPHA * (rate - known.rate),
        utilization=known.utilization + ALPHA * (used - known.utilization),
        idle=False,
    )


def given_benefit(known: Known, weight: int, pool: Scale) -> Known:
    """What is believed of an idle backend after one more report, while others are busy."""
    if known.rate is None or known.utilization is None or pool.middle is None:
        return known
    usual = pool.middle * weight * known.utilization
    return known._replace(rate=known.rate + BENEFIT * (usual - known.rate)) if known.rate < usual else known


def without_gain(known: Known, before: Known) -> Known:
    """What is believed of a backend that fails: as failing costs it nothing, it would seem to have room for more."""
    capacity, former = known.capacity, before.capacity
    if capacity is None or (former is not None and capacity <= former):
        return known
    return known._replace(rate=before.rate, utilization=before.utilization)


def own_rate(passive: Passive | None) -> float | None:
    """Completions per second as the kernel counts them; None when nothing was counted."""
    if passive is None or passive.seconds <= 0.0:
        return None
    return max(passive.responses, passive.closed) / passive.seconds


def scale(capacities: Iterable[tuple[float | None, int]]) -> Scale:
    """The scale of a pool, from pairs of capacity, if it is known, and configured weight."""
    worth = [(capacity / weight, weight) for capacity, weight in capacities if capacity is not None]
    middle = median(worth)
    if not middle:
        return Scale()
    total = sum(weight for _, weight in worth)
    return Scale(middle, total / fsum(_relative(each, middle) * weight for each, weight in worth))


def _relative(worth: float, middle: float) -> float:
    return min(max(worth / middle, 1.0 / SPREAD), SPREAD)


def measured(known: Known, weight: int, pool: Scale, stale_after: float) -> float:
    """The prior of measured load as a factor of the configured weight; 1 when its capacity is not known."""
    capacity = known.capacity
    if capacity is None or pool.middle is None:
        return 1.0
    return faded(_relative(capacity / weight, pool.middle) * pool.correction, known.quiet, stale_after)


def faded(factor: float, quiet: float, stale_after: float) -> float:
    """What is left of a factor after ``quiet`` seconds without a report: it goes back to 1."""
    if quiet <= stale_after or factor == 1.0:
        return factor
    if quiet > stale_after + FORGOTTEN:
        return 1.0
    return 1.0 + (factor - 1.0) * exp((stale_after - quiet) / FADE)
