"""CPU time of groups of processes, to the nanosecond, and how busy the machine was as a whole.

With veth the kernel's work on a packet is done by the CPU that sends it, as a softirq right after the system call that
sent it, and is charged to the process that made the call (unless the kernel is built with IRQ_TIME_ACCOUNTING). So the
time of all processes that take part holds all forwarding work; ksoftirqd, which takes over under pressure, is added.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def seconds_of(pids: Iterable[int]) -> float:
    """CPU seconds of all threads of these processes so far; one that is gone counts nothing."""
    total = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                total += int(thread.read_text(encoding="ascii").split()[0])
    return total / 1e9


def softirq_threads() -> list[int]:
    """The processes that do softirq work which became too much for those it interrupts."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "comm").read_text(encoding="ascii").startswith("ksoftirqd/"):
                found.append(int(entry.name))
    return found


def idle_seconds() -> tuple[float, ...]:
    """Idle time of each CPU; tick-less kernels count it exactly, unlike the kinds of busy time."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    rows = [line.split() for line in lines if line.startswith("cpu") and line[3].isdigit()]
    return tuple((int(row[4]) + int(row[5])) / _TICKS_PER_SECOND for row in rows)
