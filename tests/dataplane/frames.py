"""Frames for the bench, and what must become of them, computed from scratch rather than as the programs do it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from bench import B0_MAC, BACKEND_MAC, BACKEND_PORT, BACKENDS, C0_MAC, CLIENT, CLIENT_MAC, SOURCE, VIP, VIP_PORT
from sluicegate_agent.datapath.model import Protocol

TAGS = {0x8100, 0x88A8}
EXTENSIONS = {0, 43, 44, 51, 60}
AUTHENTICATION = 51
FRAGMENT = 44
CHECKSUM = {6: 16, 17: 6}


def ip_layer(family: int, source: str, destination: str, hops: int = 64) -> Packet:
    """An IP header of either family."""
    if family == 4:
        return IP(src=source, dst=destination, ttl=hops, id=0x1234)
    return IPv6(src=source, dst=destination, hlim=hops, fl=0x12345, tc=0x20)


def transport(protocol: Protocol, flags: str, source: int, destination: int) -> Packet:
    """A TCP or UDP header. ``flags`` are TCP's, as scapy writes them."""
    if protocol is Protocol.TCP:
        return TCP(sport=source, dport=destination, flags=flags, seq=1000, ack=2000 if "A" in flags else 0)
    return UDP(sport=source, dport=destination)


def from_client(*layers: Packet) -> Packet:
    """A frame that a client's network sends to the node."""
    return _frame(CLIENT_MAC, C0_MAC, layers)


def from_backend(*layers: Packet) -> Packet:
    """A frame that a backend's network sends to the node."""
    return _frame(BACKEND_MAC, B0_MAC, layers)


def request(
    family: int,
    protocol: Protocol = Protocol.TCP,
    flags: str = "S",
    *,
    port: int = 40000,
    payload: bytes = b"",
    hops: int = 64,
    client: str | None = None,
    vip: str | None = None,
) -> bytes:
    """A frame of a client to the VIP."""
    ip = ip_layer(family, client or CLIENT[family], vip or VIP[family], hops)
    return bytes(from_client(ip, transport(protocol, flags, port, VIP_PORT) / payload))


def reply(
    family: int,
    protocol: Protocol = Protocol.TCP,
    flags: str = "SA",
    *,
    to_port: int,
    backend: int = 0,
    payload: bytes = b"",
    hops: int = 64,
    to: str | None = None,
) -> bytes:
    """A frame of a backend to the address and port that it saw."""
    ip = ip_layer(family, BACKENDS[family][backend], to or SOURCE[family], hops)
    return bytes(from_backend(ip, transport(protocol, flags, BACKEND_PORT, to_port) / payload))


def with_client_port(frame: bytes, port: int) -> bytes:
    """The same frame from another port of the client, its checksum left alone: for tests of many flows."""
    at = locate(frame).transport
    return frame[:at] + struct.pack("!H", port) + frame[at + 2 :]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the headers of a packet begin in its frame.

    ``identification`` is where a fragment has its own, 0 in whole packets; a ``later`` fragment has data in place of
    the transport header.
    """

    family: int
    protocol: int
    network: int
    transport: int
    end: int
    identification: int = 0
    later: bool = False

    @property
    def checksum(self) -> int:
        """Of a TCP or UDP header."""
        return self.transport + CHECKSUM[self.protocol]


def locate(frame: bytes) -> Place:
    """Find the headers. Trusts lengths; raises ValueError on what is no IP packet."""
    offset = 12
    while (kind := int.from_bytes(frame[offset : offset + 2])) in TAGS:
        offset += 4
    network = offset + 2
    identification, later = 0, False
    if kind == 0x0800:
        protocol, header = frame[network + 9], (frame[network] & 15) * 4
        end = network + int.from_bytes(frame[network + 2 : network + 4])
        fragment = int.from_bytes(frame[network + 6 : network + 8])
        identification, later = (network + 4 if fragment & 0x3FFF else 0), bool(fragment & 0x1FFF)
    elif kind == 0x86DD:
        protocol, header = frame[network + 6], 40
        end = network + 40 + int.from_bytes(frame[network + 4 : network + 6])
        while protocol in EXTENSIONS and not later:
            fragment = int.from_bytes(frame[network + header + 2 : network + header + 4]) if protocol == FRAGMENT else 0
            if fragment & 0xFFF9:
                identification, later = network + header + 4, bool(fragment & 0xFFF8)
            following, units = frame[network + header], frame[network + header + 1]
            if protocol == AUTHENTICATION:
                header += (units + 2) * 4
            else:
                header += 8 if protocol == FRAGMENT else (units + 1) * 8
            protocol = following
    else:
        raise ValueError(f"ethertype {kind:#x}")
    return Place(4 if kind == 0x0800 else 6, protocol, network, network + header, end, identification, later)


def ones_sum(*parts: bytes) -> int:
    """The one's complement sum of RFC 1071 over 16-bit words."""
    total = 0
    for part in parts:
        padded = part + bytes(len(part) % 2)
        total += sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(frame: bytes, place: Place) -> bytes:
    """What a transport checksum covers beside its own segment."""
    first, last = (12, 20) if place.family == 4 else (8, 40)
    addresses = frame[place.network + first : place.network + last]
    return addresses + struct.pack("!II", place.end - place.transport, place.protocol)


