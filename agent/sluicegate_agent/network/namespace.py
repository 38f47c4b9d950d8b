"""Entering a network namespace by name or path."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_NAMED = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


class NamespaceError(Exception):
    """The namespace cannot be entered; the message says why and what to do."""


def namespace_path(name: str) -> Path:
    """Where the namespace's file is: ``name`` itself when it holds a slash, else as ``ip netns`` keeps it."""
    return Path(name) if "/" in name else _NAMED / name


def enter(name: str) -> None:
    """Move the calling thread into a namespace, for good; call it before other threads start.

    Unlike ``ip netns exec`` the mounts stay as they are, so the BPF file system remains in sight.
    Raises :class:`NamespaceError`.
    """
    path = namespace_path(name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NamespaceError(
            f"network namespace {name!r} does not exist ({path} is missing); `ip netns list` shows those that do"
        ) from None
    except OSError as error:
        raise NamespaceError(f"network namespace {name!r} cannot be opened: {path}: {error.strerror}") from None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            raise NamespaceError(_refused(name, path, ctypes.get_errno()))
    finally:
        os.close(descriptor)


def _refused(name: str, path: Path, code: int) -> str:
    if code == errno.EPERM:
        return f"network namespace {name!r} cannot be entered without root; run as root"
    return f"network namespace {name!r} cannot be entered: {os.strerror(code)}; is {path} a network namespace?"
