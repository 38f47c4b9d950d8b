"""Programs on interfaces: XDP where the driver takes it, and always tc beside it, at ingress and egress.

XDP is a BPF link, pinned as ``<ifindex>-xdp``. tc programs are tcx links, pinned as ``<ifindex>-tc`` and
``<ifindex>-egress``, or on kernels before 6.6 clsact filters, marked by ``<ifindex>-filter`` and
``<ifindex>-outfilter``. All stay when the agent ends, and a later agent replaces their programs atomically. tc ingress
comes first and goes last, because XDP leaves packets to it. Programs of others are never replaced or
detached. Ours is put before theirs: it takes only what belongs to a VIP and leaves them the rest, while most of theirs
end the chain with the packets that they let pass.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel import clsact, foreign
from sluicegate_agent.kernel.filters import MarkedFilter, is_mark
from sluicegate_agent.kernel.libbpf import XDP_NATIVE, AttachType, KernelError, Link, Program
from sluicegate_agent.kernel.links import tcx_refusal
from sluicegate_agent.kernel.tc import ClsactProgram, TcProgram, TcxProgram, detach_pinned, link_is_here
from sluicegate_agent.loader.carry import carry_rest
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.pins import Pins

_log = logging.getLogger(__name__)

_PIN = re.compile(r"(\d+)-(xdp|tc|egress|filter|outfilter|qdisc)")
_XDP = "xdp"
_NOT_YET = "XDP has not been tried since the agent started"
_XDP_REFUSALS = {
    errno.EOPNOTSUPP: "its driver has no native XDP",
    errno.ERANGE: "its MTU, or its peer's, is too large for XDP in this driver",
    errno.ENOSPC: "it has too few receive queues for its peer",
    errno.EINVAL: "its driver refuses XDP in the present configuration",
}


class Entry(StrEnum):
    """Our programs on an interface, by name."""

    XDP = "xdp_main"
    INGRESS = "tc_ingress"
    EGRESS = "tc_egress"


@dataclass(frozen=True, slots=True)
class _Side:
    """Where a tc program is attached, and under which names."""

    entry: Entry
    tcx: AttachType
    clsact: clsact.Side
    link: str
    mark: str


_INGRESS = _Side(Entry.INGRESS, AttachType.TCX_INGRESS, clsact.Side.INGRESS, "tc", "filter")
_EGRESS = _Side(Entry.EGRESS, AttachType.TCX_EGRESS, clsact.Side.EGRESS, "egress", "outfilter")


class Mode(StrEnum):
    """Where packets are handled: in XDP (tc takes what XDP leaves to it), or in tc alone."""

    XDP = "xdp"
    TC = "tc"


@dataclass(frozen=True, slots=True)
class Attached:
    """An interface in use; ``program`` meets packets first.

    ``reason`` says why it is tc alone, and in which order ours and the tc programs of others run: it is empty in mode
    xdp with nobody else there.
    """

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
    tc: TcProgram
    egress: TcProgram | None
    xdp: Link | None
    reason: str


class Attachments:
    """The links of this agent in the calling thread's network namespace."""

    def __init__(self, pins: Pins, manifest: Manifest, *, use_tcx: bool | None = None) -> None:
        """``use_tcx`` None lets the kernel decide; False asks for clsact filters, also where there is tcx."""
        self._directory = pins.links
        self._held: dict[InterfaceIndex, _Held] = {}
        self._programs = _open_programs(manifest)
        self._use_tcx = not tcx_refusal() if use_tcx is None else use_tcx

    def adopt(self) -> None:
        """Take up what is pinned and marked if its interface is still the same, and remove the rest."""
        tc: dict[InterfaceIndex, TcProgram] = {}
        egress: dict[InterfaceIndex, TcProgram] = {}
        xdp: dict[InterfaceIndex, Link] = {}
        for path in sorted(self._directory.iterdir()):
            match = _PIN.fullmatch(path.name)
            ifindex = InterfaceIndex(int(match[1])) if match else None
            if ifindex is None or not self._take_up(path, ifindex, tc, egress, xdp):
                _log.warning("removed %s: its interface is gone or is another one now", path.name)
                _remove(path)
        for ifindex, link in xdp.items():
            if ifindex not in tc:  # killed between two steps: XDP alone has nothing to leave packets to
                self._remove_xdp(ifindex, link)
        for ifindex, found in egress.items():
            if ifindex not in tc:
                found.remove()
        for ifindex, ingress in tc.items():
            held = xdp.get(ifindex)
            reason = "" if held else _NOT_YET
            self._held[ifindex] = _Held(_name(ifindex), ingress, egress.get(ifindex), held, reason)

    def _take_up(
        self,
        path: Path,
        ifindex: InterfaceIndex,
        tc: dict[InterfaceIndex, TcProgram],
        egress: dict[InterfaceIndex, TcProgram],
        xdp: dict[InterfaceIndex, Link],
    ) -> bool:
        kind = path.name.partition("-")[2]
        if kind == "qdisc":
            return any(path.with_name(f"{ifindex}-{side.mark}").exists() for side in (_INGRESS, _EGRESS))
        found = egress if kind in {_EGRESS.link, _EGRESS.mark} else tc
        if is_mark(path):
            if not MarkedFilter(path).is_here():
                return False
            found[ifindex] = ClsactProgram(path)
            return True
        link = _open_if_alive(path, ifindex)
        if link is None:
            return False
        if kind == "xdp":
            xdp[ifindex] = link
        else:
            found[ifindex] = TcxProgram(link, path, ifindex)
        return True

    def update_all(self, manifest: Manifest) -> None:
        """Move every link to this manifest's programs, each atomically; interfaces that are gone are let go.

        Afterwards the older set and its maps are in no use any more: rows that replaced maps got until now are taken
        over. Raises KernelError; links moved until then stay moved.
        """
        fresh = _open_programs(manifest)
        for ifindex in [*self._held]:
            held = self._held[ifindex]
            try:
                held.tc.update(fresh[Entry.INGRESS])
                if held.egress is not None:
                    held.egress.update(fresh[Entry.EGRESS])
                if held.xdp is not None:
                    held.xdp.update(fresh[Entry.XDP])
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
        if held is not None and not held.tc.is_here():
            self.detach(ifindex)
            held = None
        if held is None:
            held = self._held[ifindex] = _Held(name, self._attach_tc(ifindex, name, _INGRESS), None, None, "")
        held.name = name
        if held.egress is None or not held.egress.is_here():
            held.egress = self._attach_tc(ifindex, name, _EGRESS)
        if not want_xdp:
            if held.xdp is not None:
                self._remove_xdp(ifindex, held.xdp)
                held.xdp = None
            held.reason = why_not_xdp
        elif held.xdp is None or not link_is_here(held.xdp, ifindex):
            held.xdp, held.reason = self._attach_xdp(ifindex)
        return self._describe(ifindex, held)

    def detach(self, ifindex: InterfaceIndex) -> None:
        """Take the programs off an interface; nothing there is fine."""
        held = self._held.pop(ifindex, None)
        if held is not None:
            if held.xdp is not None:
                self._remove_xdp(ifindex, held.xdp)
            if held.egress is not None:
                held.egress.remove()
            held.tc.remove()

    def observed(self) -> dict[InterfaceIndex, Attached]:
        """Interfaces whose links the kernel still has, as they are right now."""
        return {ifindex: self._describe(ifindex, held) for ifindex, held in self._held.items() if held.tc.is_here()}

    def close(self) -> None:
        """Close all descriptors; what is attached stays attached."""
        for held in self._held.values():
            held.tc.close()
            if held.egress is not None:
                held.egress.close()
            if held.xdp is not None:
                held.xdp.close()
        self._held.clear()
        for program in self._programs.values():
            program.close()

    def _attach_tc(self, ifindex: InterfaceIndex, name: str, side: _Side) -> TcProgram:
        program = self._programs[side.entry]
        try:
            if self._use_tcx:
                path = self._path(ifindex, side.link)
                _remove(path)
                return TcxProgram.attach(program, path, ifindex, side.tcx)
            return ClsactProgram.attach(program, self._path(ifindex, side.mark))
        except KernelError as error:
            if error.errno == errno.ENODEV:
                raise InterfaceGoneError(f"there is no interface {name} (index {ifindex}) here") from error
            if blocking := [row for row in clsact.filters(ifindex, side.clsact) if row.priority == clsact.PRIORITY]:
                where = side.clsact.name.lower()
                raise AttachError(
                    f"priority {clsact.PRIORITY} of the tc filters of {name} is taken ({blocking[0].kind} "
                    f"{blocking[0].name or 'filter'}): `tc filter show dev {name} {where}` lists it; give it another"
                ) from error
            raise

    def _attach_xdp(self, ifindex: InterfaceIndex) -> tuple[Link | None, str]:
        path = self._path(ifindex, _XDP)
        _remove(path)
        try:
            link = Link.create(self._programs[Entry.XDP], ifindex, AttachType.XDP, XDP_NATIVE)
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise
            if error.errno in {errno.EBUSY, errno.EEXIST}:  # in the driver; in generic mode
                other = foreign.xdp_program(ifindex) or "it ended just now"
                return None, f"another XDP program is attached and left alone: {other}"
            return None, _XDP_REFUSALS.get(error.errno, f"XDP is refused: {os.strerror(error.errno)}")
        try:
            link.pin(path)
        except BaseException:
            link.close()
            raise
        return link, ""

    def _remove_xdp(self, ifindex: InterfaceIndex, link: Link) -> None:
        link.close()
        detach_pinned(self._path(ifindex, _XDP))

    def _path(self, ifindex: InterfaceIndex, kind: str) -> Path:
        return self._directory / f"{ifindex}-{kind}"

    def _describe(self, ifindex: InterfaceIndex, held: _Held) -> Attached:
        mode = Mode.TC if held.xdp is None else Mode.XDP
        orders = [foreign.tc_order(ifindex, held.tc.program_id())]
        if held.egress is not None:
            orders.append(foreign.tc_order(ifindex, held.egress.program_id(), at_egress=True))
        reason = "; ".join(part for part in (held.reason, *orders) if part)
        return Attached(ifindex, held.name, mode, reason, Entry.XDP if mode is Mode.XDP else Entry.INGRESS)


def _open_programs(manifest: Manifest) -> dict[Entry, Program]:
    return {entry: Program.open(manifest.programs[entry].path) for entry in Entry}


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
    if link_is_here(link, ifindex):
        return link
    link.close()
    return None


def _remove(path: Path) -> None:
    """Remove what an earlier agent left there; nothing is fine."""
    if path.name.endswith("-qdisc") and path.is_dir():
        path.rmdir()
    elif path.exists():
        detach_pinned(path)
