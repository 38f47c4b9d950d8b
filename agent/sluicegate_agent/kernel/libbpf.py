"""Everything of this package that others use, under one name."""

from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.links import (
    TCX_FIRST,
    XDP_GENERIC,
    XDP_NATIVE,
    Link,
    LinkInfo,
    programs_at,
    tcx_refusal,
    xdp_program_at,
)
from sluicegate_agent.kernel.maps import UPDATE_ANY, UPDATE_EXISTING, UPDATE_NEW, BpfMap, MapInfo, MapType
from sluicegate_agent.kernel.native import Descriptor, KernelError, possible_cpus
from sluicegate_agent.kernel.programs import (
    INSTRUCTION_BYTES,
    AttachType,
    LoadedInfo,
    LoadFlag,
    Program,
    ProgramType,
    RunFlag,
    TestRun,
    VerifierError,
)

HZ = hertz()
"""Jiffies per second."""

__all__ = [
    "HZ",
    "INSTRUCTION_BYTES",
    "TCX_FIRST",
    "UPDATE_ANY",
    "UPDATE_EXISTING",
    "UPDATE_NEW",
    "XDP_GENERIC",
    "XDP_NATIVE",
    "AttachType",
    "BpfMap",
    "Descriptor",
    "KernelError",
    "Link",
    "LinkInfo",
    "LoadFlag",
    "LoadedInfo",
    "MapInfo",
    "MapType",
    "Program",
    "ProgramType",
    "RunFlag",
    "TestRun",
    "VerifierError",
    "jiffies",
    "possible_cpus",
    "programs_at",
    "tcx_refusal",
    "xdp_program_at",
]
