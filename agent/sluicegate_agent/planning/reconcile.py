"""Brings a data path to the desired state, whatever single operations fail."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate_agent.datapath import invariants
from sluicegate_agent.datapath.model import KernelState, Operation
from sluicegate_agent.datapath.protocol import Datapath, DatapathError
from sluicegate_agent.planning.plan import plan


@dataclass(frozen=True, slots=True)
class Failure:
    """An operation that was not carried out, and why."""

    operation: Operation
    error: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one run did. ``failed`` were refused by the data path, ``held_back`` would have built on those."""

    applied: tuple[Operation, ...] = ()
    failed: tuple[Failure, ...] = ()
    held_back: tuple[Failure, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether the data path now is as desired. If not, call again, with a growing pause."""
        return not self.failed and not self.held_back


class Reconciler:
    """Owns the only writer of one data path, and so knows its tables without reading them each time.

    After a failure, and at the start, the tables are read back.
    """

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._known: KernelState | None = None

    def observed(self) -> KernelState:
        """The tables as they are; for reading only. Raises DatapathError when they cannot be read."""
        if self._known is None:
            self._known = self._datapath.observe()
        return self._known

    def forget(self) -> None:
        """Read the tables anew next time, because something else may have written to them."""
        self._known = None

    def reconcile(self, desired: KernelState) -> Report:
        """One pass from the observed to the desired state.

        Goes on past failures, but carries out nothing that needs what failed: old rows keep working meanwhile.
        Raises DatapathError only when the tables cannot be read.
        """
        state = self.observed()
        tables = invariants.Tables(state)
        applied: list[Operation] = []
        failed: list[Failure] = []
        held_back: list[Failure] = []
        for operation in plan(state, desired):
            broken = tables.broken_by(operation)
            if broken is not None:
                held_back.append(Failure(operation, broken))
                continue
            try:
                self._datapath.apply(operation)
            except DatapathError as error:
                failed.append(Failure(operation, str(error)))
                continue
            tables.write(operation)
            applied.append(operation)
        if failed or held_back:
            self.forget()
        return Report(tuple(applied), tuple(failed), tuple(held_back))
