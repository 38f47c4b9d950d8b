"""A tc program on one side of an interface: by a tcx link where the kernel has them, else by a classic filter."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Protocol

from sluicegate_agent.kernel.filters import MarkedFilter, is_mark
from sluicegate_agent.kernel.libbpf import TCX_FIRST, AttachType, KernelError, Link, Program, programs_at

_log = logging.getLogger(__name__)


class TcProgram(Protocol):
    """A program on one side of an interface, whichever way it got there. Methods may raise KernelError."""

    def update(self, program: Program) -> None:
        """Replace the program atomically; KernelError with ENOLINK when it is not on its interface any more."""
        ...

    def program_id(self) -> int:
        """Id of the program that runs there, 0 when none does."""
        ...

    def is_here(self) -> bool:
        """Whether it works on its interface of *this* network namespace."""
        ...

    def remove(self) -> None:
        """Take it off the interface; nothing left there is fine."""
        ...

    def close(self) -> None:
        """Let go of descriptors; the program stays where it is."""
        ...


class TcxProgram:
    """A pinned tcx link."""

    def __init__(self, link: Link, path: Path, ifindex: int) -> None:
        self._link = link
        self._path = path
        self._ifindex = ifindex

    @classmethod
    def attach(cls, program: Program, path: Path, ifindex: int, side: AttachType) -> TcxProgram:
        """Attach before the programs that are there, and pin. KernelError with EINVAL where there is no tcx."""
        link = Link.create(program, ifindex, side, TCX_FIRST)
        try:
            link.pin(path)
        except BaseException:
            link.close()
            raise
        return cls(link, path, ifindex)

    def update(self, program: Program) -> None:
        """Move the link to the program."""
        self._link.update(program)

    def program_id(self) -> int:
        """As the link says."""
        return self._link.info.prog_id

    def is_here(self) -> bool:
        """A link that was moved away with its interface keeps its index: only the interface itself can tell."""
        return link_is_here(self._link, self._ifindex)

    def remove(self) -> None:
        """Detach and unpin."""
        self._link.close()
        detach_pinned(self._path)

    def close(self) -> None:
        """Close the link's descriptor."""
        self._link.close()


class ClsactProgram:
    """A classic filter at our place, and the mark that stands for it beside the pins."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    @classmethod
    def attach(cls, program: Program, mark: Path) -> ClsactProgram:
        """Add the qdisc if need be, and the filter. KernelError with EEXIST when somebody else's is at our place."""
        MarkedFilter(mark).add(program)
        return cls(mark)

    def update(self, program: Program) -> None:
        """Replace the filter's program."""
        if not MarkedFilter(self._mark).replace(program):
            raise KernelError("replace the program of a tc filter that is gone", errno.ENOLINK)

    def program_id(self) -> int:
        """As the filter says."""
        return MarkedFilter(self._mark).program_id()

    def is_here(self) -> bool:
        """Whether the interface has the filter."""
        return MarkedFilter(self._mark).is_here()

    def remove(self) -> None:
        """Remove filter and marks, and the qdisc when it is ours and empty."""
        MarkedFilter(self._mark).remove()

    def close(self) -> None:
        """A filter holds no descriptor here."""


def link_is_here(link: Link, ifindex: int) -> bool:
    """Whether the link works on that interface of *this* namespace."""
    info = link.info
    return info.ifindex == ifindex and info.prog_id in programs_at(ifindex, info.attach_type)


def detach_pinned(path: Path) -> None:
    """Take what is pinned or marked there off its interface, also when another process holds it or nothing is left."""
    if path.is_dir():
        if is_mark(path):
            MarkedFilter(path).remove()
        return
    try:
        with Link.open(path) as link:
            link.detach()
    except KernelError as error:
        # Its interface is gone, or the file is no link: unpinning is all that is left to do.
        _log.debug("%s", error)
    path.unlink(missing_ok=True)
