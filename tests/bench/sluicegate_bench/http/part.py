"""The same HTTP requests at a fixed rate through each balancer: how long they take, and what CPU time each costs.

The balancer's cost is what a run uses more than the same requests over one wire without a balancer, in the same round:
client, backends, softirq threads and the balancer's own processes together. See ``load/cpu.py`` for where the kernel's
work on packets is charged.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from sluicegate_bench.common.machine import Machine, describe
from sluicegate_bench.common.plot import Bar, bars
from sluicegate_bench.common.report import Figure, Report, Target
from sluicegate_bench.common.series import Series, interleave
from sluicegate_bench.common.table import Table, number, ratio
from sluicegate_bench.load.balancers import (
    Balancer,
    HaProxy,
    NfTables,
    Past,
    Routed,
    RoutedUnderXdp,
    Running,
    Sluicegate,
)
from sluicegate_bench.load.generator import Results, milliseconds
from sluicegate_bench.load.haproxy import version
from sluicegate_bench.load.measure import FULLEST_CPU, LONGEST_LAG, Cost, fixed_rate
from sluicegate_bench.load.site import LOAD_CPU, Site, site

_RATE = 3000.0
_SECONDS, _TINY_SECONDS = 5.0, 0.5
_ROUNDS, _TINY_ROUNDS = 7, 1
_BODY = 1024
_BACKENDS = 16
_QUANTILES = (0.5, 0.99, 0.999)

_OURS, _HASHED = "ours, LeastLoad", "ours, Maglev"
_HAPROXY, _APART = "HAProxy, on the load's CPU", "HAProxy, on a CPU of its own"
_PAST, _ROUTED, _NFTABLES = Past(), Routed(), NfTables()
_BALANCERS: tuple[Balancer, ...] = (
    _PAST,
    _ROUTED,
    RoutedUnderXdp(),
    Sluicegate(_OURS),
    Sluicegate(_HASHED, "Maglev"),
    _NFTABLES,
    HaProxy(_HAPROXY, cpu=LOAD_CPU),
    HaProxy(_APART),
)


class _Case:
    """One balancer on its own network, measured once per round."""

    def __init__(self, balancer: Balancer, place: Site, running: Running, seconds: float) -> None:
        self.balancer = balancer
        self._site, self._running, self._seconds = place, running, seconds
        self._port = 1024
        self.found: list[tuple[Results, Cost]] = []

    def measure(self) -> float:
        """One round, from ports of its own: those of the last one rest."""
        found = fixed_rate(self._site, self._running, _RATE, self._seconds, self._port)
        self._port += 4096
        self.found.append(found)
        return found[1].without_process

    def latency(self, which: int) -> Series:
        """Milliseconds, round by round."""
        return Series(tuple(milliseconds(results.latency, _QUANTILES)[which] for results, _ in self.found))

    def cost(self, value: Callable[[Cost], float]) -> Series:
        """One figure of its cost, round by round."""
        return Series(tuple(value(cost) for _, cost in self.found))


def run(tiny: bool, say: Callable[[str], None]) -> Report:
    """All balancers are up during the whole run, and idle while it is another one's turn."""
    started, machine = time.monotonic(), describe()
    rounds = _TINY_ROUNDS if tiny else _ROUNDS
    seconds = _TINY_SECONDS if tiny else _SECONDS
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sgb-http-")))
        cases: dict[str, _Case] = {}
        for index, balancer in enumerate(_BALANCERS):
            say(f"starting: {balancer.name}")
            place = stack.enter_context(site([64] * _BACKENDS, directory / str(index), body=_BODY))
            running = stack.enter_context(balancer.at(place))
            cases[balancer.name] = _Case(balancer, place, running, seconds)
        interleave({name: case.measure for name, case in cases.items()}, rounds, progress=say)
        for case in cases.values():
            del case.found[0]  # the warm-up
    return _report(cases, seconds, time.monotonic() - started, machine)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Microseconds per request, above one wire in the same round."""

    packets: Series
    process: Series

    @property
    def whole(self) -> Series:
        """Both."""
        return Series(tuple(a + b for a, b in zip(self.packets.values, self.process.values, strict=True)))


def _report(cases: dict[str, _Case], seconds: float, took: float, machine: Machine) -> Report:
    floor = cases[_PAST.name].cost(lambda cost: cost.without_process)
    costs = {
        name: _Costs(case.cost(lambda cost: cost.without_process) - floor, case.cost(lambda cost: cost.process))
        for name, case in cases.items()
        if name != _PAST.name
    }
    proxy = costs[_HAPROXY].whole
    bars_of = [
        Bar(name, cost.whole.median, f"{cost.whole.median:.1f}", int(name in {_OURS, _HASHED}))
        for name, cost in costs.items()
    ]
    notes = (
        f"HAProxy {version()} with one thread and tests/bench/haproxy.cfg; nftables with tests/bench/nftables.nft.",
        (
            f"{_BACKENDS} backends; {seconds:g} s per round. Client and backends share one CPU; over one wire they "
            f"need {floor.median:.0f} µs per request together, which is taken off. The agent runs where it can."
        ),
        (
            "HAProxy is measured in both places: on the CPU of the load it saves itself and its neighbours the waking "
            "of another CPU, on its own it has more room. The first two targets are about the cheaper one."
        ),
        (
            f"Void: more than one request in a thousand was sent {1e3 * LONGEST_LAG:g} ms late, or a CPU was busier "
            f"than {FULLEST_CPU:.0%}, whoever kept it busy."
        ),
    )
    return Report(
        part="http",
        command="make bench PART=http",
        seconds=took,
        machine=machine,
        tables=(_latency_table(cases), _cost_table(costs)),
        targets=(
            Target(f"CPU time per request: {_OURS} / {_HAPROXY}", "≤", 0.2, (costs[_OURS].whole / proxy).median),
            Target("the same without the agent's process", "≤", 0.2, (costs[_OURS].packets / proxy).median),
            Target(f"{_OURS} / {_APART}", "≤", 0.2, (costs[_OURS].whole / costs[_APART].whole).median),
        ),
        figures=(
            Figure(
                "bench-http-cpu.svg",
                "CPU time per request of each balancer",
                bars("CPU time of the balancer per request, µs", bars_of),
            ),
        ),
        notes=notes,
        raw={
            name: {
                "cost": [asdict(cost) for _, cost in case.found],
                "milliseconds": [milliseconds(results.latency, _QUANTILES) for results, _ in case.found],
                "failed": [results.failed for results, _ in case.found],
            }
            for name, case in cases.items()
        },
    )


def _latency_table(cases: dict[str, _Case]) -> Table:
    rows = []
    for name, case in cases.items():
        failed = sum(results.failed for results, _ in case.found)
        lag = median(results.lag(0.999) for results, _ in case.found)
        busiest = median(cost.busiest for _, cost in case.found)
        void = lag > LONGEST_LAG or busiest > FULLEST_CPU
        row = [f"{case.latency(which).median:.3f}" for which in range(len(_QUANTILES))]
        rows.append((name, *row, str(failed), f"{1e3 * lag:.2f}", f"{busiest:.0%}", "void" if void else ""))
    return Table(
        f"Latency of {_BODY} bytes on a connection of their own, {_RATE:,.0f} requests per second, ms",
        ("through", "p50", "p99", "p99.9", "failed", "send lag p99.9", "busiest CPU", ""),
        tuple(rows),
    )


def _cost_table(costs: dict[str, _Costs]) -> Table:
    proxy = costs[_HAPROXY].whole
    rows = []
    for name, cost in costs.items():
        low, high = cost.whole.spread
        parts = [number(part.median, 1) for part in (cost.packets, cost.process, cost.whole)]
        rows.append((name, *parts, f"{low:.1f} … {high:.1f}", ratio((cost.whole / proxy).median)))
    return Table(
        "CPU time of the balancer, µs per request (CPU seconds per million requests)",
        ("through", "in softirq and system calls of others", "own process", "both", "middle half", "of HAProxy's"),
        tuple(rows),
    )
