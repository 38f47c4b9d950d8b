"""From the IP header of a packet to its payload, as the kernel's parser does it (bpf/parse.h).

It honours IHL, IPv6 extension headers and atomic fragments. Unlike the kernel it accepts packets that the capture cut
off, as long as the headers are there: they carry `Headers.truncated`.
"""

from __future__ import annotations

from typing import NamedTuple

ICMP, IPIP, TCP, UDP, IPV6, GRE, ICMPV6, SCTP = 1, 4, 6, 17, 41, 47, 58, 132

CUT_IP = "cut off inside the IP header"
CUT_TRANSPORT = "cut off inside the transport header"
BAD_IP = "malformed IP header"
BAD_TRANSPORT = "malformed transport header"
EXTENSIONS = "more IPv6 extension headers than are followed"

_MAX_EXTENSIONS = 6
_HOP, _ROUTING, _FRAGMENT, _AH, _OPTIONS = 0, 43, 44, 51, 60
_EXTENSIONS = frozenset({_HOP, _ROUTING, _FRAGMENT, _AH, _OPTIONS})

_FIXED = {TCP: 20, UDP: 8, SCTP: 12}
"""Bytes of a transport header without its options; these protocols have ports."""
_Network = tuple[int, bytes, bytes, int, int, int, bool]
"""Family, source, destination, protocol, where the packet begins and ends, and whether the capture cut it."""


class Headers(NamedTuple):
    """One IP packet. Offsets count from the beginning of the frame; ``end`` excludes what the link padded.

    Of a fragment nothing behind the IP header is looked at: ``transport`` and ``payload`` are its ``end``.
    """

    family: int
    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int
    start: int
    transport: int
    payload: int
    end: int
    tcp_flags: int
    fragment: bool
    truncated: bool


def parse(data: bytes, at: int) -> Headers | str:
    """The IP packet that begins at ``at``, or why it cannot be read."""
    if len(data) <= at:
        return CUT_IP
    version = data[at] >> 4
    if version == 4:
        return _parse_ipv4(data, at)
    return _parse_ipv6(data, at) if version == 6 else BAD_IP


def _parse_ipv4(data: bytes, at: int) -> Headers | str:
    captured = len(data)
    if captured < at + 20:
        return CUT_IP
    header = (data[at] & 15) * 4
    # A length of 0 is left by captures of packets that the network card was to segment.
    total = (data[at + 2] << 8 | data[at + 3]) or captured - at
    if header < 20 or total < header:
        return BAD_IP
    if captured < at + header:
        return CUT_IP
    end = at + total
    truncated = end > captured
    if truncated:
        end = captured
    source, destination, protocol = data[at + 12 : at + 16], data[at + 16 : at + 20], data[at + 9]
    if (data[at + 6] << 8 | data[at + 7]) & 0x3FFF:
        return Headers(4, source, destination, protocol, 0, 0, at, end, end, end, 0, True, truncated)
    return _transport(data, (4, source, destination, protocol, at, end, truncated), at + header)


def _parse_ipv6(data: bytes, at: int) -> Headers | str:
    captured = len(data)
    if captured < at + 40:
        return CUT_IP
    payload = (data[at + 4] << 8 | data[at + 5]) or captured - at - 40
    end = at + 40 + payload
    truncated = end > captured
    if truncated:
        end = captured
    source, destination, following = data[at + 8 : at + 24], data[at + 24 : at + 40], data[at + 6]
    offset = at + 40
    for _ in range(_MAX_EXTENSIONS):
        if following not in _EXTENSIONS:
            break
        if end < offset + 8:
            return CUT_IP if truncated else BAD_IP
        kind, following = following, data[offset]
        if kind == _FRAGMENT:
            if (data[offset + 2] << 8 | data[offset + 3]) & 0xFFF9:
                return Headers(6, source, destination, following, 0, 0, at, end, end, end, 0, True, truncated)
            offset += 8
        elif kind == _AH:
            offset += (data[offset + 1] + 2) * 4
        else:
            offset += (data[offset + 1] + 1) * 8
    if following in _EXTENSIONS:
        return EXTENSIONS
    if offset > end:
        return CUT_IP if truncated else BAD_IP
    return _transport(data, (6, source, destination, following, at, end, truncated), offset)


def _transport(data: bytes, network: _Network, offset: int) -> Headers | str:
    family, source, destination, protocol, at, end, cut = network
    remaining = end - offset
    payload = offset + _FIXED.get(protocol, 0)
    if payload > end:
        return CUT_TRANSPORT if cut else BAD_TRANSPORT
    flags = 0
    if protocol == TCP:
        header = (data[offset + 12] >> 4) * 4
        if header < 20 or (header > remaining and not cut):
            return BAD_TRANSPORT
        payload, flags = min(offset + header, end), data[offset + 13]
    elif protocol == UDP:
        length = (data[offset + 4] << 8 | data[offset + 5]) or remaining
        if length < 8 or (length > remaining and not cut):
            return BAD_TRANSPORT
        end = min(end, offset + length)
    if protocol not in _FIXED:
        source_port = destination_port = 0
    else:
        source_port = data[offset] << 8 | data[offset + 1]
        destination_port = data[offset + 2] << 8 | data[offset + 3]
    ports = (source_port, destination_port)
    return Headers(family, source, destination, protocol, *ports, at, offset, payload, end, flags, False, cut)
