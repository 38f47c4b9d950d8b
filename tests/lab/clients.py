"""Small clients that work from a namespace without a process of their own: their sockets are opened in there."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from sluicegate_agent.lab.namespace import Namespace

Address = IPv4Address | IPv6Address

_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}


def family_of(address: Address) -> socket.AddressFamily:
    """The family of an address's sockets."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


@contextmanager
def datagram_socket(
    namespace: Namespace, address: Address, port: int, *, source: Address | None = None, seconds: float = 3.0
) -> Iterator[socket.socket]:
    """A connected UDP socket, from any free port."""
    with namespace.inside():
        opened = socket.socket(family_of(address), socket.SOCK_DGRAM)
    with opened:
        opened.settimeout(seconds)
        if source is not None:
            opened.bind((str(source), 0))
        opened.connect((str(address), port))
        yield opened


def pattern(size: int) -> bytes:
    """``size`` bytes that the server echoes as they are, no two words of them alike."""
    words = b"".join(struct.pack("!H", index) for index in range(size // 2 + 1))
    return (b"=" + words)[:size]


def exchange(opened: socket.socket, payload: bytes) -> bytes:
    """Send a datagram and give the answer; TimeoutError without one."""
    opened.send(payload)
    return opened.recv(65535)


def ask_name(
    namespace: Namespace, address: Address, port: int, *, source: Address | None = None, seconds: float = 3.0
) -> str:
    """Name of the backend that answers a new TCP connection; "" when it is not answered at all."""
    with namespace.inside():
        opened = socket.socket(family_of(address), socket.SOCK_STREAM)
    with opened:
        opened.settimeout(seconds)
        if source is not None:
            opened.bind((str(source), 0))
        try:
            opened.connect((str(address), port))
            opened.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
            answer = b""
            while part := opened.recv(4096):
                answer += part
        except TimeoutError:
            return ""
    return answer.partition(b"\r\n\r\n")[2].decode()


@dataclass(frozen=True, slots=True)
class Burst:
    """Connections opened at a steady pace: how many, how many were accepted meanwhile, and over how many seconds."""

    opened: int
    accepted: int
    seconds: float


def burst(namespace: Namespace, address: Address, port: int, *, count: int, pace: float) -> Burst:
    """Open ``count`` connections, ``pace`` a second, without waiting for any, and see which are accepted by the end.

    A refused SYN is repeated by the kernel a second later; a burst shorter than that counts each connection once.
    """
    with ExitStack() as stack:
        connections = []
        started = time.monotonic()
        for number in range(count):
            with namespace.inside():
                connection = stack.enter_context(socket.socket(family_of(address), socket.SOCK_STREAM))
            connection.setblocking(False)
            connection.connect_ex((str(address), port))
            connections.append(connection)
            time.sleep(max(0.0, started + (number + 1) / pace - time.monotonic()))
        seconds = time.monotonic() - started
        poller = select.poll()
        for connection in connections:
            poller.register(connection, select.POLLOUT)
        accepted = sum(1 for _, events in poller.poll(100) if not events & (select.POLLERR | select.POLLHUP))
    return Burst(count, accepted, seconds)


def ping(namespace: Namespace, address: Address, size: int = 56, *, seconds: float = 3.0) -> bool:
    """Whether an echo request with ``size`` bytes of data is answered by the same address with the same data."""
    protocol = socket.IPPROTO_ICMP if address.version == 4 else socket.IPPROTO_ICMPV6
    with namespace.inside():
        opened = socket.socket(family_of(address), socket.SOCK_RAW, protocol)
    with opened:
        opened.settimeout(seconds)
        opened.connect((str(address), 0))
        data = pattern(size)
        identity = struct.pack("!HH", os.getpid() & 0xFFFF, 1)
        message = bytes([_ECHO_REQUEST[address.version], 0, 0, 0]) + identity + data
        if address.version == 4:  # the kernel fills in the checksum of ICMPv6 alone
            message = message[:2] + struct.pack("!H", internet_checksum(message)) + message[4:]
        opened.send(message)
        wanted = bytes([_ECHO_REPLY[address.version], 0])
        try:
            while True:
                answer = opened.recv(65535)
                if address.version == 4:
                    answer = answer[(answer[0] & 15) * 4 :]
                if answer[:2] == wanted and answer[4:] == identity + data:
                    return True
        except TimeoutError:
            return False


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    if len(data) % 2:
        total += data[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
