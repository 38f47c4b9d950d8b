"""A small discrete-event simulator: a pool under open-loop load, its weights set by the real controller once a second.

Backends share their cores between their jobs (processor sharing); one job never runs on more than one core, so an idle
backend answers equally fast whatever its size. Jobs come as a Poisson stream with lognormal sizes of 20 ms on average.
Time is simulated throughout: nothing here reads a clock, and a seed gives the same run on every machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, sqrt

import numpy as np

from sluicegate_agent.signals.model import Load, Reading, Report
from sluicegate_agent.signals.passive import PassiveMeter
from sluicegate_agent.weights.controller import Controller
from sluicegate_agent.weights.model import Member, Pool, PoolDecision
from sluicegate_api.checks import WeightSource

MEAN, SIGMA = 0.020, 1.0
READ = 0.1
"""Seconds between readings of the counters, as the agent does."""
DELAY = 0.2
"""Seconds from a tick to the new table."""
SLOTS = 4093
DRAWS = 4
TICK = 1.0
UNEVEN = (1,) * 6 + (2,) * 6 + (4,) * 4
"""Cores of the backends; BAD is the one that gets into trouble."""
BAD = 8
FACTOR = 5.0
HOLE_SECONDS = 0.0005


@dataclass
class Server:
    """A backend in virtual time: ``work`` is the service that each of its present jobs has had so far."""

    cores: float
    speed: float = 1.0
    hole: bool = False
    work: float = 0.0
    rate: float = 0.0
    at: float = 0.0
    due: float = inf
    jobs: list[tuple[float, int]] = field(default_factory=list)
    busy: float = 0.0
    done: int = 0
    opened: int = 0
    failures: int = 0
    reported: int = 0

    def advance(self, now: float) -> None:
        self.work += self.rate * (now - self.at)
        self.busy += min(len(self.jobs), self.cores) * (now - self.at)
        self.at = now

    def replan(self) -> None:
        count = len(self.jobs)
        self.rate = self.speed * min(1.0, self.cores / count) if count else 0.0
        self.due = self.at + (self.jobs[0][0] - self.work) / self.rate if count else inf

    def start(self, now: float, size: float, job: int) -> None:
        self.advance(now)
        heapq.heappush(self.jobs, (self.work + (HOLE_SECONDS * self.speed if self.hole else size), job))
        self.opened += 1
        self.replan()

    def finish(self) -> int:
        self.advance(self.due)
        job = heapq.heappop(self.jobs)[1]
        if self.hole:
            self.failures += 1
        else:
            self.done += 1
        self.replan()
        return job

    def load(self) -> Load:
        """The counters as the kernel keeps them."""
        closed = self.done + self.failures
        return Load(self.opened, closed, self.opened, self.done, resets=self.failures, abandoned=self.failures)

    def report(self, nominal: float, seconds: float) -> Report:
        """What the backend says of itself after so many seconds; all counts as done to it."""
        done = self.done + self.failures
        report = Report(utilization=self.busy / seconds / nominal, rps=(done - self.reported) / seconds)
        self.busy, self.reported = 0.0, done
        return report


@dataclass(frozen=True)
class Scenario:
    """A run. ``fault`` is "slow" (5 times the work per job), "steal" (4/5 of the cores gone, which its utilisation does
    not show) or "hole" (fails at once), on BAD from ``begin`` to ``end``. ``joins`` comes into use at ``begin`` and
    leaves at ``end``. ``right``: the configured weights are the cores, else all are equal."""

    by_load: bool
    source: WeightSource
    seed: int = 1
    cores: tuple[int, ...] = UNEVEN
    utilization: float = 0.8
    fault: str = ""
    joins: int | None = None
    slow_start: float = 0.0
    begin: float = 12.0
    end: float = 24.0
    length: float = 44.0
    right: bool = True
    controlled: bool = True


@dataclass
class Run:
    """What came out: arrays by job, and the decisions of each tick."""

    scenario: Scenario
    at: np.ndarray
    latency: np.ndarray
    where: np.ndarray
    failed: np.ndarray
    decisions: list[tuple[float, PoolDecision]]

    def share(self, begin: float, end: float, backend: int = BAD) -> float:
        """Part of the new flows in a span of time that a backend got."""
        inside = (self.at >= begin) & (self.at < end)
        return float((self.where[inside] == backend).mean()) if inside.any() else 0.0

    def p99(self, begin: float, end: float) -> float:
        """99th percentile of the latency of jobs that came in a span of time, in seconds."""
        return float(np.percentile(self.latency[(self.at >= begin) & (self.at < end)], 99))

    def first(self, begin: float, end: float, holds: Callable[[float], bool]) -> float:
        """Seconds after ``begin`` from when on ``holds`` is true, tried each half second; infinite if never."""
        return next((float(t - begin) for t in np.arange(begin, end, 0.5) if holds(float(t))), inf)

    def converged(self) -> float:
        """Seconds until the bad backend gets at most twice what it can do, for three seconds in a row."""
        scenario, cores = self.scenario, self.scenario.cores
        fair = (cores[BAD] / FACTOR) / (sum(cores) - cores[BAD] * (1 - 1 / FACTOR))

        def spared(t: float) -> bool:
            return all(self.share(t + k, t + k + 1) <= 2 * fair for k in range(3))

        return self.first(scenario.begin, scenario.end - 3, spared)

    def recovered(self) -> float:
        """Seconds after the fault until the backend has 70 % of its former share again, over three seconds."""
        scenario = self.scenario
        before = self.share(4, scenario.begin)
        return self.first(scenario.end, scenario.length - 3, lambda t: self.share(t, t + 3) >= 0.7 * before)

    def wobble(self, begin: float, end: float) -> float:
        """Deviation of a big backend's share in windows of a second, relative to that of a static random choice."""
        big = len(self.scenario.cores) - 1
        shares = [self.share(t, t + 1, big) for t in np.arange(begin, end)]
        p = float(np.mean(shares))
        flows = float(((self.at >= begin) & (self.at < end)).sum()) / (end - begin)
        return float(np.std(shares)) / sqrt(p * (1 - p) / flows)

    def rebuilds(self, begin: float, end: float) -> int:
        """How many ticks changed any weight in a span of time: each of them rebuilds the table."""
        inside = [
            {name: each.weight for name, each in d.members.items()} for t, d in self.decisions if begin <= t < end
        ]
        return sum(old != new for old, new in pairwise(inside))


