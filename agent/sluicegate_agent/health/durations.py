"""How long checks took, as a histogram that grows by replacement. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Upper bounds in seconds, included. A backend on the link answers within the first, one that pages or queues does not;
timeouts are whole seconds. Few, because every backend has them all."""


@dataclass(frozen=True, slots=True)
class Durations:
    """``counts[i]`` checks took at most ``BOUNDS[i]`` and more than the bound before; the last count has all above.

    ``seconds`` is the sum of all durations.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All checks that were timed."""
        return sum(self.counts)

    def with_one(self, seconds: float) -> Durations:
        """The same and one more check."""
        place = bisect_left(BOUNDS, seconds)
        counts = (*self.counts[:place], self.counts[place] + 1, *self.counts[place + 1 :])
        return Durations(counts, self.seconds + seconds)
