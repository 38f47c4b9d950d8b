"""Table, target and picture of the part ``sniffing``."""

from __future__ import annotations

from collections.abc import Mapping

from sluicegate_bench.common.machine import Machine
from sluicegate_bench.common.plot import Bar, bars
from sluicegate_bench.common.report import Figure, Report, Target
from sluicegate_bench.common.series import Series
from sluicegate_bench.common.table import Table, ratio
from sluicegate_bench.packet.measure import HOT
from sluicegate_bench.sniffing.states import State

NET, FORWARDED, LOST = "net", "forwarded", "lost"
RATE_FLOWS = (256, 4096)
"""The second as in the part ``forwarding``."""
MANY = 32768
"""Half of what the sniffer remembers by default: all stay, whatever CPU they came by."""


def name_of(what: str, state: State, flows: int) -> str:
    """Of a series."""
    return f"{what} | {state.name} | {flows}"


def report(found: Mapping[str, Series], machine: Machine, seconds: float) -> Report:
    """All that was found, in words and figures."""
    packets, rates, picture = [], [], []
    for state in State:
        row = [state.value]
        for flows in (HOT, MANY):
            series, base = (found[name_of(NET, one, flows)] for one in (state, State.ABSENT))
            row += [f"{series.median:.0f}", _spread(series, 1, 0), f"{(series - base).median:.0f}"]
        packets.append(tuple(row))
        row = [state.value]
        for flows in RATE_FLOWS:
            series, base = (found[name_of(FORWARDED, one, flows)] for one in (state, State.ABSENT))
            row += [f"{series.median / 1e6:.2f}", _spread(series, 1e6, 2), ratio((series / base).median)]
        rates.append(tuple(row))
        picture.append(Bar(state.value, series.median, f"{series.median / 1e6:.2f} Mpps", int(state is State.ABSENT)))
    tables = (
        Table(
            "ns per packet by test-run, XDP, FullNAT, UDP, IPv4, known flow, net of an empty program",
            ("the client's interface", "1 flow", "spread", "more", f"{MANY:,} flows", "spread", "more"),
            tuple(packets),
        ),
        Table(
            "Packets per second on one core, generator included (median, middle half of the rounds)",
            (
                "the client's interface",
                *(name for flows in RATE_FLOWS for name in (f"Mpps, {flows:,} flows", "spread", "to no sniffer")),
            ),
            tuple(rates),
        ),
    )
    return Report(
        part="sniffing",
        command="make bench PART=sniffing",
        seconds=seconds,
        machine=machine,
        tables=tables,
        targets=tuple(_target(found, flows) for flows in RATE_FLOWS),
        figures=(
            Figure(
                "bench-sniffing.svg",
                "Packets per second on one core, under sniffing",
                bars(f"Packets per second on one core, FullNAT, {RATE_FLOWS[-1]:,} flows", picture),
            ),
        ),
        notes=(f"Records that found no room in the ring: {sum(found[name_of(LOST, State.ALL, 0)].values):,.0f}.",),
        raw={name: series.values for name, series in found.items()},
    )


def _target(found: Mapping[str, Series], flows: int) -> Target:
    stopped = found[name_of(FORWARDED, State.STOPPED, flows)] / found[name_of(FORWARDED, State.ABSENT, flows)]
    return Target(f"forwarding rate of {flows:,} stopped flows, against no sniffer", "≥", 0.9, stopped.median)


def _spread(series: Series, unit: float, digits: int) -> str:
    low, high = series.spread
    return f"{low / unit:.{digits}f}-{high / unit:.{digits}f}"
