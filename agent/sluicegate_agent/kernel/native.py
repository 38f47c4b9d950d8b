"""The one place that calls ``libbpf.so.1``; all other modules of this package go through :func:`call`."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

LIBRARY = "libbpf.so.1"

_HINTS = {
    errno.EPERM: "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; a container needs them too",
    errno.ENOMEM: "make the maps smaller or give the machine (or its cgroup) more memory",
    errno.E2BIG: "the map is full or its size is beyond the kernel's limit; make it larger or smaller in the settings",
    errno.ENOSYS: "this kernel is built without BPF (CONFIG_BPF_SYSCALL); Linux 6.1 or newer is needed",
}


class KernelError(Exception):
    """The kernel refused an operation on a BPF object; ``hint`` says what to do, empty when nothing is known."""

    def __init__(self, operation: str, number: int, hint: str = "") -> None:
        self.operation = operation
        self.errno = number
        self.hint = hint or _HINTS.get(number, "")
        name = errno.errorcode.get(number, str(number))
        tail = f"; {self.hint}" if self.hint else ""
        super().__init__(f"cannot {operation}: {os.strerror(number)} ({name}){tail}")

    def __reduce__(self) -> tuple[type[KernelError], tuple[str, int, str]]:  # crosses processes in the loader
        return KernelError, (self.operation, self.errno, self.hint)


@cache
def library() -> ctypes.CDLL:
    """The loaded library, silenced: what it would print is in our own errors."""
    try:
        loaded = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise KernelError(f"load {LIBRARY}", errno.ENOENT, "install it: apt-get install libbpf1") from error
    loaded.libbpf_set_print(None)
    return loaded


def call(function: str, operation: str, *arguments: object) -> int:
    """Call a libbpf function whose result is negative on failure.

    Raises :class:`KernelError` with ``operation``, a phrase that completes "cannot ...".
    """
    result, number = try_call(function, *arguments)
    if number:
        raise KernelError(operation, number)
    return result


def try_call(function: str, *arguments: object) -> tuple[int, int]:
    """Like :func:`call`, but returns (result, errno) for callers to whom some errors are answers."""
    ctypes.set_errno(0)
    result = int(getattr(library(), function)(*arguments))
    if result >= 0:
        return result, 0
    # libbpf 1.x returns the error itself and sets errno too; a few of its helpers return a bare -1.
    return result, ctypes.get_errno() or -result


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map keeps per key."""
    return call("libbpf_num_possible_cpus", "count the CPUs")


class Descriptor:
    """An owned file descriptor of a BPF object. Closing it does not remove what is pinned or attached."""

    kind = "object"

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The open descriptor; it stays this object's."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor; more than once does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def pin(self, path: Path) -> None:
        """Give the object a name in the BPF file system: one step, there is no half-made pin. EEXIST when taken."""
        call("bpf_obj_pin", f"pin a {self.kind} as {path}", self._fd, bytes(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            self.close()


def open_pinned(path: Path, kind: str) -> int:
    """A new descriptor of the object pinned at ``path``; EINVAL when that is another kind of object."""
    operation = f"open the {kind} pinned as {path}"
    fd = call("bpf_obj_get", operation, bytes(path))
    # Only the descriptor's name tells: "anon_inode:bpf-map", "anon_inode:bpf-prog", "anon_inode:bpf_link".
    if kind[:4] not in Path(f"/proc/self/fd/{fd}").readlink().name:
        os.close(fd)
        raise KernelError(operation, errno.EINVAL, "another kind of object is pinned there")
    return fd


_Info = TypeVar("_Info", bound=ctypes.Structure)


def read_info(fd: int, kind: str, structure: type[_Info]) -> _Info:
    """The kernel's description of an object; fields that an older kernel does not know stay zero."""
    info = structure()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    call("bpf_obj_get_info_by_fd", f"read the description of a {kind}", fd, ctypes.byref(info), ctypes.byref(size))
    return info
