"""One replay with the CPU time of all who take part in it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sluicegate_bench.load.balancers import Running
from sluicegate_bench.load.cpu import idle_seconds, seconds_of, softirq_threads
from sluicegate_bench.load.generator import Generator, Results, Trace
from sluicegate_bench.load.site import Site

_DRAIN_SECONDS = 30.0
LONGEST_LAG = 1e-3
"""Seconds: when more than one in a thousand requests was sent later than that, a run is void."""
FULLEST_CPU = 0.7
"""So is one in which a CPU was busier than that."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds during one replay; ``busiest`` is the busy part of the busiest CPU, others' work included."""

    requests: int
    generator: float
    backends: float
    softirq: float
    balancer: float
    seconds: float
    busiest: float

    @property
    def without_process(self) -> float:
        """Microseconds per request of all but the balancer's own processes."""
        return 1e6 * (self.generator + self.backends + self.softirq) / self.requests

    @property
    def process(self) -> float:
        """Microseconds per request of the balancer's own processes."""
        return 1e6 * self.balancer / self.requests


class Meter:
    """Started together with a replay; :meth:`read` when it has ended."""

    def __init__(self, site: Site, running: Running) -> None:
        self._groups = ([site.backends.pid], softirq_threads(), list(running.pids))
        self._before = [seconds_of(group) for group in self._groups]
        self._idle = idle_seconds()
        self._at = time.monotonic()

    def read(self, results: Results) -> Cost:
        """What it cost since."""
        passed = time.monotonic() - self._at
        now = [seconds_of(group) for group in self._groups]
        backends, softirq, balancer = (after - before for after, before in zip(now, self._before, strict=True))
        idle = [after - before for after, before in zip(idle_seconds(), self._idle, strict=True)]
        busiest = max(1 - value / passed for value in idle)
        return Cost(len(results.rows), results.cpu, backends, softirq, balancer, passed, busiest)


def fixed_rate(site: Site, running: Running, rate: float, seconds: float, first_port: int) -> tuple[Results, Cost]:
    """Evenly spaced requests that need no service."""
    count = max(1, round(rate * seconds))
    generator = Generator(site, running.target, running.sources, rate=rate, count=count, first_port=first_port)
    meter = Meter(site, running)
    results = generator.finish(seconds + _DRAIN_SECONDS)
    return results, meter.read(results)


def replay(site: Site, running: Running, trace: Trace, timeout: float) -> tuple[Generator, Meter]:
    """Start to replay a trace."""
    return Generator(site, running.target, running.sources, trace=trace, timeout=timeout), Meter(site, running)
