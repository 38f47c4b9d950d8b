"""The part ``packet``: run all cases in rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bench import Hook
from sluicegate_agent.datapath.model import ForwardingMode, Put, Table
from sluicegate_agent.datapath.tables import KernelTable
from sluicegate_bench.common.machine import describe
from sluicegate_bench.common.report import Report
from sluicegate_bench.common.series import gather
from sluicegate_bench.packet import report
from sluicegate_bench.packet.cases import KNOWN, NEW, Group, opening
from sluicegate_bench.packet.flows import COUNT, Service, known_to_floor
from sluicegate_bench.packet.measure import EMPTY, FULL, HOT, LOOKUP, PARSE, REAL, TINY, Effort, Meter, meter
from sluicegate_bench.packet.node import SETTINGS, Kind, Node, empty, node
from sluicegate_bench.packet.report import SELECTION, group_of_new, name_of

ROUNDS = 3
NEW_CHUNK = 4096
FLOORS = {report.EMPTY: EMPTY, report.PARSE: PARSE, report.LOOKUP: LOOKUP}

Measurement = Callable[[], Mapping[str, Sequence[float]]]


def run(tiny: bool, say: Callable[[str], None]) -> Report:
    """Measure everything."""
    machine = describe()
    started = time.monotonic()
    say("packet: compiling and loading")
    with node() as one, meter(one) as measure:
        services = _add_services(one)
        groups = [_known(measure, group, services[group.kind], TINY if tiny else FULL) for group in KNOWN]
        groups += [_new(measure, mode, tiny=tiny) for mode in NEW]
        groups.append(_selection(measure, services, TINY if tiny else FULL))
        found = gather(groups, 1 if tiny else ROUNDS, warm_up=0 if tiny else 1, progress=say)
    return report.report(found, machine, time.monotonic() - started)


def _add_services(one: Node) -> dict[Kind, Service]:
    kinds = dict.fromkeys([group.kind for group in KNOWN])
    kinds |= dict.fromkeys(kind for by_algorithm in NEW.values() for kind in by_algorithm.values())
    return {kind: one.add(number, kind) for number, kind in enumerate(kinds, start=1)}


def _known(measure: Meter, group: Group, service: Service, effort: Effort) -> Measurement:
    name = f"known{group.kind.family}"
    table = KernelTable(name, measure.floors.maps[name])
    keys, values = known_to_floor(service, table, group.kind.port)
    ways = [(floor, group.cases[0].feed, target) for floor, target in FLOORS.items()]
    ways += [(case.name, case.feed, REAL) for case in group.cases]

    def measure_group() -> dict[str, list[float]]:
        measure.node.know(service)
        empty(table)
        table.map.update_batch(keys, values, COUNT)
        found: dict[str, list[float]] = {}
        for flows in (HOT, COUNT):
            for case in group.cases:
                measure.check(group.hook, case.feed, flows, case.reason)
            for _ in range(effort.runs):
                for way, feed, target in ways:
                    value = measure.sample(group.hook, feed, target, flows, effort)
                    found.setdefault(name_of(group.name, way, flows), []).append(value)
        return found

    return measure_group


def _new(measure: Meter, mode: ForwardingMode, *, tiny: bool) -> Measurement:
    """Every packet a new flow, into empty tables; the algorithms take turns at a few thousand flows each."""
    chunk, turns = (512, 1) if tiny else (NEW_CHUNK, COUNT // 2 // NEW_CHUNK)
    feeds = {algorithm: opening(kind).feed for algorithm, kind in NEW[mode].items()}

    def measure_group() -> dict[str, list[float]]:
        measure.node.forget()
        found: dict[str, list[float]] = {}
        for turn in range(turns):
            first = turn * chunk
            for algorithm, feed in sorted(
                feeds.items(), reverse=bool(turn % 2)
            ):  # who comes second finds warmer caches
                loop = measure.run(Hook.XDP, feed, EMPTY, COUNT, chunk, first)
                value = measure.check(Hook.XDP, feed, COUNT, "forwarded_request", chunk, first)
                name = name_of(group_of_new(mode), algorithm.name, COUNT)
                found.setdefault(name, []).append(float(value - loop))
        return found

    return measure_group


def _selection(measure: Meter, services: Mapping[Kind, Service], effort: Effort) -> Measurement:
    """SYNs that come to nothing right after a backend was chosen, because its only FullNAT port is taken.

    They touch no more memory than a few cache lines, so the algorithms' costs can be told apart: between two flows that
    get entries, chance makes more of a difference.
    """
    kinds = NEW[ForwardingMode.FULL_NAT]
    feeds = {algorithm: opening(kind).feed for algorithm, kind in kinds.items()}

    def measure_group() -> dict[str, list[float]]:
        one = measure.node
        one.forget()
        one.apply(Put(Table.SETTINGS, None, replace(SETTINGS, nat_port_count=1)))
        for kind in kinds.values():
            one.occupy_first_port(services[kind])
        found: dict[str, list[float]] = {}
        try:
            for _ in range(effort.runs):
                for algorithm, feed in feeds.items():
                    measure.check(Hook.XDP, feed, COUNT, "nat_ports")
                    value = measure.sample(Hook.XDP, feed, REAL, COUNT, effort)
                    found.setdefault(name_of(SELECTION, algorithm.name, COUNT), []).append(value)
        finally:
            one.apply(Put(Table.SETTINGS, None, SETTINGS))
        return found

    return measure_group
