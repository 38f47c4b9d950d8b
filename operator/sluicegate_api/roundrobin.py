"""The table of a weighted round robin: walked slot by slot, wrapping around at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import gcd

from sluicegate_api.shares import turns

LONGEST_TABLE = 4093


def round_robin_table(weights: Mapping[str, int]) -> tuple[str, ...]:
    """Slot → backend, keyed by ``address:port``, each one's slots spread evenly; empty when no backend has a weight.

    The length is the sum of the weights over their common divisor. Above LONGEST_TABLE the shares are rounded so that
    they fit, and every backend with a weight keeps at least one slot.
    """
    usable = {name: weight for name, weight in weights.items() if weight > 0}
    if not usable:
        return ()
    length = sum(usable.values()) // gcd(*usable.values())
    counts = Counter(turns(usable, min(length, LONGEST_TABLE)))
    # Backends start at different times within their first interval: equal ones alternate, unequal ones do not meet.
    heaviest_first = sorted(counts, key=lambda name: (-counts[name], name))
    times = [
        ((slot + (rank + 0.5) / len(counts)) / counts[name], rank)
        for rank, name in enumerate(heaviest_first)
        for slot in range(counts[name])
    ]
    return tuple(heaviest_first[rank] for _, rank in sorted(times))
