"""Frames for the parser: a sentence, the frame, and what must become of it. The VIP answers on TCP and UDP port 80."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6Unknown
from scapy.layers.l2 import ARP
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from bench import BACKENDS, CLIENT, SOURCE, VIP, Hook
from frames import finish_checksums, from_backend, from_client, ip_layer, locate, mac, reply, request
from sluicegate_agent.datapath.model import Protocol

BOTH = tuple(Hook)


@dataclass(frozen=True, slots=True)
class Case:
    """A frame of a sender and the reason under which it ends."""

    sentence: str
    frame: bytes
    reason: str
    device: str = "c0"
    hooks: tuple[Hook, ...] = BOTH

    def __str__(self) -> str:
        return self.sentence.replace(" ", "-")


def patch(frame: bytes, offset: int, *values: int) -> bytes:
    """The frame with bytes replaced."""
    return frame[:offset] + bytes(values) + frame[offset + len(values) :]


def to_vip(family: int, *layers: Packet, protocol: int | None = None) -> bytes:
    """A client's packet to the VIP with whatever behind the IP header; ``protocol`` if that does not tell."""
    ip = ip_layer(family, CLIENT[family], VIP[family])
    if protocol is not None:
        ip.setfieldval("proto" if family == 4 else "nh", protocol)
    return bytes(from_client(ip, *layers))


def tagged(frame: bytes, *kinds: int) -> bytes:
    """The frame with VLAN tags, outermost first."""
    tags = b"".join(struct.pack("!HH", kind, 100 + index) for index, kind in enumerate(kinds))
    return frame[:12] + tags + frame[12:]


def with_options(words: int, flags: str = "S") -> bytes:
    """An IPv4 request with that many words of IP options."""
    layers = ip_layer(4, CLIENT[4], VIP[4]), TCP(sport=40000, dport=80, flags=flags) / b"data"
    plain = bytes(from_client(*layers))
    total = len(plain) - 14 + words * 4
    out = plain[:14] + bytes([0x45 + words]) + plain[15:16] + struct.pack("!H", total) + plain[18:34]
    out += b"\x01" * (words * 4) + plain[34:]
    return finish_checksums(out, locate(out))


def with_extensions(*headers: tuple[int, bytes], protocol: Protocol = Protocol.TCP, missing: int = 0) -> bytes:
    """An IPv6 request behind extension headers (type, body from its second byte on); cut by ``missing`` bytes."""
    plain = request(6, protocol, payload=b"data")
    kinds = [kind for kind, _ in headers] + [int(protocol)]
    extra = b"".join(bytes([kinds[index + 1]]) + body for index, (_, body) in enumerate(headers))
    length = len(plain) - 54 + len(extra) - missing
    out = plain[:18] + struct.pack("!H", length) + bytes([kinds[0]]) + plain[21:54] + extra + plain[54:]
    return out[:-missing] if missing else finish_checksums(out, locate(out))


def options_header(units: int = 0) -> bytes:
    """Body of a hop-by-hop or destination options header full of Pad1; it is ``units`` of 8 bytes longer than one."""
    return bytes([units]) + bytes(6 + units * 8)


HOP, ROUTING, FRAGMENT, AH, DESTINATION = 0, 43, 44, 51, 60
ROUTED = bytes([2, 4, 0]) + bytes(4) + bytes(16)  # type 4 (RFC 8754) with one segment, none left
ROUTING_ON = bytes([2, 4, 1]) + bytes(4) + bytes(16)
ATOMIC = bytes([0, 0, 0, 1, 2, 3, 4])
FIRST_FRAGMENT = bytes([0, 0, 1, 1, 2, 3, 4])
LATER_FRAGMENT = bytes([0, 5, 0xA8, 1, 2, 3, 4])
AUTHENTICATED = bytes([4]) + bytes(22)  # RFC 4302 with an ICV of 12 bytes

TCP4, TCP6 = request(4), request(6)
UDP4, UDP6 = request(4, Protocol.UDP, payload=b"data"), request(6, Protocol.UDP, payload=b"data")
OTHER = {4: "198.51.100.9", 6: "2001:db8:ffff::9"}

