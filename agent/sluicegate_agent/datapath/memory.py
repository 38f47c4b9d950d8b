"""The data path in memory: the same tables without a kernel, for tests and for failures on command."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate_agent.datapath import invariants
from sluicegate_agent.datapath.model import BackendState, KernelState, Operation
from sluicegate_agent.datapath.protocol import Census, Counters


def _never(_: Operation) -> Exception | None:
    return None


class MemoryDatapath:
    """Implements :class:`~sluicegate_agent.datapath.protocol.Datapath` on dictionaries.

    ``fail`` is asked before each operation; what it returns is raised, and nothing changes. An operation that
    breaks a rule of :mod:`~sluicegate_agent.datapath.invariants` raises AssertionError: the caller's order is wrong.
    ``applied`` lists what was carried out.
    """

    def __init__(self, fail: Callable[[Operation], Exception | None] = _never) -> None:
        self.fail = fail
        self.applied: list[Operation] = []
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
        return Counters(map_entries={"backends": live, "frontends": len(state.frontends), "vips": len(state.vips)})

    def sweep(self) -> Census:
        """There are no flows."""
        return Census()
