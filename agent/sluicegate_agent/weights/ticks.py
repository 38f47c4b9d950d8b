"""The controller's sense of time, which no jump of a clock upsets."""

from __future__ import annotations

from typing import Final, NamedTuple

MOST_INTERVALS: Final = 5.0
"""Longer gaps between steps count as this many intervals: what a clock skipped is no experience."""


class Tick(NamedTuple):
    """A step's time: ``elapsed`` seconds since the last tick. ``counts`` is False for a step between two ticks, which
    applies facts but takes no samples."""

    now: float
    elapsed: float
    counts: bool


def tick(last: float | None, interval: float, now: float) -> Tick:
    """The time of a step after the tick at ``last``. A clock that jumps back costs one tick, forward a few."""
    if last is None:
        return Tick(now, 0.0, counts=True)
    elapsed = now - last
    if 0.0 <= elapsed < 0.5 * interval:
        return Tick(now, 0.0, counts=False)
    return Tick(now, min(max(0.0, elapsed), MOST_INTERVALS * interval), counts=True)
