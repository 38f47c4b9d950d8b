"""Questions to the kernel for the preflight: asked, answered and undone at once."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from sluicegate_agent.kernel import foreign
from sluicegate_agent.kernel.libbpf import AttachType, BpfMap, KernelError, LoadFlag, MapType, Program, ProgramType
from sluicegate_agent.kernel.links import tcx_refusal
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.network.monitor import NetworkMonitor
from sluicegate_agent.preflight.check import InterfaceFacts, Probe, Probes
from sluicegate_agent.preflight.machine import driver_of

_LOOPBACK_INDEX = 1  # in every namespace
_PASS = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit


def ask_kernel() -> Probes:
    """All questions that are not about an interface."""
    return Probes(map_can_be_made(), tcx_is_known(), xdp_takes_fragments())


def map_can_be_made() -> Probe:
    """Whether this process may make BPF maps."""
    try:
        BpfMap.create(MapType.ARRAY, "sg_probe", 4, 8, 1).close()
    except KernelError as error:
        return Probe(str(error))
    return Probe()


def tcx_is_known() -> Probe:
    """Whether the kernel has tcx links."""
    try:
        number = tcx_refusal()
    except KernelError as error:
        return Probe(str(error))
    return Probe(os.strerror(number) if number else None)


def xdp_takes_fragments() -> Probe:
    """Whether XDP programs may get frames in several buffers."""
    try:
        Program.load(
            ProgramType.XDP, "sg_probe", _PASS, expected_attach_type=AttachType.XDP, flags=LoadFlag.XDP_HAS_FRAGS
        ).close()
    except KernelError as error:
        return Probe(os.strerror(error.errno))
    return Probe()


def interfaces() -> tuple[InterfaceFacts, ...]:
    """Interfaces of this network namespace but the loopback; none when netlink fails."""
    with suppress(OSError):
        network = asyncio.run(_look())
        return tuple(
            InterfaceFacts(
                name=link.name,
                driver=driver_of(link.name),
                kind=link.kind,
                mtu=link.mtu,
                up=link.up,
                takes_redirect=link.takes_redirect,
                default_route=link.ifindex in network.default_interfaces,
                programs=_programs(link.ifindex),
            )
            for link in network.links.values()
            if link.ifindex != _LOOPBACK_INDEX
        )
    return ()


def _programs(ifindex: int) -> tuple[str, ...]:
    try:
        return foreign.all_programs(ifindex)
    except KernelError:  # without privileges, which other rows tell
        return ()


async def _look() -> NetworkSnapshot:
    async with NetworkMonitor() as monitor:
        return monitor.snapshot
