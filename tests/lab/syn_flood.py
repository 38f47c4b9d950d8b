"""SYNs from addresses that nobody has, sent from the client's wire."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address

from clients import Address, internet_checksum
from sluicegate_agent.lab.namespace import Namespace

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
SPOOFED = {4: IPv4Address("198.18.0.0"), 6: IPv6Address("2001:2::")}  # for benchmarks: RFC 2544, RFC 5180


def send_syns(client: Namespace, gateway_mac: bytes, address: Address, port: int, count: int) -> int:
    """Send ``count`` SYNs to an address, each from another address and port; gives how many got onto the wire."""
    sent = 0
    with client.inside():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        wire.bind(("eth0", 0))
    with wire:
        own_mac = wire.getsockname()[4]
        ethernet = gateway_mac + own_mac + struct.pack("!H", ETHERTYPES[address.version])
        for number in range(count):
            source = SPOOFED[address.version] + number
            with suppress(OSError):  # ENOBUFS: the other end does not keep up
                wire.send(ethernet + _syn(source, address, 1024 + number % 60000, port, number))
                sent += 1
    return sent


def _syn(source: Address, destination: Address, source_port: int, port: int, sequence: int) -> bytes:
    options = struct.pack("!BBHBBBB", 2, 4, 1460, 1, 1, 4, 2)
    header = struct.pack("!HHIIBBHHH", source_port, port, sequence, 0, 7 << 4, 2, 64240, 0, 0) + options
    pseudo = source.packed + destination.packed + struct.pack("!II", len(header), socket.IPPROTO_TCP)
    header = header[:16] + struct.pack("!H", internet_checksum(pseudo + header)) + header[18:]
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(header), socket.IPPROTO_TCP, 64) + pseudo[:32] + header
    outer = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(header), sequence & 0xFFFF, 0x4000, 64, socket.IPPROTO_TCP, 0)
    outer += source.packed + destination.packed
    return outer[:10] + struct.pack("!H", internet_checksum(outer)) + outer[12:] + header
