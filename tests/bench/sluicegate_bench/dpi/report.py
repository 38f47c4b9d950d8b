"""Tables, targets and pictures of the part ``dpi``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sluicegate_bench.common.machine import Machine
from sluicegate_bench.common.plot import Bar, bars
from sluicegate_bench.common.report import Figure, Report, Target
from sluicegate_bench.common.series import Series
from sluicegate_bench.common.table import Table, number
from sluicegate_bench.dpi import live
from sluicegate_bench.dpi.results import CLASSIFYING, ENGINE, EVENTS, PLAIN, SURICATA, Results
from sluicegate_bench.dpi.suricata import INSTALL

_MIB = 1 << 20


def report(results: Results, machine: Machine, seconds: float) -> Report:
    """All that was found, in words and figures."""
    return Report(
        part="dpi",
        command="make bench PART=dpi",
        seconds=seconds,
        machine=machine,
        tables=(_mix(results), _live(results), _offline(results), _found(results)),
        targets=tuple(_targets(results)),
        figures=(Figure("bench-dpi.svg", "CPU time for a million packets on the wire", _picture(results)),),
        notes=tuple(_notes(results)),
        raw={
            "packets": results.mix.packets,
            "sent": results.sent.records,
            "offline": {name: series.values for name, series in results.cost.items()},
            "live": {name: series.values for name, series in results.live.found.items()},
            "ending": results.live.ending,
            "idle": results.live.idle,
        },
    )


def _mix(results: Results) -> Table:
    mix, sent, agreement = results.mix, results.sent, results.agreement
    there, kept = (
        Counter(mix.part_of(key.client).name for key, _ in rows) for rows in (agreement.there, agreement.kept)
    )
    rows = [
        (
            part.name,
            part.how,
            number(part.flows),
            f"{part.packets / mix.packets:.1%}",
            f"{part.octets / mix.octets:.1%}",
            f"{sent.sent_by_part[part.name] / part.packets:.1%}",
            f"{kept[part.name]} of {there[part.name]}" if there[part.name] else "",
        )
        for part in mix.parts
    ]
    total = f"{len(agreement.kept)} of {len(agreement.there)}"
    rows.append(
        ("all", "", number(mix.flows), number(mix.packets), f"{mix.octets / 1e6:.0f} MB", f"{sent.share:.1%}", total)
    )
    return Table(
        "The replay, and what of it goes up",
        ("traffic", "what it is", "flows", "packets", "bytes", "sent up", "matches kept"),
        tuple(rows),
    )


def _live(results: Results) -> Table:
    found, packets = results.live.found, results.mix.packets
    program = found[live.EMPTY] - found[live.OFF]
    rows = [
        _row("kernel", found[live.KERNEL], packets),
        _row("of it, what veth takes for any XDP program", program, packets),
        _row("worker: engine and lines", found[live.WORKER], packets),
        _row("agent: writing events, looking after flows", found[live.AGENT], packets),
        ("events of flows that end later", f"{_per_million(results.live.ending, packets):.2f}", ""),
        _row("all", results.live.total(), packets),
    ]
    return Table(
        "CPU seconds for a million packets on the wire, live over veth, beyond the same traffic without sniffing",
        ("part", "CPU-s", "spread"),
        tuple(rows),
    )


def _offline(results: Results) -> Table:
    packets, records = results.mix.packets, results.sent.records
    words = {
        ENGINE: "our engine alone, on what goes up",
        EVENTS: "our engine and its events, on the same",
        PLAIN: "Python without classification, on the same",
        CLASSIFYING: "Python with nDPI, on the same",
        SURICATA: f"{results.suricata}, one thread, on every packet",
    }
    rows = []
    for name, series in results.cost.items():
        per_record = "" if name == SURICATA else f"{_per_million(series.median, records):.2f}"
        ratio = (series / results.cost[CLASSIFYING]).median
        rows.append((*_row(words[name], series, packets), per_record, f"{ratio:.2f} x"))
    return Table(
        "CPU seconds for a million packets on the wire, in user space, from a capture",
        ("who", "CPU-s", "spread", "CPU-s per million records", "to Python with nDPI"),
        tuple(rows),
    )


def _found(results: Results) -> Table:
    agreement, memory = results.agreement, results.memory
    live_share = results.live.found[live.SHARE]
    rows = (
        ("packets sent up, offline", f"{results.sent.share:.1%}"),
        ("packets sent up, live", f"{live_share.median:.1%}"),
        ("records lost, live", number(results.live.lost)),
        ("labels as with every packet given", f"{agreement.same:,} of {agreement.known:,}"),
        ("rule matches kept", f"{len(agreement.kept)} of {len(agreement.there)}"),
        ("alerts that should not be", number(agreement.unexpected)),
        ("memory of a worker without flows", f"{memory.empty / _MIB:.0f} MiB"),
        (
            f"with {memory.flows:,} flows, of them {memory.undecided:,} not yet classified",
            f"{memory.full / _MIB:.0f} MiB",
        ),
        ("for each flow", f"{(memory.full - memory.empty) / memory.flows / 1024:.1f} KiB"),
    )
    return Table("What is found, and in how much memory", ("what", "found"), rows)


def _targets(results: Results) -> Iterator[Target]:
    agreement, packets = results.agreement, results.mix.packets
    total = _per_million(results.live.total().median, packets)
    if SURICATA in results.cost:
        theirs = _per_million(results.cost[SURICATA].median, packets)
        yield Target("CPU time of the live way: against Suricata with the same rules", "≤", 0.2, total / theirs)
    ratio = results.cost[EVENTS] / results.cost[CLASSIFYING]
    yield Target("CPU time of engine and events: against Python with nDPI on the same records", "≤", 0.35, ratio.median)
    yield Target("packets sent up", "≤", 20, 100 * results.live.found[live.SHARE].median, "%")
    yield Target("labels as with every packet given", "≥", 99.9, 100 * agreement.same / agreement.known, "%")
    yield Target("rule matches kept", "≥", 99, 100 * len(agreement.kept) / max(len(agreement.there), 1), "%")


def _notes(results: Results) -> Iterator[str]:
    if results.suricata is None:
        yield f"Suricata is not installed ({INSTALL}): nothing is compared with it."
    yield (
        f"Agent and worker take {results.live.idle * 100:.1f} % of one CPU while nothing comes; that is taken off. The "
        f"sender was {results.live.latest_ms:.1f} ms late at most."
    )


def _picture(results: Results) -> str:
    packets, found = results.mix.packets, results.live.found
    rows = [
        ("live: kernel", found[live.KERNEL].median, 0),
        ("live: worker", found[live.WORKER].median, 0),
        ("live: agent", found[live.AGENT].median, 0),
        ("live: later events", results.live.ending, 0),
        *(
            (f"capture: {name}", series.median, 1 + (name in {PLAIN, CLASSIFYING}))
            for name, series in results.cost.items()
        ),
    ]
    drawn = [
        Bar(name, _per_million(value, packets), f"{_per_million(value, packets):.2f}", group)
        for name, value, group in rows
    ]
    return bars("CPU seconds for a million packets on the wire, 100 rules", drawn)


def _row(name: str, series: Series, packets: int) -> tuple[str, str, str]:
    low, high = series.spread
    return (
        name,
        f"{_per_million(series.median, packets):.2f}",
        f"{_per_million(low, packets):.2f}-{_per_million(high, packets):.2f}",
    )


def _per_million(seconds: float, packets: int) -> float:
    return seconds / packets * 1e6