FORWARDED = [
    Case("IPv4 with one word of options", with_options(1), "forwarded_request"),
    Case("IPv4 with ten words of options", with_options(10), "forwarded_request"),
    Case("IPv6 with hop-by-hop options", with_extensions((HOP, options_header())), "forwarded_request"),
    Case("IPv6 with destination options", with_extensions((DESTINATION, options_header(2))), "forwarded_request"),
    Case("IPv6 with a routing header that is used up", with_extensions((ROUTING, ROUTED)), "forwarded_request"),
    Case("IPv6 with an authentication header", with_extensions((AH, AUTHENTICATED)), "forwarded_request"),
    Case("an atomic fragment", with_extensions((FRAGMENT, ATOMIC)), "forwarded_request"),
    Case(
        "IPv6 with six extension headers",
        with_extensions(
            (HOP, options_header()),
            (DESTINATION, options_header(1)),
            (ROUTING, ROUTED),
            (FRAGMENT, ATOMIC),
            (AH, AUTHENTICATED),
            (DESTINATION, options_header()),
            protocol=Protocol.UDP,
        ),
        "forwarded_request",
    ),
    Case(
        "IPv6 with the longest headers that are read",
        with_extensions((HOP, options_header(24))),
        "forwarded_request",
    ),
    Case("one VLAN tag", tagged(TCP4, 0x8100), "forwarded_request"),
    Case("one VLAN tag on IPv6", tagged(UDP6, 0x8100), "forwarded_request"),
    Case("a service tag", tagged(UDP4, 0x88A8), "forwarded_request"),
    Case("two VLAN tags", tagged(TCP4, 0x88A8, 0x8100), "forwarded_request"),
    Case("two VLAN tags on IPv6", tagged(TCP6, 0x8100, 0x8100), "forwarded_request"),
    Case(
        "two VLAN tags before extension headers",
        tagged(with_extensions((HOP, options_header())), 0x88A8, 0x8100),
        "forwarded_request",
    ),
    Case("one VLAN tag before IPv4 options", tagged(with_options(3), 0x8100), "forwarded_request"),
    Case("Ethernet padding behind IPv4", request(4) + bytes(6), "forwarded_request"),
    Case("Ethernet padding behind IPv6", request(6) + b"\xaa" * 20, "forwarded_request"),
    Case(
        "TCP options",
        bytes(
            from_client(
                IP(src=CLIENT[4], dst=VIP[4]), TCP(dport=80, sport=40000, options=[("MSS", 1460), ("SAckOK", b"")])
            )
        ),
        "forwarded_request",
    ),
    Case("no data behind UDP", request(4, Protocol.UDP), "forwarded_request"),
    Case("congestion experienced", finish_checksums(patch(TCP4, 15, 3), locate(TCP4)), "forwarded_request"),
]

NOT_IP = [
    Case("an ARP request to the node alone", bytes(from_client(ARP())), "not_ip"),
    Case("an unknown ethertype", patch(TCP4, 12, 0x88, 0xB5), "not_ip"),
    Case("a length in place of the ethertype", patch(TCP4, 12, 0, 46), "not_ip"),
    Case("three VLAN tags", tagged(TCP4, 0x88A8, 0x8100, 0x8100), "not_ip"),
]

OTHER_HOST = [
    Case("a broadcast frame", mac("ff:ff:ff:ff:ff:ff") + TCP4[6:], "other_host"),
    Case("a multicast frame", mac("33:33:00:00:00:01") + TCP6[6:], "other_host"),
    Case("the frame of another host", mac("02:00:00:00:99:99") + TCP4[6:], "other_host", hooks=(Hook.TC,)),
    Case("the frame of another host, IPv6", mac("02:00:00:00:99:99") + UDP6[6:], "other_host", hooks=(Hook.TC,)),
]

MALFORMED = [
    Case("IPv4 with a header of four words", patch(TCP4, 14, 0x44), "malformed"),
    Case("IPv4 with another version", patch(TCP4, 14, 0x65), "malformed"),
    Case("IPv4 shorter than its header", patch(TCP4, 16, 0, 19), "malformed"),
    Case("IPv4 longer than its frame", patch(TCP4, 16, 0, len(TCP4) - 13), "malformed"),
    Case("IPv4 with options beyond its end", patch(TCP4, 14, 0x4F), "malformed"),
    Case("IPv4 that ends within the TCP header", patch(TCP4, 16, 0, 39), "malformed"),
    Case("IPv4 that ends within the UDP header", patch(UDP4, 16, 0, 27), "malformed"),
    Case("TCP with a header of four words", patch(TCP4, 14 + 20 + 12, 0x40), "malformed"),
    Case("TCP with a header beyond its end", patch(TCP4, 14 + 20 + 12, 0x60), "malformed"),
    Case("TCP over IPv6 with a header beyond its end", patch(TCP6, 14 + 40 + 12, 0xF0), "malformed"),
    Case("UDP with a length of seven", patch(UDP4, 14 + 20 + 4, 0, 7), "malformed"),
    Case("UDP longer than its packet", patch(UDP4, 14 + 20 + 4, 0, 13), "malformed"),
    Case("UDP over IPv6 with a length of zero", patch(UDP6, 14 + 40 + 4, 0, 0), "malformed"),
    Case("UDP over IPv6 longer than its packet", patch(UDP6, 14 + 40 + 4, 1, 0), "malformed"),
    Case("IPv6 with another version", patch(TCP6, 14, 0x45), "malformed"),
    Case("IPv6 without payload", patch(TCP6, 18, 0, 0), "malformed"),
    Case("IPv6 longer than its frame", patch(TCP6, 18, 0, 21), "malformed"),
    Case("IPv6 that ends within the TCP header", patch(TCP6, 18, 0, 19), "malformed"),
    Case(
        "an extension header that goes beyond the end",
        with_extensions((DESTINATION, options_header(9)), missing=60),
        "malformed",
    ),
    Case(
        "an extension header cut within its fixed part",
        with_extensions((HOP, options_header()), missing=28),
        "malformed",
    ),
]

