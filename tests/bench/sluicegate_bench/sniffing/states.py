"""The states of sniffing that a packet can meet, on a node whose kernel tables are written by the agent's own code."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sluicegate_agent.dpi.live.ring import KernelRing
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.network.namespace import enter
from sluicegate_agent.sniffing.kernel import SniffKernel
from sluicegate_agent.sniffing.model import SnifferPlan, Tap
from sluicegate_bench.common.rig import pin_directory
from sluicegate_bench.packet.node import Node, node

_RING_BYTES = 16 << 20
_DRAIN_SECONDS = 0.001
_NO_END = 1 << 30
_GRACE_SECONDS = 2.2
"""A little more than SNIFF_GRACE_SECONDS of bpf/sniff_work.h: until then a stopped flow's word is still looked at."""


class State(StrEnum):
    """What is sniffed of the client's side."""

    ABSENT = "no sniffer anywhere"
    ELSEWHERE = "sniffer on another interface"
    STOPPED = "sniffed, every flow stopped"
    ALL = "sniffed, every packet sent up"


_BUDGETS = {State.STOPPED: Budget(1, 1, 1), State.ALL: Budget(_NO_END, _NO_END, _NO_END)}


@dataclass
class Sniffed:
    """A node that can be put into these states. ``home``: its network."""

    node: Node
    home: int
    _kernel: SniffKernel | None

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in the node's network."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(f"/proc/self/fd/{self.home}")
            yield
        finally:
            enter(f"/proc/self/fd/{back}")
            os.close(back)

    @contextmanager
    def at(self, state: State) -> Iterator[None]:
        """While it is so. What goes up is thrown away by a thread, on another CPU where there is one."""
        if self._kernel is None:
            yield
            return
        kernel = self._kernel
        ifindex = self.node.ifindex["c0"]
        tapped = Tap(ifindex, 1, xdp=True) if state in _BUDGETS else Tap(self.node.ifindex["b0"] + 1000, 1, xdp=True)
        plan = SnifferPlan(1, f"bench/{state.name}", budget=_BUDGETS.get(state, Budget()), adaptive=False)
        kernel.apply([], [])
        kernel.apply([plan], [tapped])
        kernel.open_rings()
        kernel.let_read(running=True)
        try:
            with _drained(kernel.rings[0], kernel.ring_bytes):
                yield
        finally:
            kernel.apply([], [])

    def settle(self, state: State) -> None:
        """Wait until the flows that were sent by now are in the state that they will stay in."""
        if state is State.STOPPED:
            time.sleep(_GRACE_SECONDS)

    def lost(self) -> int:
        """Records of the sniffer that found no room so far."""
        found = None if self._kernel is None else self._kernel.look().counters.get(1)
        return 0 if found is None else found.lost


@contextmanager
def sniffed(*, feature: bool, sources: Path | None = None) -> Iterator[Sniffed]:
    """A node with programs that can sniff, or cannot."""
    with ExitStack() as stack:
        one = stack.enter_context(node(sources, SNIFF=feature))
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, home)
        kernel = None
        if feature:
            rings = stack.enter_context(pin_directory())
            kernel = SniffKernel(one.manifest, rings / "rings", 1, _RING_BYTES)
            stack.callback(kernel.close)
        yield Sniffed(one, home, kernel)


@contextmanager
def _drained(ring: int, size: int) -> Iterator[None]:
    """Somebody takes everything at once."""
    done = threading.Event()
    with KernelRing(ring, size) as view:

        def drain() -> None:
            while not done.wait(_DRAIN_SECONDS):
                view.consumed = view.produced

        thread = threading.Thread(target=drain)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
