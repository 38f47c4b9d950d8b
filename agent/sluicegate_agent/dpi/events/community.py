"""Community ID, version 1: one name for a flow in every tool (https://github.com/corelight/community-id-spec)."""

from __future__ import annotations

import struct
from binascii import b2a_base64
from hashlib import sha1

_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132
_WITH_PORTS = frozenset({_ICMP, _TCP, _UDP, _ICMPV6, _SCTP})
_ANSWERS = {
    _ICMP: {0: 8, 8: 0, 9: 10, 10: 9, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17},
    _ICMPV6: {128: 129, 129: 128, 130: 131, 131: 130, 133: 134, 134: 133, 135: 136, 136: 135, 139: 140, 140: 139}
    | {144: 145, 145: 144},
}
"""Types of ICMP messages that answer each other. Of all others the type and the code count, in the order sent."""
_SEED = bytes(2)
_PORTS = struct.Struct(">BBHH").pack


def community_id(protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> str:
    """The id of a flow between two addresses with their ports. ICMP: type and code stand for the ports."""
    ordered = True
    if protocol in _ANSWERS:
        answer = _ANSWERS[protocol].get(source[1])
        if answer is None:
            ordered = False
        else:
            destination = (destination[0], answer)
    if ordered and destination < source:
        source, destination = destination, source
    packed = _SEED + source[0] + destination[0]
    if protocol in _WITH_PORTS:
        packed += _PORTS(protocol, 0, source[1], destination[1])
    else:
        packed += bytes((protocol, 0))
    return "1:" + b2a_base64(sha1(packed, usedforsecurity=False).digest(), newline=False).decode()
