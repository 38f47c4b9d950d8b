"""Questions to the kernel for the preflight: asked, answered and undone at once."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from sluicegate_agent.kernel.libbpf import BpfMap, KernelError, MapType
from sluicegate_agent.kernel.links import tcx_refusal
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.network.monitor import NetworkMonitor
from sluicegate_agent.preflight.check import InterfaceFacts, Probe
from sluicegate_agent.preflight.machine import driver_of

_LOOPBACK_INDEX = 1  # in every namespace


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
            )
            for link in network.links.values()
            if link.ifindex != _LOOPBACK_INDEX
        )
    return ()


async def _look() -> NetworkSnapshot:
    async with NetworkMonitor() as monitor:
        return monitor.snapshot
