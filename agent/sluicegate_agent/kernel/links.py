"""BPF links: a program on an interface, for as long as the link is open or pinned."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sluicegate_agent.kernel.native import Descriptor, call, open_pinned, read_info, try_call
from sluicegate_agent.kernel.programs import AttachType, Program

XDP_GENERIC = 1 << 1
"""XDP_FLAGS_SKB_MODE: in the stack, after the driver."""
XDP_NATIVE = 1 << 2
"""XDP_FLAGS_DRV_MODE: in the driver or not at all."""
TCX_FIRST = 1 << 3
"""BPF_F_BEFORE without a program that it refers to: before all that are there."""

_LINK_TYPE_XDP = 6
_LOOPBACK_INDEX = 1  # in every network namespace
_QUERY_SLOTS = 64  # the kernel lets at most 64 programs share one tcx hook (BPF_MPROG_MAX)


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What the kernel says of a link; ``ifindex`` is 0 once the interface is gone."""

    id: int
    prog_id: int
    ifindex: int
    attach_type: AttachType


class _RawInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
        ("ifindex", ctypes.c_uint32),
        ("attach_type", ctypes.c_uint32),
        ("rest", ctypes.c_uint64 * 4),
    )


class _CreateOptions(ctypes.Structure):
    _fields_ = (("sz", ctypes.c_size_t), ("flags", ctypes.c_uint32), ("reserved", ctypes.c_uint32))


class _QueryOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("query_flags", ctypes.c_uint32),
        ("attach_flags", ctypes.c_uint32),
        ("prog_ids", ctypes.c_void_p),
        ("prog_cnt", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class Link(Descriptor):
    """An attachment. Closing the last descriptor of an unpinned link detaches the program."""

    kind = "link"

    @classmethod
    def create(cls, program: Program, ifindex: int, attach_type: AttachType, flags: int = 0) -> Self:
        """Attach to an interface of the calling thread's network namespace; ``flags``: ``XDP_FLAGS_*``, ``BPF_F_*``."""
        options = _CreateOptions(sz=ctypes.sizeof(_CreateOptions), flags=flags)
        return cls(
            call(
                "bpf_link_create",
                f"attach a program to interface {ifindex} ({attach_type.name})",
                program.fd,
                ifindex,
                int(attach_type),
                ctypes.byref(options),
            )
        )

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a pinned link; KernelError with ENOENT when nothing is pinned there."""
        return cls(open_pinned(path, cls.kind))

    @property
    def info(self) -> LinkInfo:
        """Where the link is and which program runs there, right now."""
        raw = read_info(self._fd, self.kind, _RawInfo)
        attach_type = AttachType.XDP if raw.type == _LINK_TYPE_XDP else AttachType(raw.attach_type)
        return LinkInfo(raw.id, raw.prog_id, raw.ifindex, attach_type)

    def update(self, program: Program) -> None:
        """Replace the program atomically: every packet meets the old one or the new one. ENOLINK when it is dead."""
        call("bpf_link_update", "replace the program of a link", self._fd, program.fd, None)

    def detach(self) -> None:
        """Take the program off the interface, whoever else holds the link."""
        call("bpf_link_detach", "detach a link", self._fd)


def programs_at(ifindex: int, attach_type: AttachType) -> tuple[int, ...]:
    """Ids of the programs on an interface *of this network namespace*, as they run; none when there is no such one.

    A link's own description names an index only: it cannot tell an interface that moved to another namespace.
    """
    if attach_type is AttachType.XDP:
        ids = (xdp_program_at(ifindex, flag) for flag in (XDP_NATIVE, XDP_GENERIC))
        return tuple(program_id for program_id in ids if program_id)
    number, programs = _query(ifindex, attach_type)
    return () if number else programs


def xdp_program_at(ifindex: int, flag: int) -> int:
    """Id of the XDP program in that mode (``XDP_NATIVE``, ``XDP_GENERIC``), 0 when there is none."""
    program_id = ctypes.c_uint32()
    _, number = try_call("bpf_xdp_query_id", ifindex, flag, ctypes.byref(program_id))
    return 0 if number else program_id.value


def tcx_refusal() -> int:
    """Why the kernel has no tcx links, as an errno; 0 when it has. Raises KernelError without libbpf."""
    return _query(_LOOPBACK_INDEX, AttachType.TCX_INGRESS)[0]


def _query(ifindex: int, attach_type: AttachType) -> tuple[int, tuple[int, ...]]:
    ids = (ctypes.c_uint32 * _QUERY_SLOTS)()
    options = _QueryOptions(
        sz=ctypes.sizeof(_QueryOptions), prog_ids=ctypes.cast(ids, ctypes.c_void_p), prog_cnt=_QUERY_SLOTS
    )
    _, number = try_call("bpf_prog_query_opts", ifindex, int(attach_type), ctypes.byref(options))
    return number, tuple(ids[: options.prog_cnt])
