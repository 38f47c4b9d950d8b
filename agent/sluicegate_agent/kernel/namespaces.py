"""Network namespaces by the cookie that the kernel gives each, never twice in one boot."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SO_NETNS_COOKIE = 71  # <asm-generic/socket.h>, since Linux 5.14
_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"


def cookie() -> int:
    """Of the calling thread's namespace. Raises OSError on kernels before 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")


@contextmanager
def inside(wanted: int) -> Iterator[bool]:
    """The calling thread is in the namespace with that cookie; False when nobody names it or runs in it any more."""
    if cookie() == wanted:
        yield True
        return
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield any(_enter(path) and cookie() == wanted for path in _candidates())
    finally:
        try:
            _set(home)
        finally:
            os.close(home)


def _candidates() -> Iterator[Path]:
    """One file of each namespace: those with names, then those of processes."""
    seen: set[int] = set()
    named, processes = Path("/run/netns"), Path("/proc")
    places = (*named.glob("*"), *(entry / "ns" / "net" for entry in processes.glob("[0-9]*")))
    for path in places:
        with suppress(OSError):  # it ended meanwhile
            inode = path.stat().st_ino
            if inode not in seen:
                seen.add(inode)
                yield path


def _enter(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        _set(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _set(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
