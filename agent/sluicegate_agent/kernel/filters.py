"""Our clsact filters, with marks that say where they are.

A filter needs no pin to outlive the agent, so an empty directory in the BPF file system stands for it: ``7-filter``
beside the pinned links and ``7-outfilter`` for the one at egress, and ``7-qdisc`` when the qdisc clsact of interface 7
is ours too. Marks come before what they
stand for and go after it, so that nothing is ever left unnamed.
"""

from __future__ import annotations

from pathlib import Path

from sluicegate_agent.kernel import clsact
from sluicegate_agent.kernel.native import KernelError
from sluicegate_agent.kernel.programs import Program

_SIDES = {"filter": clsact.Side.INGRESS, "outfilter": clsact.Side.EGRESS}
_QDISC_SUFFIX = "-qdisc"


def is_mark(path: Path) -> bool:
    """Whether a filter is marked there, rather than a link pinned or a qdisc marked."""
    return path.name.partition("-")[2] in _SIDES


class MarkedFilter:
    """The filter that a mark stands for, in the calling thread's network namespace."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        ifindex, _, kind = mark.name.partition("-")
        self._ifindex = int(ifindex)
        self._side = _SIDES[kind]
        self._qdisc_mark = mark.with_name(f"{self._ifindex}{_QDISC_SUFFIX}")
        # Tells the filters of two state directories apart, whose marks lie in directories of different names.
        self._name = f"sluicegate-{mark.parent.parent.name}"

    def add(self, program: Program) -> None:
        """Put the filter on its interface; one that a lost mark left there is taken over.

        Raises KernelError, with EEXIST when the place is taken by somebody else's.
        """
        self._mark.mkdir(exist_ok=True)
        ours = self._qdisc_mark.exists()
        self._qdisc_mark.mkdir(exist_ok=True)
        try:
            if not clsact.add_qdisc(self._ifindex) and not ours:
                self._qdisc_mark.rmdir()
            if not self.replace(program):
                clsact.add_filter(self._ifindex, program, self._name, self._side)
        except KernelError:
            self._drop_qdisc()
            self.forget()
            raise

    def replace(self, program: Program) -> bool:
        """Give the filter another program, atomically; False when it is gone. Raises KernelError."""
        return self.is_here() and clsact.replace_filter(self._ifindex, program, self._name, self._side)

    def is_here(self) -> bool:
        """Whether the interface has this very filter, and not another's at the same place. Raises KernelError."""
        return self.program_id() != 0

    def program_id(self) -> int:
        """Id of the filter's program, 0 when there is no filter. Raises KernelError."""
        rows = clsact.filters(self._ifindex, self._side)
        return next((row.program_id for row in rows if row.at_our_place and row.name == self._name), 0)

    def remove(self) -> None:
        """Remove the filter, and the qdisc when it is ours and nobody else uses it; nothing left is fine."""
        if self.is_here():
            clsact.remove_filter(self._ifindex, self._side)
            self._drop_qdisc()
        self.forget()

    def forget(self) -> None:
        """Remove the marks alone: the interface is gone, and the filter with it."""
        marks = [self._mark]
        if not any(each.exists() and each != self._mark for each in self._siblings()):
            marks.insert(0, self._qdisc_mark)  # the qdisc is both filters'
        for mark in marks:
            if mark.is_dir():
                mark.rmdir()

    def _siblings(self) -> list[Path]:
        return [self._mark.with_name(f"{self._ifindex}-{kind}") for kind in _SIDES]

    def _drop_qdisc(self) -> None:
        sides = (clsact.Side.INGRESS, clsact.Side.EGRESS)
        if self._qdisc_mark.exists() and not any(clsact.filters(self._ifindex, side) for side in sides):
            clsact.remove_qdisc(self._ifindex)
