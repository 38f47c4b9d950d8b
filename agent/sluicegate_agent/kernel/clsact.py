"""Classic tc filters by rtnetlink: how a program gets on an interface where the kernel has no tcx links.

The qdisc clsact gives an interface filters at ingress and egress; ours are cls_bpf filters in direct-action mode. They
live in the kernel as long as their interface stays in its network namespace. Layouts: linux/rtnetlink.h,
linux/pkt_cls.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum

from sluicegate_agent.kernel.native import KernelError
from sluicegate_agent.kernel.programs import Program
from sluicegate_agent.network.netlink import (
    ACKNOWLEDGE,
    CREATE,
    EXCLUSIVE,
    ROUTE,
    NetlinkError,
    Requests,
    attribute,
    attributes,
)

PRIORITY = 1
"""Of our filter, everywhere: the first that runs."""

HANDLE = 0x5347
"""Of our filter, everywhere: "SG". Other filters of the same kind and priority have other handles."""

_KIND = "bpf"
_CLSACT = 0xFFFFFFF1  # TC_H_CLSACT, the parent of the qdisc
_QDISC = 0xFFFF0000  # the handle that clsact and the older ingress qdisc share
_PROTOCOL_ALL = 0x0300  # htons(ETH_P_ALL)
_TCMSG = struct.Struct("=BxxxiIII")  # family, interface, handle, parent, info
_U32 = struct.Struct("=I")
_HINTS = {
    errno.ENOENT: "this kernel lacks CONFIG_NET_SCH_INGRESS or CONFIG_NET_CLS_BPF; Linux 6.6 or newer needs neither",
}


class Side(IntEnum):
    """Where packets meet filters: ``TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`` and so on."""

    INGRESS = 0xFFFFFFF2
    EGRESS = 0xFFFFFFF3


class _Kind(IntEnum):
    """``RTM_*``: types of messages."""

    NEW_QDISC = 36
    DELETE_QDISC = 37
    NEW_FILTER = 44
    DELETE_FILTER = 45
    GET_FILTER = 46


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of an interface. ``name`` and ``program_id`` are empty and 0 where ``kind`` is not bpf."""

    kind: str
    priority: int
    handle: int
    name: str
    program_id: int

    @property
    def at_our_place(self) -> bool:
        """Whether it is where ours would be."""
        return (self.kind, self.priority, self.handle) == (_KIND, PRIORITY, HANDLE)

    @property
    def runs(self) -> bool:
        """Whether packets meet it: the hash tables that u32 lists beside its filters are none."""
        return self.kind != "u32" or bool(self.handle & 0xFFF)


def filters(ifindex: int, side: Side = Side.INGRESS) -> tuple[Filter, ...]:
    """Filters in the order in which they run; none when there is no such interface here. Raises KernelError."""
    with closing(Requests(ROUTE)) as kernel:
        try:
            bodies = kernel.dump(_Kind.GET_FILTER, _TCMSG.pack(0, ifindex, 0, side, 0))
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return ()
            raise KernelError(f"list the tc filters of interface {ifindex}", error.errno or 0) from error
    return tuple(_parse(bodies))


def add_qdisc(ifindex: int) -> bool:
    """Give the interface the qdisc clsact; False when it, or the older ingress, is there. Raises KernelError."""
    body = _TCMSG.pack(0, ifindex, _QDISC, _CLSACT, 0) + attribute(1, b"clsact\0")
    return _change(_Kind.NEW_QDISC, body, CREATE | EXCLUSIVE, f"add clsact to interface {ifindex}", {errno.EEXIST})


def remove_qdisc(ifindex: int) -> bool:
    """Remove clsact with all its filters; False when there is none. Raises KernelError."""
    body = _TCMSG.pack(0, ifindex, _QDISC, _CLSACT, 0) + attribute(1, b"clsact\0")
    gone = {errno.ENODEV, errno.ENOENT, errno.EINVAL}
    return _change(_Kind.DELETE_QDISC, body, 0, f"remove clsact from interface {ifindex}", gone)


def add_filter(ifindex: int, program: Program, name: str, side: Side = Side.INGRESS) -> None:
    """Put our filter on an interface that has clsact. Raises KernelError, with EEXIST when our place is taken."""
    _change(_Kind.NEW_FILTER, _filter(ifindex, program, name, side), CREATE | EXCLUSIVE, _adding(ifindex), set())


def replace_filter(ifindex: int, program: Program, name: str, side: Side = Side.INGRESS) -> bool:
    """Give our filter another program, atomically; False when there is no filter any more. Raises KernelError."""
    gone = {errno.ENODEV, errno.ENOENT}
    return _change(_Kind.NEW_FILTER, _filter(ifindex, program, name, side), 0, _adding(ifindex), gone)


def remove_filter(ifindex: int, side: Side = Side.INGRESS) -> bool:
    """Remove the filter at our place; False when there is none. Raises KernelError."""
    body = _TCMSG.pack(0, ifindex, HANDLE, side, PRIORITY << 16 | _PROTOCOL_ALL)
    body += attribute(1, f"{_KIND}\0".encode())
    gone = {errno.ENODEV, errno.ENOENT, errno.EINVAL}
    return _change(_Kind.DELETE_FILTER, body, 0, f"remove the tc filter from interface {ifindex}", gone)


def _adding(ifindex: int) -> str:
    return f"put a tc filter on interface {ifindex}"


def _filter(ifindex: int, program: Program, name: str, side: Side) -> bytes:
    options = (
        attribute(6, _U32.pack(program.fd))
        + attribute(7, f"{name}\0".encode())
        + attribute(8, _U32.pack(1))  # TCA_BPF_FLAG_ACT_DIRECT: the program's result is the verdict
    )
    head = _TCMSG.pack(0, ifindex, HANDLE, side, PRIORITY << 16 | _PROTOCOL_ALL)
    return head + attribute(1, f"{_KIND}\0".encode()) + attribute(2, options)


def _change(kind: _Kind, body: bytes, flags: int, operation: str, expected: set[int]) -> bool:
    """Whether it was done; False for the errors that are ``expected``."""
    with closing(Requests(ROUTE)) as kernel:
        try:
            kernel.ask(kind, body, flags | ACKNOWLEDGE)
        except NetlinkError as error:
            if error.errno in expected:
                return False
            number = error.errno or 0
            raise KernelError(operation, number, _HINTS.get(number, "")) from error
    return True


def _parse(bodies: list[bytes]) -> Iterator[Filter]:
    for body in bodies:
        _, _, handle, _, info = _TCMSG.unpack_from(body)
        found = attributes(body, _TCMSG.size)
        if not handle or 1 not in found:  # the head of a priority, which is no filter
            continue
        kind = _text(found[1])
        options = attributes(found.get(2, b"")) if kind == _KIND else {}
        program_id = _U32.unpack_from(options[11])[0] if 11 in options else 0
        yield Filter(kind, info >> 16, handle, _text(options.get(7, b"")), program_id)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
