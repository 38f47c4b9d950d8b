"""The BPF file system, in which pinned objects outlive the processes that made them."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from sluicegate_agent.kernel.native import KernelError

ROOT = Path("/sys/fs/bpf")

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_HINTS = {
    errno.EPERM: "run as root, or mount it beforehand: mount -t bpf bpf /sys/fs/bpf",
    errno.ENODEV: "this kernel is built without BPF (CONFIG_BPF_SYSCALL)",
    errno.ENOENT: "mount sysfs first: mount -t sysfs sysfs /sys",
}


def is_mounted() -> bool:
    """Whether the calling process sees a BPF file system at its usual place."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        # proc(5): "... mount point, options, optional fields - type source super-options"
        before, _, after = line.partition(" - ")
        if before.split()[4] == str(ROOT) and after.split()[0] == "bpf":
            return True
    return False


def mount_if_missing() -> bool:
    """Mount the BPF file system when it is not there; True when it was not. Raises KernelError."""
    if is_mounted():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    if libc.mount(b"bpf", bytes(ROOT), b"bpf", flags, b"mode=700"):
        number = ctypes.get_errno()
        raise KernelError(f"mount the BPF file system on {ROOT}", number, _HINTS.get(number, ""))
    return True


def remove_tree(path: Path) -> None:
    """Unpin all below a directory and remove it; nothing there is fine."""
    for directory, _, files in os.walk(path, topdown=False):
        for name in files:
            Path(directory, name).unlink(missing_ok=True)
        Path(directory).rmdir()
