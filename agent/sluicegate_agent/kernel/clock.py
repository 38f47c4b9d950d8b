"""The kernel's coarse clock, in which the data path keeps its times."""

from __future__ import annotations

import struct
import time
from functools import cache

from sluicegate_agent.kernel.programs import Program, ProgramType

_CLOCK_MONOTONIC_COARSE = 6  # <linux/time.h>; it ticks with jiffies
_HELPER_JIFFIES64 = 118  # enum bpf_func_id
_CALL, _EXIT = 0x85, 0x95


@cache
def hertz() -> int:
    """Jiffies per second (CONFIG_HZ), read from the resolution of the clock that they drive."""
    return round(1 / time.clock_getres(_CLOCK_MONOTONIC_COARSE))


@cache
def _reader() -> Program:
    # User space cannot read jiffies; this program returns them.
    code = struct.pack("<BBhiBBhi", _CALL, 0, 0, _HELPER_JIFFIES64, _EXIT, 0, 0, 0)
    return Program.load(ProgramType.SOCKET_FILTER, "sg_jiffies", code)


def jiffies() -> int:
    """Jiffies right now, the low 32 bits as the data path keeps them."""
    return _reader().test_run(bytes(14)).retval