EXTENSION = [
    Case("a routing header with a segment left", with_extensions((ROUTING, ROUTING_ON)), "extension"),
    Case("seven extension headers", with_extensions(*[(DESTINATION, options_header())] * 7), "extension"),
    Case("extension headers that are too long", with_extensions((HOP, options_header(25))), "extension"),
    Case("one extension header that is too long", with_extensions((DESTINATION, options_header(200))), "extension"),
    Case(
        "three extension headers of which two are too long",
        with_extensions(*[(DESTINATION, options_header(14))] * 3),
        "extension",
    ),
]

LATER_FRAGMENTS = [
    Case("a later fragment to a VIP", patch(UDP4, 20, 0x20, 185), "frag_first_missing"),
    Case("the last fragment to a VIP", patch(UDP4, 20, 0, 185), "frag_first_missing"),
    Case("a later fragment to a VIP, IPv6", with_extensions((FRAGMENT, LATER_FRAGMENT)), "frag_first_missing"),
]

FIRST_FRAGMENTS = [
    Case("the first fragment to a VIP", patch(UDP4, 20, 0x20, 0), "forwarded_request"),
    Case("the first fragment to a VIP, IPv6", with_extensions((FRAGMENT, FIRST_FRAGMENT)), "forwarded_request"),
    Case(
        "a first fragment behind options, IPv6",
        with_extensions((HOP, options_header()), (FRAGMENT, FIRST_FRAGMENT)),
        "forwarded_request",
    ),
]

NOT_BALANCED = [
    Case("a request for the time to a VIP", to_vip(4, ICMP(type=13)), "other_protocol"),
    Case("an unknown ICMP message to a VIP, IPv6", to_vip(6, ICMPv6Unknown(type=200)), "other_protocol"),
    Case("SCTP to a VIP", to_vip(4, SCTP(dport=80)), "other_protocol"),
    Case("ESP to a VIP", to_vip(6, Raw(bytes(40)), protocol=50), "other_protocol"),
    Case("nothing behind the IPv6 header", to_vip(6, Raw(bytes(4)), protocol=59), "other_protocol"),
    Case("another port of a VIP", to_vip(4, TCP(dport=81)), "other_port"),
    Case("another port of a VIP, IPv6", to_vip(6, UDP(dport=81)), "other_port"),
    Case("traffic of strangers", request(4, vip=OTHER[4]), "not_ours"),
    Case("traffic of strangers, IPv6", request(6, vip=OTHER[6]), "not_ours"),
    Case("a client's traffic to a backend", request(4, vip=BACKENDS[4][0]), "not_ours"),
    Case("a backend's ping", bytes(from_backend(ip_layer(4, BACKENDS[4][0], SOURCE[4]), ICMP())), "not_ours", "b0"),
    Case("a backend's fragment", patch(reply(4, Protocol.UDP, to_port=2000), 20, 0x20, 0), "no_translation", "b0"),
    Case("a fragment of strangers", patch(request(4, vip=OTHER[4]), 20, 0x20, 0), "not_ours"),
    Case("a malformed segment of a backend", patch(reply(4, to_port=2000), 46, 0x40), "no_translation", "b0"),
    Case("a backend's own connection", reply(6, to_port=2000, to=OTHER[6]), "no_translation", "b0"),
]

PASSED = [*NOT_IP, *OTHER_HOST, *MALFORMED, *EXTENSION, *NOT_BALANCED]
