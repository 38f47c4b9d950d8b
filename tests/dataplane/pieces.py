"""Datagrams in fragments, and ICMP messages, from scratch."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from scapy.layers.inet import defragment
from scapy.layers.inet6 import defragment6
from scapy.layers.l2 import Ether

from frames import finish_checksums, locate, ones_sum

MORE = 0x2000
ICMP, ICMPV6, FRAGMENT_HEADER = 1, 58, 44


def with_header_checksum(header: bytes) -> bytes:
    """An IPv4 header with its checksum computed anew."""
    bare = header[:10] + bytes(2) + header[12:]
    return bare[:10] + struct.pack("!H", ones_sum(bare) ^ 0xFFFF) + bare[12:]


def cut(frame: bytes, size: int, identification: int) -> list[bytes]:
    """The fragments of a whole frame; ``size``, a multiple of 8, is what each carries."""
    place = locate(frame)
    link, header = frame[: place.network], frame[place.network : place.transport]
    payload = frame[place.transport : place.end]
    out = []
    for offset in range(0, len(payload), size):
        part, more = payload[offset : offset + size], offset + size < len(payload)
        if place.family == 4:
            words = struct.pack("!HHH", len(header) + len(part), identification, (MORE if more else 0) | offset // 8)
            out.append(link + with_header_checksum(header[:2] + words + header[8:]) + part)
        else:
            own = struct.pack("!BBHI", place.protocol, 0, offset | more, identification)
            length = struct.pack("!H", len(header) - 40 + len(own) + len(part))
            assert len(header) == 40
            out.append(link + header[:4] + length + bytes([FRAGMENT_HEADER]) + header[7:40] + own + part)
    return out


def identification(frame: bytes) -> int:
    """Of a fragment without tags."""
    if frame[12:14] == b"\x08\x00":
        return int.from_bytes(frame[18:20])
    return int.from_bytes(frame[58:62])


def whole(frames: list[bytes]) -> bytes:
    """The one packet that a receiver makes of these fragments, all of which it must need."""
    packets = [Ether(frame).payload for frame in frames]
    if frames[0][12:14] == b"\x08\x00":
        done = defragment(packets)
        assert len(done) == 1
        return bytes(done[0])
    return bytes(defragment6(packets))


def icmp(
    family: int, source: str, destination: str, head: tuple[int, int], rest: bytes, body: bytes, hops: int = 64
) -> bytes:
    """An ICMP packet from the IP header on: ``head`` is type and code, ``rest`` the four bytes after the checksum."""
    src, dst = ip_address(source).packed, ip_address(destination).packed
    message = struct.pack("!BBH", *head, 0) + rest + body
    if family == 4:
        value = ones_sum(message) ^ 0xFFFF
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, hops, ICMP, 0) + src + dst
        return with_header_checksum(header) + message[:2] + struct.pack("!H", value) + message[4:]
    value = ones_sum(src + dst + struct.pack("!II", len(message), ICMPV6), message) ^ 0xFFFF
    header = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, hops) + src + dst
    return header + message[:2] + struct.pack("!H", value) + message[4:]


def link(source: str, destination: str, family: int) -> bytes:
    """An Ethernet header."""
    macs = bytes.fromhex((destination + source).replace(":", ""))
    return macs + (b"\x08\x00" if family == 4 else b"\x86\xdd")


def translated(packet: bytes, source: str, destination: str, sport: int, dport: int) -> bytes:
    """A whole IP packet with other addresses and ports and the same hops; checksums from scratch."""
    family = packet[0] >> 4
    frame = bytearray(link("00:" * 5 + "00", "00:" * 5 + "00", family) + packet)
    place = locate(bytes(frame))
    at = place.network + (12 if family == 4 else 8)
    addresses = ip_address(source).packed + ip_address(destination).packed
    frame[at : at + len(addresses)] = addresses
    frame[place.transport : place.transport + 4] = struct.pack("!HH", sport, dport)
    return finish_checksums(bytes(frame), place)[14:]
