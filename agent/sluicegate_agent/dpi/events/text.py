"""Pieces of lines that many events share, as bytes of JSON and kept: formatting them is half of an event's cost."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop

_KEPT = 16_384
_PROTOCOLS = {1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 17: "UDP", 41: "IPv6", 47: "GRE", 50: "ESP", 51: "AH"}
_PROTOCOLS |= {58: "IPv6-ICMP", 88: "EIGRP", 89: "OSPF", 103: "PIM", 112: "VRRP", 132: "SCTP"}
"""Names as IANA and Suricata write them."""


def quoted(text: str) -> bytes:
    """A JSON string. What is not valid text has been replaced before."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")


@lru_cache(_KEPT)
def address(packed: bytes) -> bytes:
    """An address of 4 or 16 bytes."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed).encode()


@lru_cache(256)
def protocol_name(number: int) -> bytes:
    """The name of an IP protocol, or its number as text: "TCP", "253"."""
    return _PROTOCOLS.get(number, str(number)).encode()


def timestamp(time_ns: int) -> bytes:
    """Time since 1970 as Suricata writes it: 2026-01-31T10:00:00.000123+0000. Years beyond 9999 become 9999."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return b"%b.%06d+0000" % (_second(seconds), rest // 1000)


_LAST_SECOND = 253_402_300_799


@lru_cache(_KEPT)
def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(min(seconds, _LAST_SECOND))).encode()