def table(weights: dict[int, int]) -> list[int]:
    """Slots in proportion to the weights, the largest remainders first."""
    names = [name for name, weight in weights.items() if weight > 0]
    exact = np.array([weights[name] for name in names], float)
    exact *= SLOTS / exact.sum()
    slots = np.floor(exact).astype(int)
    slots[np.argsort(slots - exact, kind="stable")[: SLOTS - slots.sum()]] += 1
    return [int(name) for name in np.repeat(names, slots)]


def simulate(scenario: Scenario) -> Run:  # noqa: PLR0912, PLR0915 - one loop over one queue of events
    """Run a scenario to its end; what is then unfinished is finished, not dropped."""
    rng = np.random.default_rng(scenario.seed)
    cores = scenario.cores
    rate = sum(cores) * scenario.utilization / MEAN
    arrivals = np.cumsum(rng.exponential(1 / rate, int(rate * scenario.length * 1.05) + 50))
    arrivals = arrivals[arrivals < scenario.length]
    jobs = len(arrivals)
    sizes = rng.lognormal(np.log(MEAN) - SIGMA**2 / 2, SIGMA, jobs).tolist()
    draws = rng.integers(0, SLOTS, (jobs, DRAWS)).tolist()
    at = arrivals.tolist()
    servers = [Server(float(each)) for each in cores]
    latency, where, failed = [0.0] * jobs, [0] * jobs, [False] * jobs
    configured = {b: 10 * cores[b] if scenario.right else 10 for b in range(len(cores))}
    inside = set(configured) - {scenario.joins}
    effective = {b: 1000 * configured[b] for b in inside}
    slots = table(effective)
    controller, meter = Controller(), PassiveMeter()
    decisions: list[tuple[float, PoolDecision]] = []
    reports = [0] * len(cores)

    def step(now: float) -> PoolDecision:
        members = {}
        measured = meter.tick()
        for b, server in enumerate(servers):
            server.advance(now)
            report = server.report(cores[b], TICK)
            if b in inside:
                reports[b] += 1
                since = scenario.begin if b == scenario.joins else None
                members[b] = Member(configured[b], True, since, measured.get(b), Reading(report, now, "", reports[b]))
        pool = Pool(scenario.source, members, by_load=scenario.by_load, slow_start=scenario.slow_start)
        return controller.step("pool", pool, now)

    events: list[tuple[float, int, str]] = [(scenario.begin, 0, "begin"), (scenario.end, 0, "end")]
    events += [(TICK * k, 2, "tick") for k in range(1, int(scenario.length / TICK))]
    events += [(READ * k, 1, "read") for k in range(1, int(scenario.length / READ))]
    heapq.heapify(events)
    index = 0
    while True:
        arrival = at[index] if index < jobs else inf
        event = events[0][0] if events else inf
        due = min(server.due for server in servers)
        if due <= min(arrival, event):
            if due == inf:
                break
            server = next(server for server in servers if server.due == due)
            job = server.finish()
            latency[job], failed[job] = due - at[job], server.hole
        elif event <= arrival:
            now, _, what = heapq.heappop(events)
            if what == "read":
                meter.sample(now, {b: server.load() for b, server in enumerate(servers)})
            elif what == "tick" and scenario.controlled:
                decision = step(now)
                decisions.append((now, decision))
                heapq.heappush(events, (now + DELAY, 3, "publish"))
            elif what == "publish":
                effective = {b: each.weight for b, each in decisions[-1][1].members.items() if b in inside}
                slots = table(effective)
            elif what in {"begin", "end"}:
                on = what == "begin"
                if scenario.joins is not None:
                    (inside.add if on else inside.discard)(scenario.joins)
                    if not on:
                        effective.pop(scenario.joins, None)
                        slots = table(effective)
                server = servers[BAD]
                server.advance(now)
                server.speed = 1 / FACTOR if on and scenario.fault == "slow" else 1.0
                server.cores = cores[BAD] / FACTOR if on and scenario.fault == "steal" else float(cores[BAD])
                server.hole = on and scenario.fault == "hole"
                server.replan()
        else:
            picks = draws[index]
            best = slots[picks[0]]
            if scenario.by_load:
                held = len(servers[best].jobs)
                for pick in picks[1:]:
                    other = slots[pick]
                    count = len(servers[other].jobs)
                    if (held or count) and (2 * count + 1) * effective[best] < (2 * held + 1) * effective[other]:
                        best, held = other, count
            where[index] = best
            servers[best].start(arrival, sizes[index], index)
            index += 1
    return Run(scenario, arrivals, np.array(latency), np.array(where), np.array(failed), decisions)
