"""Tables, targets and the picture of the part ``packet``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sluicegate_agent.datapath.model import Algorithm, ForwardingMode
from sluicegate_bench.common.machine import Machine
from sluicegate_bench.common.plot import Bar, bars
from sluicegate_bench.common.report import Figure, Report, Target
from sluicegate_bench.common.series import Series
from sluicegate_bench.common.table import Table, ratio
from sluicegate_bench.packet.flows import COUNT

SELECTION = "selection"
EMPTY, PARSE, LOOKUP = "empty", "parse", "parse + one LRU lookup"
HOT = 1

_HEADLINE = "XDP, FullNAT, TCP, IPv4"

Found = Mapping[str, Series]


def name_of(group: str, case: str, flows: int) -> str:
    """Of a series."""
    return f"{group} | {case} | {flows}"


def group_of_new(mode: ForwardingMode) -> str:
    """Where flows are opened."""
    return f"first packet, {_MODES[mode]}"


_MODES = {
    ForwardingMode.FULL_NAT: "FullNAT",
    ForwardingMode.DNAT: "DNAT",
    ForwardingMode.DIRECT_RETURN: "DirectReturn",
}


def report(found: Found, machine: Machine, seconds: float) -> Report:
    """All that was found, in words and figures."""
    known = Table(
        "ns per packet, net of an empty program; ratio to parse + one LRU lookup in the same rounds",
        ("packet", "1 flow", "spread", "ratio", f"{COUNT:,} flows", "spread", "ratio"),
        tuple(_known_rows(found)),
    )
    new = Table(
        "ns per packet of a flow that is not known, net of an empty program",
        ("first packet of a flow", "Maglev", "spread", "LeastLoad", "spread"),
        tuple(_new_row(found, mode) for mode in (ForwardingMode.FULL_NAT, ForwardingMode.DNAT)),
    )
    return Report(
        part="packet",
        command="make bench PART=packet",
        seconds=seconds,
        machine=machine,
        tables=(known, new),
        targets=tuple(_targets(found)),
        figures=(Figure("bench-packet.svg", "Cost of a packet beside the floors", _picture(found)),),
        raw={name: series.values for name, series in found.items()},
    )


def net(found: Found, group: str, case: str, flows: int) -> Series:
    """Without feeder, loop and empty program."""
    return found[name_of(group, case, flows)] - found[name_of(group, EMPTY, flows)]


def selection_cost(found: Found) -> Series:
    """What LeastLoad takes beyond Maglev, in ns."""
    least, maglev = (found[name_of(SELECTION, row.name, COUNT)] for row in (Algorithm.LEAST_LOAD, Algorithm.MAGLEV))
    return least - maglev


def _known_rows(found: Found) -> Iterator[tuple[str, ...]]:
    seen = set()
    for name in found:
        group, case, flows = name.split(" | ")
        if int(flows) != HOT or case == EMPTY:
            continue
        if case in {PARSE, LOOKUP}:
            kind = f"{group.split(',')[0]}, {group.split(',')[-1].strip()}: {case}"
            if "TCP" not in group or kind in seen:  # floors differ by hook and family only
                continue
            seen.add(kind)
            yield (kind, *_cells(found, group, case))
        else:
            yield (f"{group}: {case}", *_cells(found, group, case))


def _cells(found: Found, group: str, case: str) -> Iterator[str]:
    for flows in (HOT, COUNT):
        own, floor = net(found, group, case, flows), net(found, group, LOOKUP, flows)
        yield f"{own.median:.0f}"
        yield _spread(own)
        yield ratio((own / floor).median)


def _spread(series: Series) -> str:
    low, high = series.spread
    return f"{low:.0f}-{high:.0f}"


def _new_row(found: Found, mode: ForwardingMode) -> tuple[str, ...]:
    group = group_of_new(mode)
    maglev, least = (found[name_of(group, row.name, COUNT)] for row in (Algorithm.MAGLEV, Algorithm.LEAST_LOAD))
    return (_MODES[mode], f"{maglev.median:.0f}", _spread(maglev), f"{least.median:.0f}", _spread(least))


def _targets(found: Found) -> Iterator[Target]:
    request = "known flow, request"
    for flows, limit in ((HOT, 2.5), (COUNT, 1.4)):
        value = net(found, _HEADLINE, request, flows) / net(found, _HEADLINE, LOOKUP, flows)
        what = f"known TCP flow, FullNAT, {flows:,} flow{'s' * (flows > 1)}: against parse + one LRU lookup"
        yield Target(what, "≤", limit, value.median)
    nobody = found[name_of(_HEADLINE, "to no VIP, of no backend", HOT)] - found[name_of(_HEADLINE, PARSE, HOT)]
    yield Target("packet to no VIP and of no backend: beyond parse", "≤", 15, nobody.median, "ns")
    yield Target("new flow, LeastLoad: beyond hash-only Maglev", "≤", 25, selection_cost(found).median, "ns")


def _picture(found: Found) -> str:
    rows = []
    for flows in (HOT, COUNT):
        words = f"{flows:,} flow{'s' * (flows > 1)}"
        for group, case, label in (
            (_HEADLINE, PARSE, "parse"),
            (_HEADLINE, LOOKUP, "parse + LRU lookup"),
            (_HEADLINE, "to no VIP, of no backend", "to no VIP"),
            (_HEADLINE, "known flow, request", "FullNAT request"),
            (_HEADLINE, "known flow, reply", "FullNAT reply"),
            ("XDP, DNAT, TCP, IPv4", "known flow, request", "DNAT request"),
            ("XDP, DirectReturn, TCP, IPv4", "known flow, request", "DirectReturn request"),
        ):
            value = net(found, group, case, flows).median
            floor = case in {PARSE, LOOKUP}
            rows.append(Bar(f"{label}, {words}", value, f"{value:.0f} ns", int(floor)))
    return bars("ns per packet, XDP, IPv4, TCP, net of an empty program", rows)
