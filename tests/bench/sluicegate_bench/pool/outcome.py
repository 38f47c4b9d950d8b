"""What one replay came to: latencies by span, and who got how much when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sluicegate_bench.load.generator import Array, Results, milliseconds
from sluicegate_bench.load.measure import Cost
from sluicegate_bench.load.native import predict
from sluicegate_bench.pool.scenario import CORES, FACTOR, HOLE, SLOW, Scenario, Span

QUANTILES = (0.5, 0.99, 0.999)
_BIG = tuple(index for index, cores in enumerate(CORES) if cores == max(CORES))
_WINDOW, _STEP, _RUN = 1.0, 0.1, 3
_RECOVERY_WINDOW, _BACK = 3.0, 0.7


def fair_share_of_slow() -> float:
    """The part of the pool's work that the slow backend can do while it is slow."""
    left = CORES[SLOW] / FACTOR
    return left / (sum(CORES) - CORES[SLOW] + left)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One replay through one balancer.

    ``visits`` are what came to the backends, with ``at`` counted from the trace's beginning; ``events`` when the faults
    took effect on that scale; ``unloaded`` the median latency in ms of requests without service before the replay;
    ``weights`` what the balancer said its weights were, by time.
    """

    scenario: Scenario
    results: Results
    visits: Array
    events: tuple[tuple[float, str], ...]
    cost: Cost
    unloaded: float
    weights: tuple[tuple[float, dict[str, float]], ...] = ()

    def quantiles(self, span: Span) -> list[float]:
        """Latencies in ms of the requests planned in a span; failed ones are infinite."""
        planned = self.results.rows["planned"]
        return milliseconds(self.results.latency[(planned >= span.begin) & (planned < span.end)], QUANTILES)

    def failed(self, begin: float, end: float) -> float:
        """The part of the requests planned in a span that failed."""
        planned = self.results.rows["planned"]
        inside = (planned >= begin) & (planned < end)
        return float(np.isinf(self.results.latency[inside]).mean()) if inside.any() else float("nan")

    def share(self, backend: int, begin: float, end: float) -> float:
        """The part of the requests that came to a backend."""
        inside = (self.visits["at"] >= begin) & (self.visits["at"] < end)
        return float((self.visits["backend"][inside] == backend).mean()) if inside.any() else 0.0

    def series(self, backend: int, step: float = 0.5) -> list[tuple[float, float]]:
        """Its share in windows of ``step`` seconds, in per cent, by the middle of the window."""
        return [
            (float(at + step / 2), 100 * self.share(backend, at, at + step))
            for at in np.arange(0, self.scenario.end - step / 2, step)
        ]

    @property
    def converged_after(self) -> float:
        """Seconds until the slow backend gets at most twice its fair share, and for three seconds on; inf: never."""
        begin, end = self.events[0][0], self.scenario.recover_at
        for at in np.arange(begin, end - _RUN * _WINDOW, _STEP):
            windows = [self.share(SLOW, at + n * _WINDOW, at + (n + 1) * _WINDOW) for n in range(_RUN)]
            if max(windows) <= 2 * fair_share_of_slow():
                return float(at - begin)
        return float("inf")

    @property
    def recovered_after(self) -> float:
        """Seconds until it has 70 % of its former share back; inf: not before the next fault."""
        begin, end = self.events[1][0], self.events[2][0]
        former = self.share(SLOW, self.scenario.steady_at, self.scenario.slow_at)
        for at in np.arange(begin, end - _RECOVERY_WINDOW, _STEP):
            if self.share(SLOW, at, at + _RECOVERY_WINDOW) >= _BACK * former:
                return float(at - begin)
        return float("inf")

    @property
    def swallowed(self) -> float:
        """The part of the connections that the black hole got in its first five seconds."""
        begin = self.events[2][0]
        return self.share(HOLE, begin, min(begin + 5, self.scenario.end))

    @property
    def wobble(self) -> float:
        """How much a big backend's share varies from one second to the next while all is well: deviation / mean."""
        starts = np.arange(self.scenario.steady_at, self.scenario.slow_at - _WINDOW + 1e-9, _WINDOW)
        rows = np.array([[self.share(backend, at, at + _WINDOW) for at in starts] for backend in _BIG])
        rows = rows[rows.any(axis=1)]
        if len(rows) == 0 or rows.shape[1] < 2:
            return float("nan")
        return float(np.mean(rows.std(axis=1, ddof=1) / rows.mean(axis=1)))

    def predicted(self, span: Span) -> tuple[list[float], list[float]]:
        """Latencies in ms of the answered requests that came to backends in a span, measured and as computed.

        Computed from when each request was planned, which backend got it and what service it asked for, as if nothing
        but the backends took time.
        """
        rows = self.results.rows
        served = rows[rows["outcome"] == 1]
        speeds = [(self.events[0][0], f"{SLOW} speed {1 / FACTOR:.9g}"), (self.events[1][0], f"{SLOW} speed 1")]
        arrivals = [
            (float(row["planned"]), f"{row['backend']} {row['service'] * 1e-6:.9g}")
            for row in served[["planned", "backend", "service"]]
        ]
        lines = [f"{at:.9f} {text}" for at, text in sorted(arrivals + speeds, key=lambda pair: pair[0])]
        computed = np.array(predict(CORES, lines))
        inside = (served["planned"] >= span.begin) & (served["planned"] < span.end)
        return (
            milliseconds(np.asarray(served["latency"], dtype=float)[inside], QUANTILES),
            milliseconds(computed[inside], QUANTILES),
        )
