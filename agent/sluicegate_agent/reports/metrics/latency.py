"""From the kernel's histograms of times by powers of two to buckets in seconds. Pure.

A backend has two of them, so what nobody can act on is put together: all below 64 microseconds is one bucket, and the
last bound is 4.2 seconds.
"""

from __future__ import annotations

from math import sqrt

from sluicegate_agent.reports.metrics.definition import Distribution
from sluicegate_agent.signals.model import Histogram

_FIRST, _LAST = 6, 22
"""Powers of two, in microseconds, of the first and the last bound."""

BOUNDS = tuple(2**power / 1e6 for power in range(_FIRST, _LAST + 1))
"""Upper bounds in seconds. A time of exactly a bound is in the next bucket: the kernel rounds down to microseconds, so
that is a microsecond of difference at most."""


def distribution(histogram: Histogram) -> Distribution:
    """Buckets between :data:`BOUNDS`, and an estimate of the sum.

    The kernel adds up no times. Each counts as the geometric mean of its bucket's bounds, which puts the sum off by a
    factor of 1.41 at most, to either side; only of the kernel's last bucket, which has no upper bound, nothing is known
    but that each time is at least its lower one, so there the sum is too small.
    """
    counts = [0] * (len(BOUNDS) + 1)
    total = 0.0
    last = len(histogram.counts) - 1
    for power, count in enumerate(histogram.counts):
        counts[min(max(power + 1 - _FIRST, 0), len(BOUNDS))] += count
        total += count * 2**power * (sqrt(2) if power < last else 1) / 1e6
    return Distribution(counts, total)
