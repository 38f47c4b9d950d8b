"""Two hosts with a cable between them, and what real clients and servers put on it, as a capture."""

from __future__ import annotations

import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluicegate_agent.lab.namespace import Namespace

CLIENT, SERVER = "10.77.0.1", "10.77.0.2"
STEP_NS = 2_000_000
"""Between two packets of the file: longer than a batch of the replay, so a verdict is there before the next one."""

_ETH_P_ALL, _IPV4, _TCP, _UDP, _ICMP = 3, b"\x08\x00", 6, 17, 1
_ETHERNET, _START = 14, 1_700_000_000
_FIN, _RST = 1, 4
_PORTS = "net.ipv4.ip_local_port_range=50000 50999"
"""Of clients: none that a protocol is guessed by."""
_PATIENCE = 10.0


class WireError(Exception):
    """The packets that a conversation ends with did not come."""


@dataclass(frozen=True, slots=True)
class Wire:
    """The hosts, and a socket that hears all frames of the server's end."""

    client: Namespace
    server: Namespace
    _heard: socket.socket

    def capture(self, file: Path) -> None:
        """Write what was said since the last time, when every connection in it is over."""
        frames: dict[bytes, bytes] = {}
        deadline = time.monotonic() + _PATIENCE
        while _open_ends(frames.values()) or _has_more(self._heard, 0):
            if not _has_more(self._heard, deadline - time.monotonic()):
                raise WireError(f"a connection did not end: {_open_ends(frames.values())}")
            frame = self._heard.recv(65535)
            if (name := _name_of(frame)) is not None:
                frames.setdefault(name, frame)  # a segment that is sent again is no part of what is to be compared
        file.write_bytes(_pcap(list(frames.values())))


@contextmanager
def wire() -> Iterator[Wire]:
    """Two namespaces; everything is removed at the end. Segments are as long as on a real cable."""
    stem = f"sgt-{os.getpid()}-{secrets.token_hex(2)}"
    with ExitStack() as stack:
        hosts = [Namespace(f"{stem}-{role}") for role in ("gc", "gs")]
        for host in hosts:
            stack.callback(host.delete)
            host.create()
            host.sysctl(["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", _PORTS])
        client, server = hosts
        client.ip([f"link add wire type veth peer name wire netns {server.name}"])
        for host, address in ((client, CLIENT), (server, SERVER)):
            host.run(["ethtool", "--features", "wire", "gro", "off", "gso", "off", "tso", "off", "tx", "off"])
            host.ip([f"address add {address}/24 dev wire", "link set wire up"])
        with server.inside():
            heard = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)))
        yield Wire(client, server, heard)


def _has_more(heard: socket.socket, seconds: float) -> bool:
    return bool(select.select([heard], [], [], max(seconds, 0.0))[0])


def _name_of(frame: bytes) -> bytes | None:
    """What two copies of a packet have in common; None for what is no part of a conversation."""
    if len(frame) < _ETHERNET + 20 or frame[12:14] != _IPV4 or frame[23] not in {_TCP, _UDP, _ICMP}:
        return None
    ip = frame[_ETHERNET : _ETHERNET + int.from_bytes(frame[16:18])]
    l4 = ip[(ip[0] & 15) * 4 :]
    if frame[23] != _TCP:
        return ip
    return ip[9:10] + ip[12:20] + l4[:12] + l4[13:14] + l4[(l4[12] >> 4) * 4 :]


def _open_ends(frames: Iterable[bytes]) -> dict[tuple[bytes, bytes], set[bytes]]:
    """Connections by their ends that are not over, each with the ends that said that they are done."""
    found: dict[tuple[bytes, bytes], set[bytes]] = {}
    for frame in frames:
        if frame[23] != _TCP:
            continue
        ends = frame[26:30] + frame[34:36], frame[30:34] + frame[36:38]
        key = min(ends), max(ends)
        done, flags = found.setdefault(key, set()), frame[47]
        done |= {ends[0]} if flags & _FIN else set(ends) if flags & _RST else set()
    return {key: done for key, done in found.items() if len(done) < 2}


def _pcap(frames: list[bytes]) -> bytes:
    out = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    for index, frame in enumerate(frames):
        out += struct.pack("<IIII", _START, index * STEP_NS, len(frame), len(frame)) + frame
    return out