def finish_checksums(frame: bytes | bytearray, place: Place) -> bytes:
    """Compute all checksums anew, as a sender does."""
    out = bytearray(frame)
    if place.family == 4:
        header = slice(place.network, place.network + (out[place.network] & 15) * 4)
        out[place.network + 10 : place.network + 12] = bytes(2)
        out[place.network + 10 : place.network + 12] = struct.pack("!H", ones_sum(out[header]) ^ 0xFFFF)
    out[place.checksum : place.checksum + 2] = bytes(2)
    value = ones_sum(pseudo_header(bytes(out), place), bytes(out[place.transport : place.end])) ^ 0xFFFF
    if place.protocol == Protocol.UDP and not value:
        value = 0xFFFF
    out[place.checksum : place.checksum + 2] = struct.pack("!H", value)
    return bytes(out)


def partial_checksum(frame: bytes) -> bytes:
    """As a sender leaves it that trusts its network card: the folded sum of the pseudo header alone."""
    place = locate(frame)
    value = struct.pack("!H", ones_sum(pseudo_header(frame, place)))
    return frame[: place.checksum] + value + frame[place.checksum + 2 :]


def without_checksum(frame: bytes) -> bytes:
    """A UDP frame whose sender made no checksum (RFC 768)."""
    place = locate(frame)
    return frame[: place.checksum] + bytes(2) + frame[place.checksum + 2 :]


def rewritten(
    frame: bytes, *, source: str, destination: str, sport: int, dport: int, eth: tuple[str, str] | None
) -> bytes:
    """What the frame must be after translation: new addresses, one hop less, no tags, checksums from scratch.

    ``eth`` is (source, destination) MAC; None leaves them, as tc does where the kernel resolves the neighbour.
    """
    place = locate(frame)
    out = bytearray(frame)
    network = place.network
    if place.family == 4:
        out[network + 8] -= 1
        out[network + 12 : network + 20] = ip_address(source).packed + ip_address(destination).packed
    else:
        out[network + 7] -= 1
        out[network + 8 : network + 40] = ip_address(source).packed + ip_address(destination).packed
    out[place.transport : place.transport + 4] = struct.pack("!HH", sport, dport)
    no_checksum = place.protocol == Protocol.UDP and frame[place.checksum : place.checksum + 2] == bytes(2)
    out = bytearray(finish_checksums(out, place))
    if no_checksum:
        out[place.checksum : place.checksum + 2] = bytes(2)
    macs = bytes(out[:12]) if eth is None else mac(eth[1]) + mac(eth[0])
    return macs + bytes(out[network - 2 :])


def without_rewritten_fields(frame: bytes) -> bytes:
    """The packet from its ethertype on, with zeros wherever translation may write."""
    place = locate(frame)
    out = bytearray(frame)
    network, transport = place.network, place.transport
    if place.family == 4:
        out[network + 8] = 0
        out[network + 10 : network + 20] = bytes(10)
    else:
        out[network + 7] = 0
        out[network + 8 : network + 40] = bytes(32)
    if place.identification:
        width = 2 if place.family == 4 else 4
        out[place.identification : place.identification + width] = bytes(width)
    if not place.later:
        out[transport : transport + 4] = bytes(4)
        out[place.checksum : place.checksum + 2] = bytes(2)
    return bytes(out[network - 2 :])


def mac(text: str) -> bytes:
    """Six bytes."""
    return bytes.fromhex(text.replace(":", ""))


def _frame(source: str, destination: str, layers: Iterable[Packet]) -> Packet:
    frame: Packet = Ether(src=source, dst=destination)
    for layer in layers:
        frame /= layer
    return frame
