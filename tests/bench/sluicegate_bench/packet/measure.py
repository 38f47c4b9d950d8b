"""One case: a kind of packet through one program, by test-run behind the feeder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import Hook
from sluicegate_agent.kernel.libbpf import BpfMap, Program
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_bench.common.rig import FLOORS, load_own, pin_directory, undisturbed
from sluicegate_bench.packet.feed import Feed, context
from sluicegate_bench.packet.flows import COUNT
from sluicegate_bench.packet.node import Node

EMPTY, PARSE, LOOKUP, REAL = range(4)
"""Indices of the feeder's program array."""

HOT = 1
"""Flows in a run that takes always the same packet."""

_UNITS = {Hook.XDP: ("feed_xdp", "tails_bench_xdp", 0), Hook.TC: ("feed_tc", "tails_bench_tc", 1)}


class WrongWayError(Exception):
    """Packets of a case did not go the way whose cost was asked for."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: ``runs`` test-runs of ``repeat`` packets each, of all cases in turn."""

    repeat: int
    runs: int


FULL = Effort(COUNT, 8)
TINY = Effort(2000, 1)


class Meter:
    """The floors, and the real programs behind the same feeder."""

    def __init__(self, node: Node, manifest: Manifest) -> None:
        self.node = node
        self.floors = manifest
        self._sent = 0
        self._feeds = BpfMap.open(_path(manifest, "feeds"))
        self._feeders = {hook: Program.open(manifest.programs[row[0]].path) for hook, row in _UNITS.items()}
        for hook, (_, array, _) in _UNITS.items():
            with BpfMap.open(manifest.program_arrays[array]) as opened:
                opened.update(REAL.to_bytes(4, "little"), node.programs[hook].fd.to_bytes(4, "little"))

    def close(self) -> None:
        """Close descriptors."""
        self._feeds.close()
        for program in self._feeders.values():
            program.close()

    def sample(self, hook: Hook, feed: Feed, target: int, flows: int, effort: Effort) -> float:
        """Mean time of one packet in ns, feeder and loop included, after a run that is not counted."""
        self.run(hook, feed, target, flows, max(flows, effort.repeat // 4) if effort is not TINY else 100)
        return float(self.run(hook, feed, target, flows, effort.repeat))

    def run(self, hook: Hook, feed: Feed, target: int, flows: int, repeat: int, first: int = 0) -> int:
        """One test-run, from flow number ``first`` on; ns per packet."""
        index = _UNITS[hook][2]
        self._feeds.update(index.to_bytes(4, "little"), feed.pack(target, flows, first, self._sent))
        self._sent += repeat
        ctx = context(hook, feed.frame, self.node.ifindex[feed.device])
        with undisturbed():
            return self._feeders[hook].test_run(feed.frame, ctx=ctx, repeat=repeat).duration_ns

    def check(self, hook: Hook, feed: Feed, flows: int, reason: str, repeat: int = 500, first: int = 0) -> int:
        """As :meth:`run`; raises WrongWayError unless the real program counts every packet under this reason."""
        before = self.node.verdicts(hook)
        duration = self.run(hook, feed, REAL, flows, repeat, first)
        moved = {
            name: count - before[name] for name, count in self.node.verdicts(hook).items() if count != before[name]
        }
        if moved != {reason: repeat}:
            raise WrongWayError(f"{repeat} packets were to be {reason}, but came to {moved}")
        return duration


@contextmanager
def meter(node: Node) -> Iterator[Meter]:
    """Load the floors for this node."""
    with pin_directory() as pins:
        manifest = load_own(pins, FLOORS)
        one = Meter(node, manifest)
        try:
            yield one
        finally:
            one.close()


def _path(manifest: Manifest, name: str) -> object:
    path = manifest.maps[name].path
    assert path is not None
    return path
