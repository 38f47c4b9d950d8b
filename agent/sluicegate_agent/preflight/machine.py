"""Facts about this machine that decide whether the agent can run: read only, nothing is changed."""

from __future__ import annotations

import array
import ctypes
import fcntl
import importlib.util
import os
import platform
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sluicegate_agent.dpi.binding import available
from sluicegate_agent.dpi.ndpi_provider import NoNdpi, find

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_GDRVINFO = 3  # linux/ethtool.h; struct ethtool_drvinfo is 196 bytes, the driver's name at 4
_BPFFS_MAGIC = "bpf"


@dataclass(frozen=True, slots=True)
class Facts:
    """What :func:`gather` found. Paths and numbers as the kernel gives them, None where they cannot be read.

    ``engine`` and ``classification`` say why sniffers have none, and are empty when they do.
    """

    uid: int
    capabilities: int
    kernel: str
    bpffs_mounted: bool
    headers: Path
    headers_complete: bool
    bcc: bool
    libbpf: str | None
    forwarding: dict[int, bool | None]
    local_ports: tuple[int, int] | None
    engine: str = ""
    classification: str = ""


def gather() -> Facts:
    """Read the facts of this process, kernel and network namespace."""
    release = platform.release()
    modules = Path("/lib/modules") / release
    return Facts(
        uid=os.geteuid(),
        capabilities=_capabilities(),
        kernel=release,
        bpffs_mounted=_BPFFS_MAGIC in _mounts_at("/sys/fs/bpf"),
        headers=modules,
        headers_complete=(modules / "build" / "include").is_dir() and (modules / "source" / "include").is_dir(),
        bcc=importlib.util.find_spec("bcc") is not None,
        libbpf=_library_version("libbpf.so.1", "libbpf_version_string"),
        forwarding={
            4: _flag("/proc/sys/net/ipv4/ip_forward"),
            6: _flag("/proc/sys/net/ipv6/conf/all/forwarding"),
        },
        local_ports=local_port_range(),
        engine=available() or "",
        classification=found.reason if isinstance(found := find(), NoNdpi) else "",
    )


def local_port_range() -> tuple[int, int] | None:
    """Ports that this namespace's kernel gives to local sockets, both ends included."""
    with suppress(OSError, ValueError):
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        return int(first), int(last)
    return None


def driver_of(interface: str) -> str | None:
    """Name of the interface's driver, by ethtool's ioctl, which unlike /sys answers for this namespace."""
    buffer = array.array("B", struct.pack("I", _ETHTOOL_GDRVINFO).ljust(196, b"\0"))
    request = struct.pack("16sP", interface.encode(), buffer.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            fcntl.ioctl(probe, _SIOCETHTOOL, request)
        except OSError:
            return None
    return buffer[4:36].tobytes().split(b"\0", 1)[0].decode(errors="replace") or None


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _mounts_at(point: str) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _, where, kind, *_ = line.split()
        if where == point:
            yield kind


def _flag(path: str) -> bool | None:
    try:
        return Path(path).read_text(encoding="ascii").strip() != "0"
    except OSError:
        return None


def _library_version(name: str, function: str) -> str | None:
    try:
        call = getattr(ctypes.CDLL(name), function)
    except (OSError, AttributeError):
        return None
    call.restype = ctypes.c_char_p
    return str(call().decode())
