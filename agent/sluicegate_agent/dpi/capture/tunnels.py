"""What a tunnel carries: the way from an outer packet to the innermost one that can be read.

Decoded are VXLAN (RFC 7348), Geneve (RFC 8926), GRE (RFC 2784, 2890), PPTP's GRE (RFC 2637), IP in IP, 6in4 and the
like (RFC 2003, 4213) and GTP-U (3GPP TS 29.281). What does not decode to a whole IP header stays the outer packet: a
port number alone proves nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from sluicegate_agent.dpi.capture.headers import GRE, IPIP, IPV6, UDP, Headers, parse
from sluicegate_agent.dpi.capture.links import Place, by_ethertype, ethernet, locate

MAX_DEPTH = 4
_VXLAN_PORTS = frozenset({4789, 8472})
"""IANA's port, and the one that Linux took before there was one."""
_GENEVE_PORT = 6081
_GTP_PORT = 2152
_TUNNEL_PORTS = _VXLAN_PORTS | {_GENEVE_PORT, _GTP_PORT}
_TUNNEL_PROTOCOLS = frozenset({IPIP, IPV6, GRE})
_BRIDGED = 0x6558
_GTP_PDU = 0xFF
_PPP = 0x880B
_PPP_LINK = 9


class Innermost(NamedTuple):
    """The innermost packet. ``tunnel`` identifies the tunnel around it (VNI, key, TEID; 0: it has none of these).

    ``shared``: whether both directions of a tunnel carry the same identifier. GTP-U gives each direction its own.
    """

    headers: Headers
    tunnel: int
    shared: bool
    tunnelled: bool
    vlan: int


class _Inner(NamedTuple):
    at: int
    tunnel: int
    shared: bool


def innermost(link: int, data: bytes) -> Innermost | str:
    """The innermost IP packet of a frame, or why it cannot be read."""
    place = locate(link, data)
    if isinstance(place, str):
        return place
    at, vlan = place
    headers = parse(data, at)
    if isinstance(headers, str):
        return headers
    tunnel, shared, tunnelled = 0, True, False
    for _ in range(MAX_DEPTH):
        if headers.protocol not in _TUNNEL_PROTOCOLS and not (
            headers.protocol == UDP and headers.destination_port in _TUNNEL_PORTS
        ):
            break
        inner = None if headers.fragment else _inside(data, headers)
        if inner is None:
            break
        carried = parse(data, inner.at)
        if isinstance(carried, str) or (carried.truncated and not headers.truncated) or carried.end > headers.end:
            break
        headers, tunnel, shared, tunnelled = carried, inner.tunnel or tunnel, inner.shared, True
    return Innermost(headers, tunnel, shared, tunnelled, vlan)


def _inside(data: bytes, outer: Headers) -> _Inner | None:
    """Where the packet in this tunnel begins."""
    at = outer.payload
    if outer.protocol in {IPIP, IPV6}:
        return _Inner(at, 0, True)
    if outer.protocol == GRE:
        return _gre(data, at, outer.end)
    if outer.end < at + 8:
        return None
    if outer.destination_port == _GTP_PORT:
        return _gtp(data, at, outer.end)
    return (_geneve if outer.destination_port == _GENEVE_PORT else _vxlan)(data, at)


def _from_place(place: Place | str, tunnel: int) -> _Inner | None:
    return None if isinstance(place, str) else _Inner(place[0], tunnel, True)


def _vxlan(data: bytes, at: int) -> _Inner | None:
    if not data[at] & 0x08:
        return None
    return _from_place(ethernet(data, at + 8), int.from_bytes(data[at + 4 : at + 7]))


def _geneve(data: bytes, at: int) -> _Inner | None:
    if data[at] >> 6:
        return None
    kind = data[at + 2] << 8 | data[at + 3]
    begin = at + 8 + (data[at] & 0x3F) * 4
    place = ethernet(data, begin) if kind == _BRIDGED else by_ethertype(data, begin, kind)
    return _from_place(place, int.from_bytes(data[at + 4 : at + 7]))


def _gre(data: bytes, at: int, end: int) -> _Inner | None:
    if end < at + 4:
        return None
    flags, kind = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
    version = flags & 7
    if version > 1 or flags & 0x4000:  # source routing is no longer in use (RFC 2784)
        return None
    begin, key = at + 4, 0
    if flags & 0x8000:
        begin += 4
    if flags & 0x2000:
        # PPTP's key is a length and a call id, and each direction has a call id of its own.
        key = 0 if version else int.from_bytes(data[begin : begin + 4])
        begin += 4
    if flags & 0x1000:
        begin += 4
    if version:
        if kind != _PPP:
            return None
        begin += 4 if flags & 0x0080 else 0
        return _from_place(locate_ppp(data, begin), 0)
    place = ethernet(data, begin) if kind == _BRIDGED else by_ethertype(data, begin, kind)
    return _from_place(place, key)


def locate_ppp(data: bytes, at: int) -> Place | str:
    """Where the IP header begins in a PPP frame."""
    place = locate(_PPP_LINK, data[at : at + 8])
    return place if isinstance(place, str) else (place[0] + at, place[1])


def _gtp(data: bytes, at: int, end: int) -> _Inner | None:
    """GTP-U version 1, a user packet, with any extension headers."""
    if data[at] & 0xF0 != 0x30 or data[at + 1] != _GTP_PDU:
        return None
    begin = at + 8
    if data[at] & 0x07:
        begin += 4
        following = data[begin - 1] if data[at] & 0x04 and end >= begin else 0
        for _ in range(8):
            if not following:
                break
            length = data[begin] * 4 if end > begin else 0
            if not length or end < begin + length:
                return None
            following = data[begin + length - 1]
            begin += length
    if end <= begin or data[begin] >> 4 not in {4, 6}:
        return None
    return _Inner(begin, int.from_bytes(data[at + 4 : at + 8]), False)
