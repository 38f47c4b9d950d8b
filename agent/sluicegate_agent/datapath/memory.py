"""The data path in memory: the same tables without a kernel, for tests and for failures on command."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sluicegate_agent.datapath import invariants
from sluicegate_agent.datapath.model import BackendId, BackendState, KernelState, Operation
from sluicegate_agent.datapath.protocol import Census, Counters
from sluicegate_agent.signals.model import Latencies, Load


def _never(_: Operation) -> Exception | None:
    return None


class MemoryDatapath:
    """Implements :class:`~sluicegate_agent.datapath.protocol.Datapath` on dictionaries.

    ``fail`` is asked before each operation; what it returns is raised, and nothing changes. An operation that
    breaks a rule of :mod:`~sluicegate_agent.datapath.invariants` raises AssertionError: the caller's order is wrong.
    ``applied`` lists what was carried out. ``measured`` is what a test lets backends have done.
    """

    def __init__(self, fail: Callable[[Operation], Exception | None] = _never) -> None:
        self.fail = fail
        self.applied: list[Operation] = []
        self.measured: dict[BackendId, tuple[Load, Latencies]] = {}
        self._tables = invariants.Tables(KernelState())

    def observe(self) -> KernelState:
        """A copy of all rows; those of free backends too, because they keep their generation."""
        return invariants.copy(self._tables.state)

    def apply(self, operation: Operation) -> None:
        """Carry out one operation."""
        problem = self._tables.broken_by(operation)
        if problem is not None:
            raise AssertionError(problem)
        error = self.fail(operation)
        if error is not None:
            raise error
        self._tables.write(operation)
        self.applied.append(operation)

    def counters(self) -> Counters:
        """No packet ever passes here; the entries of the tables are counted."""
        state = self._tables.state
        live = sum(row.state is not BackendState.FREE for row in state.backends.values())
        return Counters(
            map_entries={"backends": live, "frontends": len(state.frontends), "vips": len(state.vips)},
            loads=self.loads(),
            latencies=self.latencies(),
        )

    def loads(self, wanted: Collection[BackendId] | None = None) -> Mapping[BackendId, Load]:
        """What a test put into ``measured``; nothing was counted of others."""
        return {key: load for key, (load, _) in self._measured().items() if wanted is None or key in wanted}

    def latencies(self) -> Mapping[BackendId, Latencies]:
        """What a test put into ``measured``."""
        return {key: latencies for key, (_, latencies) in self._measured().items()}

    def _measured(self) -> dict[BackendId, tuple[Load, Latencies]]:
        nothing = (Load(), Latencies())
        rows = self._tables.state.backends.items()
        return {key: self.measured.get(key, nothing) for key, row in rows if row.state is not BackendState.FREE}

    def sweep(self) -> Census:
        """There are no flows."""
        return Census()
