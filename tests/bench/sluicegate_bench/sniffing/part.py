"""The part ``sniffing``: a forwarded packet without sniffing, past it, and under it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from bench import Hook
from sluicegate_agent.datapath.model import Algorithm, ForwardingMode, Protocol
from sluicegate_agent.kernel.libbpf import BpfMap, Program
from sluicegate_bench.common.machine import describe
from sluicegate_bench.common.report import Report
from sluicegate_bench.common.rig import FORWARD, load_own, pin_directory
from sluicegate_bench.common.series import gather
from sluicegate_bench.forwarding.part import Road
from sluicegate_bench.forwarding.paths import VIP_PORTS, Programs, cases, set_up_devices
from sluicegate_bench.packet.cases import data
from sluicegate_bench.packet.flows import Service
from sluicegate_bench.packet.measure import EMPTY, HOT, REAL, TINY, Effort, Meter, meter
from sluicegate_bench.packet.node import Kind
from sluicegate_bench.sniffing import report
from sluicegate_bench.sniffing.report import FORWARDED, LOST, MANY, NET, RATE_FLOWS, name_of
from sluicegate_bench.sniffing.states import Sniffed, State, sniffed

_ROUNDS = 5
_SECONDS, _TINY_SECONDS = 0.6, 0.05
_MODE = ForwardingMode.FULL_NAT
_KIND = Kind(4, Protocol.UDP, _MODE, Algorithm.MAGLEV, VIP_PORTS[_MODE])
_PATH = next(case for case in cases() if case.name == "Sluicegate, FullNAT")

_FULL = Effort(1 << 16, 4)

Measurement = Callable[[], Mapping[str, float | Sequence[float]]]


def run(tiny: bool, say: Callable[[str], None]) -> Report:
    """Measure everything."""
    machine = describe()
    started = time.monotonic()
    say("sniffing: compiling and loading")
    with ExitStack() as stack:
        groups: list[Measurement] = []
        for feature in (False, True):
            place = stack.enter_context(sniffed(feature=feature))
            service = place.node.add(1, _KIND)
            states = [State.ELSEWHERE, State.STOPPED, State.ALL] if feature else [State.ABSENT]
            measure = stack.enter_context(meter(place.node))
            road = _road(stack, place)
            for state in states:
                groups.append(_packet(place, measure, service, state, TINY if tiny else _FULL))
                groups.append(_rate(place, road, state, _TINY_SECONDS if tiny else _SECONDS))
        found = gather(groups, 1 if tiny else _ROUNDS, warm_up=0 if tiny else 1, progress=say)
    return report.report(found, machine, time.monotonic() - started)


def _packet(place: Sniffed, measure: Meter, service: Service, state: State, effort: Effort) -> Measurement:
    """By test-run."""
    case = data(_KIND)

    def measured() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        with place.inside(), place.at(state):
            place.node.know(service)
            measure.check(Hook.XDP, case.feed, MANY, case.reason, repeat=MANY)
            place.settle(state)
            for flows in (HOT, MANY):
                for _ in range(effort.runs):
                    loop = measure.sample(Hook.XDP, case.feed, EMPTY, flows, effort)
                    value = measure.sample(Hook.XDP, case.feed, REAL, flows, effort)
                    found.setdefault(name_of(NET, state, flows), []).append(value - loop)
        return found

    return measured


def _road(stack: ExitStack, place: Sniffed) -> Road:
    with place.inside():
        set_up_devices()
        pins = stack.enter_context(pin_directory())
        own = load_own(pins, FORWARD)
        programs = Programs(
            place.node.manifest.programs["xdp_main"].path,
            own.programs["sink_xdp"].path,
            own.programs["sink_tc"].path,
        )
        feeds = stack.enter_context(BpfMap.open(own.maps["feeds"].path))
        arrived = stack.enter_context(BpfMap.open(own.maps["arrived"].path))
        generator = stack.enter_context(Program.open(own.programs["generate"].path))
        return Road(place.node, feeds, arrived, generator, programs)


def _rate(place: Sniffed, road: Road, state: State, seconds: float) -> Measurement:
    """Packets per second through one core, as in the part ``forwarding``."""

    def measured() -> dict[str, float]:
        with place.inside(), place.at(state):
            road.rate(_PATH, 0.0, max(RATE_FLOWS))
            place.settle(state)
            before = place.lost()
            found = {name_of(FORWARDED, state, flows): road.rate(_PATH, seconds, flows) for flows in RATE_FLOWS}
            return found | {name_of(LOST, state, 0): float(place.lost() - before)}

    return measured
