"""Link layers: where the IP header of a frame begins.

Numbers of link types: https://www.tcpdump.org/linktypes.html; EtherTypes and PPP protocols: IANA.
"""

from __future__ import annotations

from collections.abc import Callable

Place = tuple[int, int]
"""Offset of the IP header, and the outermost VLAN id (0: none)."""

NOT_IP = "not IP"
CUT_LINK = "cut off before the IP header"

_IPV4, _IPV6, _VLAN, _QINQ, _OLD_QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8, 0x9100
_PPPOE, _MPLS, _MPLS_MULTICAST = 0x8864, 0x8847, 0x8848
_PPP_IPV4, _PPP_IPV6, _PPP_MPLS = 0x0021, 0x0057, 0x0281
_FAMILIES = frozenset({2, 10, 23, 24, 28, 30})
"""AF_INET, and AF_INET6 of Linux, Windows, NetBSD, FreeBSD and macOS: the file does not say who wrote it."""
_MAX_TAGS = 4
_PER_PACKET = 192


def locate(link: int, data: bytes) -> Place | str:
    """Where the IP header begins in a frame of this link type, or why there is none."""
    if link == 1:
        return ethernet(data, 0)
    reader = _LINKS.get(link)
    return reader(data) if reader is not None else f"link type {link} is not supported"


def ethernet(data: bytes, at: int) -> Place | str:
    """The same for an Ethernet frame that begins at ``at``, with any VLAN tags."""
    if len(data) < at + 14:
        return CUT_LINK
    return by_ethertype(data, at + 14, data[at + 12] << 8 | data[at + 13])


def by_ethertype(data: bytes, at: int, kind: int) -> Place | str:
    """The same for what follows an EtherType."""
    if kind in {_IPV4, _IPV6}:
        return at, 0
    vlan = 0
    for _ in range(_MAX_TAGS):
        if kind not in {_VLAN, _QINQ, _OLD_QINQ}:
            break
        if len(data) < at + 4:
            return CUT_LINK
        vlan = vlan or (data[at] << 8 | data[at + 1]) & 0x0FFF
        kind = data[at + 2] << 8 | data[at + 3]
        at += 4
    if kind in {_IPV4, _IPV6}:
        return at, vlan
    if kind == _PPPOE:
        found = _ppp(data, at + 6)
        return found if isinstance(found, str) else (found[0], vlan)
    if kind in {_MPLS, _MPLS_MULTICAST}:
        return _mpls(data, at, vlan)
    return NOT_IP


def _mpls(data: bytes, at: int, vlan: int) -> Place | str:
    """Labels say nothing of what they carry: it is IP when the first four bits say so (RFC 4928)."""
    while len(data) >= at + 4:
        last = data[at + 2] & 1
        at += 4
        if last:
            return (at, vlan) if len(data) > at and data[at] >> 4 in {4, 6} else NOT_IP
    return CUT_LINK


def _ppp(data: bytes, at: int) -> Place | str:
    """PPP with or without the HDLC address and control bytes, protocol of one byte or two (RFC 1661)."""
    if data[at : at + 2] == b"\xff\x03":
        at += 2
    if len(data) < at + 2:
        return CUT_LINK
    if data[at] & 1:
        kind, at = data[at], at + 1
    else:
        kind, at = data[at] << 8 | data[at + 1], at + 2
    if kind in {_PPP_IPV4, _PPP_IPV6}:
        return at, 0
    return _mpls(data, at, 0) if kind == _PPP_MPLS else NOT_IP


def _raw(data: bytes) -> Place | str:
    if not data:
        return CUT_LINK
    return (0, 0) if data[0] >> 4 in {4, 6} else NOT_IP


def _loopback(data: bytes) -> Place | str:
    """Four bytes of address family, in the byte order of the machine that wrote it."""
    if len(data) < 4:
        return CUT_LINK
    family = int.from_bytes(data[:4], "little")
    if family > 0xFFFF:
        family = int.from_bytes(data[:4], "big")
    return (4, 0) if family in _FAMILIES else NOT_IP


def _cooked(data: bytes) -> Place | str:
    if len(data) < 16:
        return CUT_LINK
    return by_ethertype(data, 16, data[14] << 8 | data[15])


def _cooked2(data: bytes) -> Place | str:
    if len(data) < 20:
        return CUT_LINK
    return by_ethertype(data, 20, data[0] << 8 | data[1])


def _ppp_with_direction(data: bytes) -> Place | str:
    return _ppp(data, 1)


def _pppoe(data: bytes) -> Place | str:
    return _ppp(data, 6)


def _ppp_plain(data: bytes) -> Place | str:
    return _ppp(data, 0)


def _hdlc(data: bytes) -> Place | str:
    if len(data) < 4:
        return CUT_LINK
    return by_ethertype(data, 4, data[2] << 8 | data[3])


def _per_packet(data: bytes) -> Place | str:
    """A header that names the link type of what follows (PPI)."""
    if len(data) < 8:
        return CUT_LINK
    begin, link = int.from_bytes(data[2:4], "little"), int.from_bytes(data[4:8], "little")
    if begin < 8 or link == _PER_PACKET:
        return NOT_IP
    place = locate(link, data[begin:])
    return place if isinstance(place, str) else (place[0] + begin, place[1])


_LINKS: dict[int, Callable[[bytes], Place | str]] = {
    0: _loopback,  # NULL
    9: _ppp_plain,
    12: _raw,  # DLT_RAW of most systems, written by old tools
    14: _raw,  # DLT_RAW of OpenBSD
    50: _ppp_plain,  # PPP in HDLC-like framing
    51: _pppoe,
    101: _raw,
    104: _hdlc,  # Cisco HDLC
    108: _loopback,  # LOOP
    113: _cooked,
    _PER_PACKET: _per_packet,
    204: _ppp_with_direction,
    228: _raw,
    229: _raw,
    276: _cooked2,
}
