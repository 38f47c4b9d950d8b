"""Where the engine works: the pool of workers on the rings of one set of programs, opened anew when that changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol

from sluicegate_agent.dpi.live.model import EndedFlow, RunState, WorkerConfig, WorkerState
from sluicegate_agent.dpi.live.pool import OnLines, WorkerPool
from sluicegate_agent.sniffing.state import ENGINE_STOPPED

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 30.0

MakePool = Callable[[Sequence[int], int, int, Path, OnLines], WorkerPool]


class Rings(Protocol):
    """What workers read and write."""

    @property
    def rings(self) -> tuple[int, ...]:
        """Descriptors by worker."""
        ...

    @property
    def ring_bytes(self) -> int:
        """Of one ring."""
        ...

    @property
    def verdicts(self) -> int:
        """Descriptor of the words that workers write."""
        ...


class EngineRoom:
    """Its methods are of one event loop. A pool that cannot be opened is tried again; traffic passes meanwhile."""

    def __init__(self, state_dir: Path, on_lines: OnLines, make: MakePool = WorkerPool) -> None:
        self._state_dir = state_dir
        self._on_lines = on_lines
        self._make = make
        self._stack = AsyncExitStack()
        self._pool: WorkerPool | None = None
        self._rings: Rings | None = None
        self._config = WorkerConfig()
        self._retry_at = 0.0
        self.problem = ENGINE_STOPPED
        """Why there is no pool; empty while there is one."""

    async def move(self, rings: Rings | None, now: float) -> None:
        """Work on these rings, or end all workers. ``now`` in seconds of any clock that only goes forward."""
        if rings is not self._rings:
            await self.close()
            self._rings, self._retry_at = rings, now
        if self._pool is None and rings is not None and now >= self._retry_at:
            await self._open(rings, now)

    async def tell(self, config: WorkerConfig) -> None:
        """What to look for from now on. Nothing happens when that is known."""
        if config is not self._config:
            self._config = config
            if self._pool is not None:
                await self._pool.configure(config)

    @property
    def rings(self) -> Rings | None:
        """On which it works, or tries to."""
        return self._rings

    @property
    def knows(self) -> bool:
        """Whether all workers do what they were told, but for those that fail; False before it was tried."""
        pool = self._pool
        if pool is None:
            return self.problem != ENGINE_STOPPED
        return all(each.config >= pool.version or each.state is RunState.FAILED for each in pool.states())

    @property
    def takes(self) -> bool | None:
        """Whether somebody takes what comes up, now or soon; None while that is not known yet."""
        if self._pool is None:
            return None if self.problem == ENGINE_STOPPED else False
        states = [each.state for each in self._pool.states()]
        if any(state in _WORKS for state in states):
            return True
        return False if RunState.FAILED in states else None

    @property
    def states(self) -> tuple[WorkerState, ...]:
        """Of all workers."""
        return self._pool.states() if self._pool is not None else ()

    def end(self, flows: Mapping[int, Sequence[EndedFlow]]) -> None:
        """Tell workers which of their flows ended."""
        if self._pool is not None:
            for worker, ended in flows.items():
                self._pool.end_flows(worker, ended)

    async def close(self) -> None:
        """End all workers; they hand over what they know."""
        self._pool, self._rings, self.problem = None, None, ENGINE_STOPPED
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()

    async def _open(self, rings: Rings, now: float) -> None:
        try:
            pool = self._make(rings.rings, rings.ring_bytes, rings.verdicts, self._state_dir, self._on_lines)
            await self._stack.enter_async_context(pool)
            self._pool = pool
            await pool.configure(self._config)
        except Exception as error:
            # Whatever keeps the engine away must not keep the balancer from its work.
            log.error("the sniffer's engine cannot be started, so traffic passes unseen: %s", error)
            log.debug("the sniffer's engine cannot be started", exc_info=True)
            await self.close()
            self._rings, self._retry_at = rings, now + RETRY_SECONDS
            self.problem = f"the engine cannot be started: {error}"
        else:
            self.problem = ""


_WORKS: Final = frozenset({RunState.STARTING, RunState.RUNNING, RunState.RESTARTING})
