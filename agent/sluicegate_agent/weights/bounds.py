"""How far and how fast a weight may move, and which moves are worth telling the kernel about.

All factors are relative to the configured weight: 1 is the configured weight itself, so an edit of the configuration
moves a weight at once and keeps what was learned.
"""

from __future__ import annotations

from math import log2
from typing import Final

UP: Final = 1.3
"""Largest growth per tick: a mistake of one tick costs the others little, and ten ticks lead from the floor to 1."""
DOWN: Final = 0.5
"""Smallest remainder per tick with LeastLoad, which by itself already spares a backend that is full."""
DOWN_FAST: Final = 0.25
"""The same where the hash alone places flows, as there the weight is the only relief, and for a backend that fails:
LeastLoad sends it more, because nothing is as idle as a backend that refuses everything."""
FLOOR: Final = 0.05
"""A backend keeps this part of the mean, so that there is always something to measure it by."""
MOST: Final = 10.0
"""No measurement makes a backend worth more than ten times what is configured."""
BAND: Final = 0.05
"""Smaller moves are not published: they would rebuild tables for noise."""
STEPS: Final = 4
"""Published factors of hashed services are powers of 2^(1/4), so that nodes with slightly different measurements
agree and few slots change owner."""
HOLD: Final = 0.75
"""Steps that a factor must be away from the published one to replace it: half a step for rounding, and a quarter on
each side against swinging at the edge."""
LARGE: Final = 1.15
LARGE_ROUNDED: Final = 1.25
"""A move by this factor is published in the tick in which it is found. Smaller ones wait for a tick that publishes all
of them at once: each publication rebuilds the pool's table."""
SMALL_EVERY: Final = 5
"""Ticks from one of those to the next."""
THOUSANDTHS: Final = 1000


def floor_of(weight: int, mean: float) -> float:
    """The least factor that measurements may leave: of the mean, or of a backend's own weight when that is smaller."""
    return FLOOR * min(mean / weight, 1.0)


def limited(previous: float, target: float, *, fast: bool) -> float:
    """One tick's step from ``previous`` towards ``target``; both above 0.

    ``fast``: it may fall by DOWN_FAST. What is published may move a little further in one tick, by what rounding and
    waiting had held back.
    """
    return min(max(target, previous * (DOWN_FAST if fast else DOWN)), previous * UP, MOST)


def published(factor: float, last: float | None, *, rounded: bool, small: bool) -> float:
    """The factor to publish in place of ``last`` (None: nothing is published yet).

    ``small``: this tick publishes small moves too. Exactly 1 is then published however near the last one is, so that a
    backend to which nothing happens has exactly its configured weight.
    """
    if not last or factor <= 0.0:
        return _on_grid(factor) if rounded and factor > 0.0 else factor
    large = LARGE_ROUNDED if rounded else LARGE
    if not small and last / large <= factor <= last * large:
        return last
    if factor == 1.0:
        return factor
    if rounded:
        return last if abs(STEPS * log2(factor / last)) < HOLD else _on_grid(factor)
    return last if abs(factor - last) <= BAND * last else factor


def _on_grid(factor: float) -> float:
    return float(2.0 ** (round(STEPS * log2(factor)) / STEPS))


def thousandths(weight: int, factor: float) -> int:
    """The weight for the kernel; at least 1 for a backend that takes flows."""
    return max(1, round(THOUSANDTHS * weight * factor)) if weight > 0 and factor > 0.0 else 0
