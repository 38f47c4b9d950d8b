"""The smallest frames of a client to a VIP, and reading where a program sent one."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from sluicegate_agent.control.questions import PacketQuestion
from sluicegate_agent.datapath.model import IPAddress, Protocol

SENDER_MAC = bytes.fromhex("020000000001")
"""Locally administered; no program looks at it."""

_ETHERTYPE = {4: 0x0800, 6: 0x86DD}
_HOPS = 64
_WINDOW = 65_535
_TCP_HEADER, _UDP_HEADER = 20, 8


class Kind(StrEnum):
    """What the packet is; the value is for people."""

    SYN = "SYN"
    ACK = "ACK"
    RST = "RST"
    DATAGRAM = "empty datagram"


_FLAGS = {Kind.SYN: 0x02, Kind.ACK: 0x10, Kind.RST: 0x04}


def frame_of(question: PacketQuestion, kind: Kind, to: bytes) -> bytes:
    """The frame with all checksums finished. ``to`` is the MAC of the interface where it comes in."""
    source, destination = question.client, question.vip.address
    if question.vip.protocol is Protocol.TCP:
        header = struct.pack(
            "!HHIIBBHHH",
            question.client_port,
            question.vip.port,
            1,
            0 if kind is Kind.SYN else 1,
            _TCP_HEADER // 4 << 4,
            _FLAGS[kind],
            _WINDOW,
            0,
            0,
        )
        place = 16
    else:
        header = struct.pack("!HHHH", question.client_port, question.vip.port, _UDP_HEADER, 0)
        place = 6
    pseudo = source.packed + destination.packed + struct.pack("!II", len(header), question.vip.protocol)
    checksum = _checksum(pseudo + header) or 0xFFFF  # zero would mean that there is none (RFC 768)
    header = header[:place] + struct.pack("!H", checksum) + header[place + 2 :]
    network = _network(source, destination, question.vip.protocol, len(header))
    return to + SENDER_MAC + struct.pack("!H", _ETHERTYPE[source.version]) + network + header


@dataclass(frozen=True, slots=True)
class Tuple:
    """Addresses and ports of a frame made by :func:`frame_of`, perhaps rewritten since."""

    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int

    @classmethod
    def of(cls, frame: bytes) -> Self:
        """Read them."""
        family = 4 if frame[12:14] == b"\x08\x00" else 6
        first, size, transport = (26, 4, 34) if family == 4 else (22, 16, 54)
        ports = struct.unpack_from("!HH", frame, transport)
        return cls(
            ipaddress.ip_address(frame[first : first + size]),
            ports[0],
            ipaddress.ip_address(frame[first + size : first + 2 * size]),
            ports[1],
        )


def _network(source: IPAddress, destination: IPAddress, protocol: Protocol, length: int) -> bytes:
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, length, protocol, _HOPS) + source.packed + destination.packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _HOPS, protocol, 0)
    whole = header + source.packed + destination.packed
    return whole[:10] + struct.pack("!H", _checksum(whole)) + whole[12:]


def _checksum(data: bytes) -> int:
    """RFC 1071 over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
