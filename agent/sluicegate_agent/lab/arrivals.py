"""When requests come and how much work they are: a trace that a seed determines, to be sent to several peers."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

_SPREAD = 0.5  # sigma of the work's logarithm: the coefficient of variation is 0.53, one in a hundred is 2.8 times mean


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: seconds after the start of the trace, and its work in seconds of one core."""

    at: float
    work: float


def arrivals(seed: int, rate: float, work: float) -> Iterator[Arrival]:
    """Poisson arrivals, ``rate`` per second, with lognormal work of mean ``work`` seconds; without end."""
    chance = random.Random(seed)  # noqa: S311
    middle = math.log(work) - _SPREAD**2 / 2
    at = 0.0
    while True:
        at += chance.expovariate(rate)
        yield Arrival(at, chance.lognormvariate(middle, _SPREAD))
