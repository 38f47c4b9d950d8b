"""BPF programs: load, look at, run on a packet of one's own."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import ClassVar, Self

from sluicegate_agent.kernel.native import Descriptor, KernelError, call, open_pinned, read_info, try_call

INSTRUCTION_BYTES = 8


class ProgramType(IntEnum):
    """``enum bpf_prog_type``, as far as it is used here."""

    SOCKET_FILTER = 1
    SCHED_CLS = 3
    XDP = 6


class AttachType(IntEnum):
    """``enum bpf_attach_type``, as far as it is used here."""

    NONE = 0
    XDP = 37
    TCX_INGRESS = 46
    TCX_EGRESS = 47


class LoadFlag(IntFlag):
    """``BPF_F_*`` of program loading."""

    NONE = 0
    XDP_HAS_FRAGS = 1 << 5


class RunFlag(IntFlag):
    """``BPF_F_TEST_*``."""

    NONE = 0
    XDP_LIVE_FRAMES = 1 << 1


class VerifierError(KernelError):
    """The kernel did not accept a program; ``log`` is the verifier's whole story, its end says why."""

    def __init__(self, operation: str, number: int, log: str) -> None:
        super().__init__(operation, number, "the verifier's log says why" if log else "")
        self.log = log

    def tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class LoadedInfo:
    """What the kernel says of a program; lengths in bytes, ``tag`` is its digest of the instructions."""

    id: int
    tag: str
    name: str
    xlated_len: int
    jited_len: int
    verified_insns: int
    load_time: int
    """When it was loaded, ns since boot."""
    run_ns: int = 0
    run_count: int = 0
    """How long it ran in all, and how often, while run time statistics were on."""


@dataclass(frozen=True, slots=True)
class TestRun:
    """Result of a run: the return value, the packet and context afterwards, ns per repetition (mean)."""

    __test__: ClassVar[bool] = False  # no test case, whatever its name makes pytest think

    retval: int
    data: bytes
    ctx: bytes
    duration_ns: int


class _RawInfo(ctypes.Structure):
    """``struct bpf_prog_info``; pointers stay null, so that only lengths are filled in."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", ctypes.c_uint32),
        ("xlated_prog_len", ctypes.c_uint32),
        ("pointers_1", ctypes.c_uint64 * 2),
        ("load_time", ctypes.c_uint64),
        ("owner_1", ctypes.c_uint32 * 2),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("lengths", ctypes.c_uint32 * 2),
        ("tables", ctypes.c_uint64 * 13),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
        ("verified_insns", ctypes.c_uint32),
        ("attach", ctypes.c_uint32 * 3),
    )


class _LoadOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_char_p),
    )


class _TestOptions(ctypes.Structure):
    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_char_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_char_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class Program(Descriptor):
    """A loaded program."""

    kind = "program"

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a pinned program; KernelError with ENOENT when nothing is pinned there."""
        return cls(open_pinned(path, cls.kind))

    @classmethod
    def from_id(cls, program_id: int) -> Self:
        """Open a loaded program, whosever it is; KernelError with ENOENT when there is none."""
        return cls(call("bpf_prog_get_fd_by_id", f"open the program {program_id}", ctypes.c_uint32(program_id)))

    @classmethod
    def load(
        cls,
        program_type: ProgramType,
        name: str,
        instructions: bytes,
        *,
        license_name: str = "GPL",
        expected_attach_type: AttachType = AttachType.NONE,
        flags: LoadFlag = LoadFlag.NONE,
        log_bytes: int = 1 << 16,
    ) -> Self:
        """Verify and load instructions (8 bytes each).

        Raises VerifierError; its log is what fits into ``log_bytes``, since Linux 6.4 the end of it.
        """
        fd, number, log = _load(program_type, name, instructions, license_name, expected_attach_type, flags, 0)
        if number:
            # Only now with a log: to make room for one takes longer than most programs take to load.
            fd, number, log = _load(
                program_type, name, instructions, license_name, expected_attach_type, flags, log_bytes
            )
        if number:
            raise VerifierError(f"load the program {name}", number, log)
        return cls(fd)

    @property
    def info(self) -> LoadedInfo:
        """Identity and size."""
        raw = read_info(self._fd, self.kind, _RawInfo)
        return LoadedInfo(
            raw.id,
            bytes(raw.tag).hex(),
            raw.name.decode(),
            raw.xlated_prog_len,
            raw.jited_prog_len,
            raw.verified_insns,
            raw.load_time,
            raw.run_time_ns,
            raw.run_cnt,
        )

    def test_run(
        self,
        data: bytes,
        *,
        ctx: bytes | None = None,
        repeat: int = 1,
        flags: RunFlag = RunFlag.NONE,
        cpu: int | None = None,
    ) -> TestRun:
        """Run on a packet (at least 14 bytes) without a network.

        ``ctx`` is a ``struct xdp_md`` or ``struct __sk_buff``. ``cpu`` pins the calling thread for the run. Live
        frames really leave through redirects and come back with neither data nor context.
        """
        live = bool(flags & RunFlag.XDP_LIVE_FRAMES)
        data_out = ctypes.create_string_buffer(0 if live else len(data) + 4096)
        ctx_out = ctypes.create_string_buffer(0 if live or ctx is None else len(ctx))
        options = _TestOptions(
            sz=ctypes.sizeof(_TestOptions),
            data_in=data,
            data_out=ctypes.cast(data_out, ctypes.c_void_p) if len(data_out) else None,
            data_size_in=len(data),
            data_size_out=len(data_out),
            ctx_in=ctx,
            ctx_out=ctypes.cast(ctx_out, ctypes.c_void_p) if len(ctx_out) else None,
            ctx_size_in=len(ctx or b""),
            ctx_size_out=len(ctx_out),
            repeat=repeat,
            flags=int(flags),
        )
        with _pinned_to(cpu):
            call("bpf_prog_test_run_opts", "run the program on a test packet", self._fd, ctypes.byref(options))
        return TestRun(
            options.retval,
            ctypes.string_at(data_out, 0 if live else options.data_size_out),
            ctypes.string_at(ctx_out, options.ctx_size_out if len(ctx_out) else 0),
            options.duration,
        )


def _load(  # noqa: PLR0917 - the arguments of bpf_prog_load(3)
    program_type: ProgramType,
    name: str,
    instructions: bytes,
    license_name: str,
    expected_attach_type: AttachType,
    flags: LoadFlag,
    log_bytes: int,
) -> tuple[int, int, str]:
    """Descriptor, errno and log of one attempt."""
    log = ctypes.create_string_buffer(log_bytes)
    options = _LoadOptions(
        sz=ctypes.sizeof(_LoadOptions),
        expected_attach_type=int(expected_attach_type),
        prog_flags=int(flags),
        log_size=log_bytes,
        log_level=1 if log_bytes else 0,
        log_buf=ctypes.cast(log, ctypes.c_char_p) if log_bytes else None,
    )
    fd, number = try_call(
        "bpf_prog_load",
        int(program_type),
        name.encode()[:15],
        license_name.encode(),
        instructions,
        ctypes.c_size_t(len(instructions) // INSTRUCTION_BYTES),
        ctypes.byref(options),
    )
    return fd, number, log.raw.partition(b"\0")[0].decode(errors="replace")


@contextmanager
def _pinned_to(cpu: int | None) -> Iterator[None]:
    if cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
