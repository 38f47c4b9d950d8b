"""Quantiles of what the kernel counts by powers of two. Pure."""

from __future__ import annotations

from sluicegate_agent.signals.model import Histogram

_MICROSECOND = 1e-6


def bucket_end(index: int) -> float:
    """Seconds below which the times of a bucket lie; those of the last bucket may be longer."""
    return float(2 ** (index + 1)) * _MICROSECOND


def quantile(histogram: Histogram, share: float) -> float | None:
    """Seconds that the given share of the times (above 0, at most 1) did not exceed; None without times.

    Within a bucket the times are taken to be spread evenly over its logarithm, so the answer is off by less than a
    factor of two.
    """
    wanted = share * histogram.total
    if not wanted:
        return None
    below = 0
    for index, count in enumerate(histogram.counts):
        if count and below + count >= wanted:
            return float(2 ** (index + (wanted - below) / count)) * _MICROSECOND
        below += count
    return bucket_end(len(histogram.counts) - 1)


def since(before: Histogram, after: Histogram) -> Histogram:
    """The times between two readings of one histogram; all of them when it started anew in between."""
    if len(before.counts) != len(after.counts) or any(
        new < old for old, new in zip(before.counts, after.counts, strict=True)
    ):
        return after
    return Histogram(tuple(new - old for old, new in zip(before.counts, after.counts, strict=True)))
