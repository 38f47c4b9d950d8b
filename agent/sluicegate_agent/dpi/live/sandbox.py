"""What a process gives up for good before it looks at packets: privileges, files, new processes, most system calls.

It keeps what it has open and mapped. Every step that this machine does not allow is named, none is taken for granted.
"""

from __future__ import annotations

import ctypes
import os
import platform
import pwd
import resource
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

MAX_ADDRESS_SPACE: Final = 4 << 30
_NOBODY: Final = 65534

# prctl(2), from linux/prctl.h.
_SET_PDEATHSIG, _SET_SECCOMP, _SET_NO_NEW_PRIVS = 1, 22, 38
_FILTER_MODE = 2
# linux/capability.h: version 3 of the call, with two words of each set.
_CAPABILITY_VERSION = 0x20080522

# Classic BPF, from linux/bpf_common.h: load a word of the call's description, compare, jump, return.
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
# linux/seccomp.h.
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38
# struct seccomp_data: number, architecture, instruction pointer, six arguments of 8 bytes.
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_CLONE_THREAD = 0x10000
_PROT_EXEC = 4


class _Machine(NamedTuple):
    """Numbers of an architecture: AUDIT_ARCH_* of linux/audit.h, and calls by name from its asm/unistd.h."""

    audit: int
    allowed: dict[str, int]
    fatal: dict[str, int]
    clone: int
    clone3: int
    mmap: int
    mprotect: int
    tgkill: int
    prlimit64: int


_X86_64: Final = _Machine(
    0xC000003E,
    {
        "read": 0,
        "write": 1,
        "close": 3,
        "fstat": 5,
        "poll": 7,
        "lseek": 8,
        "munmap": 11,
        "brk": 12,
        "rt_sigaction": 13,
        "rt_sigprocmask": 14,
        "rt_sigreturn": 15,
        "writev": 20,
        "sched_yield": 24,
        "mremap": 25,
        "madvise": 28,
        "nanosleep": 35,
        "getpid": 39,
        "sendto": 44,
        "recvfrom": 45,
        "sendmsg": 46,
        "exit": 60,
        "gettimeofday": 96,
        "getrusage": 98,
        "sigaltstack": 131,
        "gettid": 186,
        "futex": 202,
        "sched_getaffinity": 204,
        "restart_syscall": 219,
        "clock_gettime": 228,
        "clock_getres": 229,
        "clock_nanosleep": 230,
        "exit_group": 231,
        "epoll_wait": 232,
        "epoll_ctl": 233,
        "ppoll": 271,
        "set_robust_list": 273,
        "epoll_pwait": 281,
        "getrandom": 318,
        "membarrier": 324,
        "rseq": 334,
    },
    {
        "socket": 41,
        "connect": 42,
        "fork": 57,
        "vfork": 58,
        "execve": 59,
        "ptrace": 101,
        "mount": 165,
        "init_module": 175,
        "keyctl": 250,
        "unshare": 272,
        "perf_event_open": 298,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "finit_module": 313,
        "bpf": 321,
        "execveat": 322,
        "userfaultfd": 323,
        "io_uring_setup": 425,
    },
    clone=56,
    clone3=435,
    mmap=9,
    mprotect=10,
    tgkill=234,
    prlimit64=302,
)
_AARCH64: Final = _Machine(
    0xC00000B7,
    {
        "epoll_ctl": 21,
        "epoll_pwait": 22,
        "close": 57,
        "lseek": 62,
        "read": 63,
        "write": 64,
        "writev": 66,
        "ppoll": 73,
        "fstat": 80,
        "exit": 93,
        "exit_group": 94,
        "futex": 98,
        "set_robust_list": 99,
        "nanosleep": 101,
        "clock_gettime": 113,
        "clock_getres": 114,
        "clock_nanosleep": 115,
        "sched_getaffinity": 123,
        "sched_yield": 124,
        "restart_syscall": 128,
        "sigaltstack": 132,
        "rt_sigaction": 134,
        "rt_sigprocmask": 135,
        "rt_sigreturn": 139,
        "getrusage": 165,
        "gettimeofday": 169,
        "getpid": 172,
        "gettid": 178,
        "sendto": 206,
        "recvfrom": 207,
        "sendmsg": 211,
        "brk": 214,
        "munmap": 215,
        "mremap": 216,
        "madvise": 233,
        "getrandom": 278,
        "membarrier": 283,
        "rseq": 293,
    },
    {
        "mount": 40,
        "unshare": 97,
        "init_module": 105,
        "ptrace": 117,
        "socket": 198,
        "connect": 203,
        "keyctl": 219,
        "execve": 221,
        "perf_event_open": 241,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "finit_module": 273,
        "bpf": 280,
        "execveat": 281,
        "userfaultfd": 282,
        "io_uring_setup": 425,
    },
    clone=220,
    clone3=435,
    mmap=222,
    mprotect=226,
    tgkill=131,
    prlimit64=261,
)
_MACHINES: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}


