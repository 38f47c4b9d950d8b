"""The kernel's own statistics about BPF programs: how often and how long each one runs."""

from __future__ import annotations

from sluicegate_agent.kernel.native import Descriptor, call

_RUN_TIME = 0  # BPF_STATS_RUN_TIME


def measure_run_time() -> Descriptor:
    """Let the kernel measure all programs of this machine until the result is closed.

    It costs each run two clock reads. Raises KernelError where the kernel cannot, before Linux 5.8.
    """
    return Descriptor(call("bpf_enable_stats", "turn on run time statistics of BPF programs", _RUN_TIME))
