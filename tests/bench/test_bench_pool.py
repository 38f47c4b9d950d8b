"""What the pool benchmark makes of who got how much when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sluicegate_bench.load.generator import OUTCOMES, VISIT, Array, Results
from sluicegate_bench.load.measure import Cost
from sluicegate_bench.pool.outcome import Outcome, fair_share_of_slow
from sluicegate_bench.pool.scenario import CORES, FULL, HOLE, SLOW

RATE = 1000


def outcome(share: Callable[[float], float], backend: int = SLOW, latency: float = 0.02) -> Outcome:
    """An outcome in which a backend gets a share of the requests that depends on the time, and backend 0 the others."""
    at = np.arange(0, FULL.end, 1 / RATE)
    rows, seen = np.zeros(len(at), OUTCOMES), np.zeros(len(at), VISIT)
    rows["planned"] = seen["at"] = at
    rows["latency"], rows["outcome"] = latency, 1
    wanted = np.cumsum([share(moment) for moment in at])
    seen["backend"] = np.where(np.diff(np.floor(wanted), prepend=0) > 0, backend, 0)
    events = tuple(FULL.events)
    return Outcome(FULL, Results(0.0, 1.0, rows), seen, events, Cost(len(at), 1, 1, 0, 0, FULL.end, 0.5), 0.1)


def test_the_fair_share_of_a_slow_backend_is_what_it_can_do() -> None:
    assert sum(CORES) == 34
    assert fair_share_of_slow() == pytest.approx(0.4 / 32.4)


def test_it_tells_when_the_slow_backend_is_spared_and_when_it_is_back() -> None:
    def share(at: float) -> float:
        if FULL.slow_at + 1.5 <= at < FULL.recover_at + 4:
            return 0.01
        return 0.06

    found = outcome(share)
    assert found.converged_after == pytest.approx(1.3, abs=0.35)  # the first window of a second with at most 2.5 %
    assert found.recovered_after == pytest.approx(3.0, abs=0.5)  # the first of three seconds with 4.2 % on average


def test_a_backend_that_keeps_its_share_is_never_spared() -> None:
    assert outcome(lambda _: 0.06).converged_after == float("inf")


def test_the_black_hole_is_counted_from_when_it_opened() -> None:
    found = outcome(lambda at: 0.5 if at >= FULL.hole_at else 0.0, HOLE)
    assert found.swallowed == pytest.approx(0.5, abs=0.01)


def test_failed_requests_are_slower_than_any_other() -> None:
    found = outcome(lambda _: 0.06)
    latency: Array = found.results.rows["latency"]
    latency[::50] = np.inf
    steady = found.quantiles(FULL.spans[0])
    assert steady[0] == pytest.approx(20.0)
    assert steady[1] == steady[2] == float("inf")
    assert found.failed(0, FULL.end) == pytest.approx(0.02)


def test_a_share_that_never_changes_does_not_vary() -> None:
    assert outcome(lambda _: 0.1, backend=len(CORES) - 1).wobble == pytest.approx(0, abs=1e-9)
    assert outcome(lambda at: 0.05 + 0.1 * (int(at) % 2), backend=len(CORES) - 1).wobble == pytest.approx(0.5, abs=0.05)
