"""Waiting until no program can still be at work on what was in a map a moment ago."""

from __future__ import annotations

import struct
from functools import cache

from sluicegate_agent.kernel.maps import BpfMap, MapType


@cache
def _maps() -> tuple[BpfMap, BpfMap]:
    inner = BpfMap.create(MapType.ARRAY, "sg_grace", 4, 4, 1)
    return inner, BpfMap.create(MapType.ARRAY_OF_MAPS, "sg_grace", 4, 4, 1, inner_fd=inner.fd)


def wait_for_programs() -> None:
    """Return when all runs of programs that are under way now are over: tens of milliseconds. Raises KernelError.

    The kernel itself does so when an entry of a map of maps is changed (kernel/bpf/syscall.c,
    ``maybe_wait_bpf_programs``), and there is no other call for it; so an entry of a map that nobody uses is changed.
    """
    inner, outer = _maps()
    outer.update(bytes(4), struct.pack("<I", inner.fd))
