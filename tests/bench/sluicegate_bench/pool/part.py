"""One uneven pool, one trace, one fault after the other, through each balancer in turn.

Requests are timed from when they were planned, and those that fail count as infinitely slow.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from sluicegate_bench.common.machine import Machine, describe
from sluicegate_bench.common.plot import Line, lines
from sluicegate_bench.common.report import Figure, Report, Target
from sluicegate_bench.common.table import Table
from sluicegate_bench.load.generator import Trace
from sluicegate_bench.load.haproxy import version
from sluicegate_bench.load.measure import FULLEST_CPU, LONGEST_LAG
from sluicegate_bench.pool import peers
from sluicegate_bench.pool.outcome import Outcome, fair_share_of_slow
from sluicegate_bench.pool.scenario import (
    CORES,
    FACTOR,
    FULL,
    MEAN_SERVICE,
    RATE,
    SLOW,
    TINY,
    UTILIZATION,
    Scenario,
    Span,
)

SEEDS_VARIABLE = "SLUICEGATE_BENCH_SEEDS"
"""Environment variable: how many traces each balancer gets, one after the other; default 1."""

_TINY_PEERS = (peers.STATIC, peers.LEASTCONN, peers.PASSIVE)
Outcomes = Mapping[str, Sequence[Outcome]]


def run(tiny: bool, say: Callable[[str], None]) -> Report:
    """All balancers get the first trace, in turn, then all the next one."""
    started, machine = time.monotonic(), describe()
    scenario = TINY if tiny else FULL
    seeds = 1 if tiny else int(os.environ.get(SEEDS_VARIABLE, "1"))
    chosen = [peer for peer in peers.PEERS if not tiny or peer.name in _TINY_PEERS]
    found: dict[str, list[Outcome]] = {peer.name: [] for peer in chosen}
    with tempfile.TemporaryDirectory(prefix="sgb-pool-") as directory:
        for seed in range(1, seeds + 1):
            trace = Trace.poisson(RATE, scenario.end, MEAN_SERVICE, seed)
            for index, peer in enumerate(chosen):
                say(f"seed {seed} of {seeds}: {peer.name}, {scenario.end:g} s")
                found[peer.name].append(peers.perform(peer, trace, scenario, Path(directory, f"{seed}-{index}")))
    return _report(found, scenario, seeds, time.monotonic() - started, machine)


def _report(found: Outcomes, scenario: Scenario, seeds: int, took: float, machine: Machine) -> Report:
    return Report(
        part="pool",
        command="make bench PART=pool",
        seconds=took,
        machine=machine,
        tables=(_latency_table(found, scenario), _share_table(found), _gates(found, scenario)),
        targets=() if scenario is TINY else _targets(found),
        figures=tuple(_figures(found)),
        notes=_notes(scenario, seeds),
        raw={
            name: [
                {
                    "cost": asdict(one.cost),
                    "unloaded": one.unloaded,
                    "spans": {span.name: one.quantiles(span) for span in scenario.spans},
                    "shares": {str(index): one.series(index, 1.0) for index in range(len(CORES))},
                    "weights": one.weights,
                }
                for one in outcomes
            ]
            for name, outcomes in found.items()
        },
    )


def _notes(scenario: Scenario, seeds: int) -> tuple[str, ...]:
    pool = (
        f"Backends of {', '.join(str(cores) for cores in CORES)} cores, emulated in virtual time "
        f"(tests/bench/native/pool.c). {RATE:.0f} requests per second of {1e3 * MEAN_SERVICE:g} ms of one core each "
        f"(mean; lognormal, coefficient of variation 1.3) keep them busy to {UTILIZATION:.0%}. Traces: {seeds}."
    )
    faults = (
        f"At {scenario.slow_at:g} s one of two cores takes {FACTOR:g} times as long, until {scenario.recover_at:g} s; "
        f"its fair share is {fair_share_of_slow():.1%} then. At {scenario.hole_at:g} s another one of two cores begins "
        f"to reset every request; its share should be {CORES[SLOW] / sum(CORES):.1%} at most."
    )
    others = f"HAProxy {version()} with one thread and tests/bench/haproxy.cfg. One balancer, one client, no TLS."
    return pool, faults, others


def _middle(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> float:
    return median(value(one) for one in outcomes)


def _milliseconds(value: float) -> str:
    return "failed" if value == float("inf") else f"{value:,.0f}"


def _seconds(value: float) -> str:
    return "never" if value == float("inf") else f"{value:.1f}"


def _recovery(outcomes: Sequence[Outcome]) -> str:
    """Who never took anything from the slow one has nothing to give back."""
    if _middle(outcomes, lambda one: one.converged_after) == float("inf"):
        return "-"
    return _seconds(_middle(outcomes, lambda one: one.recovered_after))


def _latency_table(found: Outcomes, scenario: Scenario) -> Table:
    rows = tuple((name, *(_quantiles(outcomes, span) for span in scenario.spans)) for name, outcomes in found.items())
    return Table(
        "Latency p50 / p99 / p99.9 in ms; 'failed' where that many failed",
        ("balancer", *(span.name for span in scenario.spans)),
        rows,
    )


def _quantiles(outcomes: Sequence[Outcome], span: Span) -> str:
    columns = zip(*(one.quantiles(span) for one in outcomes), strict=True)
    return " / ".join(_milliseconds(median(column)) for column in columns)


def _share_table(found: Outcomes) -> Table:
    rows = [
        (
            name,
            _seconds(_middle(outcomes, lambda one: one.converged_after)),
            _recovery(outcomes),
            f"{_middle(outcomes, lambda one: one.wobble):.3f}",
            f"{100 * _middle(outcomes, lambda one: one.swallowed):.1f}",
            f"{100 * _middle(outcomes, lambda one: one.failed(0, one.scenario.hole_at)):.2f}",
            f"{_middle(outcomes, lambda one: one.cost.process):.0f}",
        )
        for name, outcomes in found.items()
    ]
    return Table(
        "Who gets how much",
        (
            "balancer",
            "slow one at 2 x fair share, s",
            "70 % back, s",
            "share varies",
            "black hole, first 5 s, %",
            "failed before it, %",
            "own process, µs/request",
        ),
        tuple(rows),
    )


def _gates(found: Outcomes, scenario: Scenario) -> Table:
    """What must hold before any of the figures means something."""
    rows = []
    for name, outcomes in found.items():
        lag = max(one.results.lag(0.999) for one in outcomes)
        busiest = max(one.cost.busiest for one in outcomes)
        measured, computed = outcomes[0].predicted(scenario.spans[0])
        off = max(abs(m / c - 1) for m, c in zip(measured, computed, strict=True))
        void = lag > LONGEST_LAG or busiest > FULLEST_CPU
        rows.append(
            (
                name,
                f"{_middle(outcomes, lambda one: one.unloaded):.2f}",
                f"{1e3 * lag:.2f}",
                f"{busiest:.0%}",
                " / ".join(f"{value:.0f}" for value in computed),
                f"{off:.1%}",
                "void" if void else "sound" if off <= 0.1 else "not as computed",
            )
        )
    return Table(
        "Whether to believe it (send lag up to 1 ms, CPU up to 70 %, steady latency within 10 % of what the backends' "
        "model says for the same requests on the same backends)",
        ("balancer", "no load, ms", "send lag p99.9, ms", "busiest CPU", "model p50 / p99 / p99.9", "off by", ""),
        tuple(rows),
    )


def _targets(found: Outcomes) -> tuple[Target, ...]:
    def p99(name: str, which: int = 0) -> float:
        return _middle(found[name], lambda one: one.quantiles(one.scenario.spans[which])[1])

    def middle(name: str, value: Callable[[Outcome], float]) -> float:
        return _middle(found[name], value)

    base = p99(peers.LEASTCONN)
    wobble = middle(peers.STATIC, lambda one: one.wobble)
    rows = [
        Target("p99 at 80 % / HAProxy leastconn, equal weights: Passive", "≤", 0.7, p99(peers.PASSIVE) / base),
        Target("the same: HTTP", "≤", 0.7, p99(peers.HTTP) / base),
        Target("the same: Passive, right weights", "≤", 0.7, p99(peers.RIGHT) / base),
        Target(
            "p99 in the whole fault / HAProxy leastconn, equal weights: HTTP",
            "≤",
            0.7,
            p99(peers.HTTP, 2) / p99(peers.LEASTCONN, 2),
        ),
    ]
    for name in (peers.PASSIVE, peers.HTTP, peers.RIGHT, peers.MAGLEV):
        limit = 2.0 if name == peers.MAGLEV else 1.0
        converged = middle(name, lambda one: one.converged_after)
        rows += [
            Target(f"slow one at 2 x fair share: {name}", "≤", limit, converged, "s"),
            Target(f"70 % back: {name}", "≤", 5.0, middle(name, lambda one: one.recovered_after), "s"),
            Target(f"black hole: {name}", "≤", 7.0, 100 * middle(name, lambda one: one.swallowed), "%"),
            Target(f"share varies / static: {name}", "≤", 1.5, middle(name, lambda one: one.wobble) / wobble),
        ]
    return tuple(rows)


def _figures(found: Outcomes) -> list[Figure]:
    shown = {
        "Maglev, static": peers.STATIC,
        "LeastLoad": peers.LEAST_LOAD,
        "dynamic, HTTP": peers.HTTP,
        "HAProxy leastconn": peers.LEASTCONN,
    }
    rows = [Line(label, found[name][0].series(SLOW)) for label, name in shown.items() if name in found]
    return [
        Figure(
            "bench-pool-share.svg",
            "The share of the backend that slows down, over time",
            lines("Share of the backend that slows down", rows, x="seconds", y="%"),
        )
    ]
