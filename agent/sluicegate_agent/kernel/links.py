"""BPF links: a program on an interface, for as long as the link is open or pinned."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sluicegate_agent.kernel.native import Descriptor, call, open_pinned, read_info, try_call
from sluicegate_agent.kernel.programs import AttachType, Program

XDP_NATIVE = 1 << 2
"""XDP_FLAGS_DRV_MODE: in the driver or not at all."""

_LINK_TYPE_XDP = 6
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
        """Attach to an interface of the calling thread's network namespace; ``flags`` as ``XDP_FLAGS_*`` for XDP."""
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


def programs_at(ifindex: int, attach_type: AttachType) -> frozenset[int]:
    """Ids of the programs on an interface *of this network namespace*; empty when there is no such interface.

    A link's own description names an index only: it cannot tell an interface that moved to another namespace.
    """
    if attach_type is AttachType.XDP:
        program_id = ctypes.c_uint32()
        _, number = try_call("bpf_xdp_query_id", ifindex, 0, ctypes.byref(program_id))
        return frozenset() if number or not program_id.value else frozenset({program_id.value})
    ids = (ctypes.c_uint32 * _QUERY_SLOTS)()
    options = _QueryOptions(
        sz=ctypes.sizeof(_QueryOptions), prog_ids=ctypes.cast(ids, ctypes.c_void_p), prog_cnt=_QUERY_SLOTS
    )
    _, number = try_call("bpf_prog_query_opts", ifindex, int(attach_type), ctypes.byref(options))
    return frozenset() if number else frozenset(ids[: options.prog_cnt])
