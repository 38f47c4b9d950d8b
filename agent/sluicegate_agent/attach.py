"""Programs on interfaces: XDP where the driver takes it, and always tc ingress beside it.

Both are BPF links, pinned as ``<ifindex>-xdp`` and ``<ifindex>-tc``: they stay when the agent ends, and a later agent
replaces their programs atomically. tc comes first and goes last, because XDP leaves packets to it.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import re
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel.libbpf import XDP_NATIVE, AttachType, KernelError, Link, Program, programs_at
from sluicegate_agent.loader.carry import carry_rest
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import Hook
from sluicegate_agent.pins import Pins, detach_pinned

_log = logging.getLogger(__name__)

_ENTRIES = {Hook.XDP: "xdp_main", Hook.TC: "tc_ingress"}
_PIN = re.compile(r"(\d+)-(xdp|tc)")
_NOT_YET = "XDP has not been tried since the agent started"
_XDP_REFUSALS = {
    errno.EBUSY: "another XDP program is attached",
    errno.EEXIST: "another XDP program is attached in generic mode",
    errno.EOPNOTSUPP: "its driver has no native XDP",
    errno.ERANGE: "its MTU, or its peer's, is too large for XDP in this driver",
    errno.ENOSPC: "it has too few receive queues for its peer",
    errno.EINVAL: "its driver refuses XDP in the present configuration",
}


class Mode(StrEnum):
    """Where packets are handled: in XDP (tc takes what XDP leaves to it), or in tc alone."""

    XDP = "xdp"
    TC = "tc"


@dataclass(frozen=True, slots=True)
class Attached:
    """An interface in use. ``reason`` says why it is tc alone, empty in mode xdp; ``program`` meets packets first."""

    ifindex: InterfaceIndex
    name: str
    mode: Mode
    reason: str
    program: str


class AttachError(Exception):
    """A program cannot be attached; the message says why and what to do."""


class InterfaceGoneError(AttachError):
    """There is no such interface in this network namespace, perhaps not any more: try again when it appears."""


@dataclass(slots=True)
class _Held:
    name: str
    tc: Link
    xdp: Link | None
    reason: str


class Attachments:
    """The links of this agent in the calling thread's network namespace."""

    def __init__(self, pins: Pins, manifest: Manifest) -> None:
        self._directory = pins.links
        self._held: dict[InterfaceIndex, _Held] = {}
        self._programs = _open_programs(manifest)

    def adopt(self) -> None:
        """Take up the pinned links whose interface is still the same, and remove the others."""
        links: dict[InterfaceIndex, dict[Hook, Link]] = {}
        for path in sorted(self._directory.iterdir()):
            match = _PIN.fullmatch(path.name)
            link = None if match is None else _open_if_alive(path, int(match[1]))
            if match is None or link is None:
                _log.warning("removed the link %s: its interface is gone or is another one now", path.name)
                detach_pinned(path)
            else:
                links.setdefault(InterfaceIndex(int(match[1])), {})[Hook(match[2])] = link
        for ifindex, found in links.items():
            tc = found.get(Hook.TC)
            if tc is None:  # killed between two steps: XDP alone has nothing to leave packets to
                self._remove(ifindex, found)
            else:
                xdp = found.get(Hook.XDP)
                self._held[ifindex] = _Held(_name(ifindex), tc, xdp, "" if xdp else _NOT_YET)

    def update_all(self, manifest: Manifest) -> None:
        """Move every link to this manifest's programs, each atomically; interfaces that are gone are let go.

        Afterwards the older set and its maps are in no use any more: rows that replaced maps got until now are taken
        over. Raises KernelError; links moved until then stay moved.
        """
        fresh = _open_programs(manifest)
        for ifindex in [*self._held]:
            held = self._held[ifindex]
            try:
                held.tc.update(fresh[Hook.TC])
                if held.xdp is not None:
                    held.xdp.update(fresh[Hook.XDP])
            except KernelError as error:
                if error.errno != errno.ENOLINK:
                    raise
                self.detach(ifindex)
        for program in self._programs.values():
            program.close()
        self._programs = fresh
        carry_rest(manifest)  # until now the old programs wrote the old maps

    def attach(self, ifindex: InterfaceIndex, name: str, want_xdp: bool, why_not_xdp: str = "") -> Attached:
        """Attach to an interface, or bring it in line with ``want_xdp``; doing it again changes nothing.

        XDP that the driver refuses is no error: the result then says so. ``why_not_xdp`` becomes the reason when XDP
        is not wanted. Raises InterfaceGoneError, AttachError and KernelError.
        """
        held = self._held.get(ifindex)
        if held is not None and not _is_here(held.tc, ifindex):
            self.detach(ifindex)
            held = None
        if held is None:
            held = self._held[ifindex] = _Held(name, self._attach_tc(ifindex, name), None, "")
        held.name = name
        if not want_xdp:
            if held.xdp is not None:
                self._remove(ifindex, {Hook.XDP: held.xdp})
                held.xdp = None
            held.reason = why_not_xdp
        elif held.xdp is None or not _is_here(held.xdp, ifindex):
            held.xdp, held.reason = self._attach_xdp(ifindex)
        return self._describe(ifindex, held)

    def detach(self, ifindex: InterfaceIndex) -> None:
        """Take the programs off an interface; nothing there is fine."""
        held = self._held.pop(ifindex, None)
        if held is not None:
            links = {Hook.TC: held.tc} if held.xdp is None else {Hook.XDP: held.xdp, Hook.TC: held.tc}
            self._remove(ifindex, links)

    def observed(self) -> dict[InterfaceIndex, Attached]:
        """Interfaces whose links the kernel still has, as they are right now."""
        return {
            ifindex: self._describe(ifindex, held)
            for ifindex, held in self._held.items()
            if held.tc.info.ifindex == ifindex
        }

    def close(self) -> None:
        """Close all descriptors; what is attached stays attached."""
        for held in self._held.values():
            held.tc.close()
            if held.xdp is not None:
                held.xdp.close()
        self._held.clear()
        for program in self._programs.values():
            program.close()

    def _attach_tc(self, ifindex: InterfaceIndex, name: str) -> Link:
        try:
            return self._create(ifindex, Hook.TC, AttachType.TCX_INGRESS, 0)
        except KernelError as error:
            if error.errno == errno.ENODEV:
                raise InterfaceGoneError(f"there is no interface {name} (index {ifindex}) here") from error
            if error.errno == errno.EINVAL:
                raise AttachError(
                    f"this kernel ({platform.release()}) cannot attach tc programs by link (tcx); "
                    "Linux 6.6 or newer is needed"
                ) from error
            raise

    def _attach_xdp(self, ifindex: InterfaceIndex) -> tuple[Link | None, str]:
        try:
            return self._create(ifindex, Hook.XDP, AttachType.XDP, XDP_NATIVE), ""
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise
            return None, _XDP_REFUSALS.get(error.errno, f"XDP is refused: {os.strerror(error.errno)}")

    def _create(self, ifindex: InterfaceIndex, hook: Hook, attach_type: AttachType, flags: int) -> Link:
        path = self._path(ifindex, hook)
        if path.exists():
            detach_pinned(path)
        link = Link.create(self._programs[hook], ifindex, attach_type, flags)
        try:
            link.pin(path)
        except BaseException:
            link.close()
            raise
        return link

    def _remove(self, ifindex: InterfaceIndex, links: dict[Hook, Link]) -> None:
        for hook, link in links.items():
            link.close()
            detach_pinned(self._path(ifindex, hook))

    def _path(self, ifindex: InterfaceIndex, hook: Hook) -> Path:
        return self._directory / f"{ifindex}-{hook}"

    def _describe(self, ifindex: InterfaceIndex, held: _Held) -> Attached:
        mode = Mode.TC if held.xdp is None else Mode.XDP
        return Attached(ifindex, held.name, mode, held.reason, _ENTRIES[Hook(mode)])


def _open_programs(manifest: Manifest) -> dict[Hook, Program]:
    return {hook: Program.open(manifest.programs[name].path) for hook, name in _ENTRIES.items()}


def _name(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return str(ifindex)


def _open_if_alive(path: Path, ifindex: int) -> Link | None:
    try:
        link = Link.open(path)
    except KernelError:
        return None
    if _is_here(link, ifindex):
        return link
    link.close()
    return None


def _is_here(link: Link, ifindex: int) -> bool:
    """Whether the link works on that interface of *this* namespace: one that was moved away keeps link and index."""
    info = link.info
    return info.ifindex == ifindex and info.prog_id in programs_at(ifindex, info.attach_type)
