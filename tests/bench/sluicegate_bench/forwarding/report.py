"""Tables, target and picture of the part ``forwarding``."""

from __future__ import annotations

from collections.abc import Mapping

from sluicegate_bench.common.machine import Machine
from sluicegate_bench.common.plot import Bar, bars
from sluicegate_bench.common.report import Figure, Report, Target
from sluicegate_bench.common.series import Series
from sluicegate_bench.common.table import Table, ratio

_OURS = "Sluicegate, FullNAT"
_THEIRS = "nftables, DNAT + masquerade"
_GENERATOR = "generator alone"


def report(
    found: Mapping[str, Series], sent: Mapping[str, int], received: Mapping[str, int], machine: Machine, seconds: float
) -> Report:
    """All that was found, in words and figures."""
    theirs, generator = found[_THEIRS], found[_GENERATOR]
    rows, picture = [], []
    for name, rate in found.items():
        low, high = rate.spread
        own = _beyond(rate, generator)
        comparison = ("", "", "")
        if name != _GENERATOR:
            fewer = _beyond(theirs, generator) / own
            comparison = (ratio((rate / theirs).median), f"{own.median:.0f}", ratio(fewer.median))
            colour = int(not name.startswith("Sluicegate"))
            picture.append(Bar(name, rate.median, f"{rate.median / 1e6:.2f} Mpps", colour))
        lost = f"{abs(1 - received[name] / sent[name]):.1%}"
        rows.append((name, f"{rate.median / 1e6:.2f}", f"{low / 1e6:.2f}-{high / 1e6:.2f}", *comparison, lost))
    table = Table(
        "Packets per second on one core, generator included (median, middle half of the rounds)",
        ("way", "Mpps", "spread", "to nftables", "ns beyond the generator", "to nftables", "lost"),
        tuple(rows),
    )
    target = Target(
        "forwarding rate, FullNAT against nftables DNAT + masquerade", "≥", 6.0, (found[_OURS] / theirs).median
    )
    return Report(
        part="forwarding",
        command="make bench PART=forwarding",
        seconds=seconds,
        machine=machine,
        tables=(table,),
        targets=(target,),
        figures=(
            Figure(
                "bench-forwarding.svg",
                "Packets per second on one core",
                bars("Packets per second on one core", picture),
            ),
        ),
        raw={name: series.values for name, series in found.items()},
    )


def _beyond(rate: Series, generator: Series) -> Series:
    """Time per packet in ns that the generator alone does not take."""
    return Series(tuple(1e9 / mine - 1e9 / its for mine, its in zip(rate.values, generator.values, strict=True)))
