"""The pool: one process for each ring, started again when it ends, and told what to look for.

A worker is not trusted: what it sends is checked and counted, and what it breaks is its own. A record that ends a
worker is saved, and its flow is stopped, so that it ends one worker once.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sluicegate_agent.dpi.engine_model import Limits
from sluicegate_agent.dpi.live import messages
from sluicegate_agent.dpi.live.keeper import STOP_SECONDS, Keeper, OnLines, Task
from sluicegate_agent.dpi.live.messages import Orders
from sluicegate_agent.dpi.live.model import EndedFlow, RunState, WorkerConfig, WorkerPolicy, WorkerState
from sluicegate_agent.dpi.live.orders import configure_of, ended_row, orders_of, start_of, worker_policy
from sluicegate_agent.dpi.live.quarantine import Quarantine
from sluicegate_agent.dpi.live.ring import words_of
from sluicegate_agent.dpi.live.site import Place

__all__ = [
    "LIVE_LIMITS",
    "EndedFlow",
    "OnLines",
    "RunState",
    "WorkerConfig",
    "WorkerPolicy",
    "WorkerPool",
    "WorkerState",
    "worker_policy",
]

_NEVER: Final = 1 << 30
"""Seconds, 34 years: the kernel says when a flow is over, and the oldest make room for new ones."""
LIVE_LIMITS: Final = Limits(
    max_flows=1 << 17,
    tcp_new_seconds=_NEVER,
    tcp_open_seconds=_NEVER,
    datagram_seconds=_NEVER,
    decided_seconds=_NEVER,
)
_IGNORED: Final = 0
_ENDS_PER_FRAME: Final = 1024


class WorkerPool:
    """Workers, one for each ring. An asynchronous context manager; its calls are of one event loop.

    ``on_lines`` gets the number of the sniffer, the event type of EVE ("flow", "alert", "tls", ...) and whole lines, in
    that loop.
    """

    def __init__(
        self,
        rings: Sequence[int],
        ring_bytes: int,
        verdicts_fd: int,
        state_dir: Path,
        on_lines: OnLines,
        *,
        limits: Limits = LIVE_LIMITS,
    ) -> None:
        """``rings``: descriptors of ring buffer maps of ``ring_bytes`` of data, by worker; they stay the caller's.

        ``verdicts_fd``: the mappable array of words. Bad records go to ``state_dir``/quarantine.
        """
        self._rings = tuple(rings)
        self._ring_bytes = ring_bytes
        self._verdicts_fd = verdicts_fd
        self._quarantine = Quarantine(state_dir / "quarantine")
        self._on_lines = on_lines
        self._limits = limits
        self._keepers: list[Keeper] = []
        self._running: list[asyncio.Task[None]] = []
        self._verdicts: mmap.mmap | None = None
        self._words: memoryview | None = None
        self._version = 0
        self._known: dict[int, tuple[WorkerPolicy, Orders]] = {}

    async def __aenter__(self) -> Self:
        """Map the rings; raises OSError or ValueError when that cannot be done.

        Processes start with the first configuration that has a sniffer.
        """
        self._verdicts = words_of(self._verdicts_fd)
        self._words = memoryview(self._verdicts).cast("B").cast("Q")
        try:
            for number, ring in enumerate(self._rings):
                place = Place(ring, self._ring_bytes, self._verdicts_fd, self._words)
                self._keepers.append(Keeper(number, place, self._quarantine, self._on_lines))
        except BaseException:
            self._close()
            raise
        self._running = [asyncio.create_task(keeper.run(), name=f"worker {keeper.number}") for keeper in self._keepers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all workers; they hand over what they know, for two seconds at most."""
        for keeper in self._keepers:
            keeper.stop()
        try:
            if self._running:
                await asyncio.wait(self._running, timeout=STOP_SECONDS)
        finally:
            for task in self._running:
                task.cancel()
            for task in self._running:
                with suppress(asyncio.CancelledError):
                    await task
            self._close()

    def _close(self) -> None:
        for keeper in self._keepers:
            keeper.close()
        if self._words is not None:
            self._words.release()
        if self._verdicts is not None:
            self._verdicts.close()

    @property
    def version(self) -> int:
        """Of the last configuration; `WorkerState.config` is the one that a worker has in force."""
        return self._version

    async def configure(self, config: WorkerConfig) -> None:
        """Make all workers, and those that start later, do this. Returns when they were told, not when they did it.

        Flows stay. Rules that changed are compiled beside the work and swapped in. Only another depth of
        classification starts workers anew.
        """
        self._version += 1
        version = self._version
        task = None
        if config.policies:
            start = start_of(config, self._ring_bytes, self._limits)
            orders = {number: await self._orders_of(number, policy) for number, policy in config.policies.items()}
            configure = configure_of(version, config, orders)
            task = Task(start, configure, await asyncio.to_thread(messages.objects, configure))
        for number in self._known.keys() - config.policies.keys():
            del self._known[number]
        if version == self._version:  # no later one came in between
            for keeper in self._keepers:
                keeper.give(task)

    async def _orders_of(self, number: int, policy: WorkerPolicy) -> Orders:
        """Made once for each policy: rules may be many, and configurations change for other reasons."""
        known = self._known.get(number)
        if known is None or known[0] is not policy:
            known = self._known[number] = (policy, await asyncio.to_thread(orders_of, policy))
        return known[1]

    def end_flows(self, worker: int, flows: Sequence[EndedFlow]) -> None:
        """Tell a worker which flows ended; each becomes a flow event. Never waits: see `WorkerState.ends_dropped`."""
        rows = [ended_row(flow) for flow in flows if flow.state != _IGNORED]
        for at in range(0, len(rows), _ENDS_PER_FRAME):
            self._keepers[worker].end_flows(rows[at : at + _ENDS_PER_FRAME])

    def states(self) -> tuple[WorkerState, ...]:
        """Each worker now, by number; figures from inside it are up to a second old."""
        return tuple(keeper.state() for keeper in self._keepers)
