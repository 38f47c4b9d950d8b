"""The part ``forwarding``: packets per second through one core."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial

from sluicegate_agent.datapath.model import Algorithm, Protocol
from sluicegate_agent.kernel.libbpf import BpfMap, Program, RunFlag
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_bench.common.machine import describe
from sluicegate_bench.common.report import Report
from sluicegate_bench.common.rig import FORWARD, load_own, pin_directory, undisturbed
from sluicegate_bench.common.series import interleave
from sluicegate_bench.forwarding.paths import VIP_PORTS, PathCase, Programs, cases, set_up_devices
from sluicegate_bench.forwarding.report import report
from sluicegate_bench.packet.feed import Feed, from_client
from sluicegate_bench.packet.flows import CLIENT_PORT
from sluicegate_bench.packet.node import FIRST_CLIENT, Kind, Node, node

FLOWS = 4096
ROUNDS = 5
SECONDS = 1.5
CHUNK = 1 << 17


class Road:
    """The node with a generator at one end and a counter at the other."""

    def __init__(self, one: Node, feeds: BpfMap, arrived: BpfMap, generator: Program, programs: Programs) -> None:
        self._node = one
        self._feeds = feeds
        self._arrived = arrived
        self._generator = generator
        self._programs = programs
        self._outlet = socket.if_nametoindex("c1")
        self.sent: dict[str, int] = {}
        self.received: dict[str, int] = {}

    def rate(self, case: PathCase, seconds: float, flows: int = FLOWS) -> float:
        """Packets per second that arrive while the generator runs on one CPU for that long; ``flows``: a power of 2."""
        frame = from_client(
            4, Protocol.UDP, FIRST_CLIENT[4], case.destination, case.port, flags="", source_port=CLIENT_PORT
        )
        feed = Feed(frame, "c0", by_source=False)
        self._node.forget()
        self._feeds.update(bytes(4), feed.pack(self._outlet, flows))
        with contextmanager(case.set_up)(self._programs), undisturbed():
            self._send(frame, 4 * flows)
            before, sent = self._count(), 0
            started = time.monotonic()
            while (elapsed := time.monotonic() - started) < seconds:
                self._send(frame, CHUNK)
                sent += CHUNK
            received = self._count() - before
        self.sent[case.name] = self.sent.get(case.name, 0) + sent
        self.received[case.name] = self.received.get(case.name, 0) + received
        return received / elapsed

    def _send(self, frame: bytes, count: int) -> None:
        self._generator.test_run(frame, repeat=count, flags=RunFlag.XDP_LIVE_FRAMES)

    def _count(self) -> int:
        raw = self._arrived.lookup(bytes(4)) or b""
        return sum(int.from_bytes(raw[at : at + 8], "little") for at in range(0, 8 * possible_cpus(), 8))


def run(tiny: bool, say: Callable[[str], None]) -> Report:
    """Measure everything."""
    machine = describe()
    started = time.monotonic()
    say("forwarding: compiling and loading")
    with node() as one, pin_directory() as pins:
        for number, (mode, port) in enumerate(VIP_PORTS.items(), start=1):
            one.add(number, Kind(4, Protocol.UDP, mode, Algorithm.MAGLEV, port))
        set_up_devices()
        own = load_own(pins, FORWARD)
        programs = Programs(
            one.manifest.programs["xdp_main"].path, own.programs["sink_xdp"].path, own.programs["sink_tc"].path
        )
        with (
            BpfMap.open(own.maps["feeds"].path) as feeds,
            BpfMap.open(own.maps["arrived"].path) as arrived,
            Program.open(own.programs["generate"].path) as generator,
        ):
            road = Road(one, feeds, arrived, generator, programs)
            found = interleave(
                {case.name: partial(road.rate, case, 0.05 if tiny else SECONDS) for case in cases()},
                1 if tiny else ROUNDS,
                warm_up=0 if tiny else 1,
                progress=say,
            )
    return report(found, road.sent, road.received, machine, time.monotonic() - started)