def enter(parent: int, address_space: int = MAX_ADDRESS_SPACE) -> list[str]:
    """Give up what is not needed; what could not be given up, and why.

    ``parent``: the process with which this one ends. ``address_space``: the most that may be mapped, in bytes. Raises
    ProcessLookupError when the parent is gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    problems: list[str] = []
    with suppress(OSError):  # the kernel should rather end this process than the agent when memory is short
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    _limit(address_space)
    _try(problems, "it cannot become nobody", _become_nobody)
    _try(problems, "it keeps its capabilities", lambda: _drop_capabilities(libc))
    _try(problems, "it may gain privileges", lambda: _prctl(libc, _SET_NO_NEW_PRIVS, 1))
    # After the change of user, which forgets it.
    _try(problems, "it may outlive the agent", lambda: _prctl(libc, _SET_PDEATHSIG, signal.SIGKILL))
    if os.getppid() != parent:
        raise ProcessLookupError
    _try(problems, "its system calls are not filtered", lambda: _filter(libc))
    return problems


def _try(problems: list[str], what: str, step: Callable[[], None]) -> None:
    try:
        step()
    except OSError as error:
        problems.append(f"{what} ({error.strerror or error})")


def _limit(address_space: int) -> None:
    for what, limit in (
        (resource.RLIMIT_CORE, 0),  # packets of others are in it
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_AS, address_space),
    ):
        _, hard = resource.getrlimit(what)
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (value, value))


def _become_nobody() -> None:
    if os.geteuid() != 0:
        raise OSError(0, f"it runs as user {os.geteuid()}, not as root")
    try:
        known = pwd.getpwnam("nobody")
        user, group = known.pw_uid, known.pw_gid
    except KeyError:
        user = group = _NOBODY
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION, 0))
    if libc.capset(header, ctypes.create_string_buffer(24)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _prctl(libc: ctypes.CDLL, *arguments: int) -> None:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:5]]
    if libc.prctl(*values) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter(libc: ctypes.CDLL) -> None:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(0, f"no list for {platform.machine()}")
    rows = list(_program(machine, os.getpid()))
    code = ctypes.create_string_buffer(b"".join(rows))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(rows), ctypes.addressof(code)))
    _prctl(libc, _SET_SECCOMP, _FILTER_MODE, ctypes.addressof(program))


def _program(machine: _Machine, pid: int) -> Iterator[bytes]:
    """Calls by number: allowed, fatal, or refused. An exploit's first steps are fatal, so that they are noticed."""
    yield _row(_LOAD, _ARCHITECTURE)
    yield _row(_EQUAL, machine.audit, yes=1)
    yield _row(_RETURN, _KILL)
    yield _row(_LOAD, _NUMBER)
    for number in machine.allowed.values():
        yield from _answer(number, _ALLOW)
    for number in machine.fatal.values():
        yield from _answer(number, _KILL)
    # Its arguments lie in memory, where a filter does not look: the C library then makes threads with clone.
    yield from _answer(machine.clone3, _ERROR | _ENOSYS)
    yield from _if_bits(machine.clone, 0, _CLONE_THREAD, yes=_ALLOW, no=_ERROR | _EPERM)
    for number in (machine.mmap, machine.mprotect):
        yield from _if_bits(number, 2, _PROT_EXEC, yes=_ERROR | _EPERM, no=_ALLOW)
    # abort() raises its signal like this.
    yield _row(_EQUAL, machine.tgkill, no=4)
    yield _row(_LOAD, _ARGUMENTS)
    yield _row(_EQUAL, pid, no=1)
    yield _row(_RETURN, _ALLOW)
    yield _row(_RETURN, _ERROR | _EPERM)
    # Limits may be read.
    yield _row(_EQUAL, machine.prlimit64, no=5)
    yield _row(_LOAD, _ARGUMENTS + 2 * 8)
    yield _row(_EQUAL, 0, no=3)
    yield _row(_LOAD, _ARGUMENTS + 2 * 8 + 4)
    yield _row(_EQUAL, 0, no=1)
    yield _row(_RETURN, _ALLOW)
    yield _row(_RETURN, _ERROR | _EPERM)


def _answer(number: int, answer: int) -> Iterator[bytes]:
    yield _row(_EQUAL, number, no=1)
    yield _row(_RETURN, answer)


def _if_bits(number: int, argument: int, bits: int, *, yes: int, no: int) -> Iterator[bytes]:
    yield _row(_EQUAL, number, no=4)
    yield _row(_LOAD, _ARGUMENTS + argument * 8)
    yield _row(_ANY_BIT, bits, no=1)
    yield _row(_RETURN, yes)
    yield _row(_RETURN, no)


def _row(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """struct sock_filter: code, how many rows to leave out when true and when false, value."""
    return struct.pack("<HBBI", code, yes, no, value)
