"""From frames to the innermost IP packet: link types, tunnels, fragments, and frames that cannot be read."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTPHeader, GTPPDUSessionContainer
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP, IPOption_Timestamp
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from sluicegate_agent.dpi.capture.tunnels import Innermost, innermost

INNER = IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=1234, dport=80) / b"payload"
INNER_V6 = IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=5, dport=53) / b"query"
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
OUTER = Ether(**MACS) / IP(src="192.0.2.1", dst="192.0.2.2")


def found(frame: Packet | bytes, link: int = 1) -> Innermost:
    """The innermost packet of a frame that can be read."""
    answer = innermost(link, bytes(frame))
    assert isinstance(answer, Innermost), answer
    return answer


def is_inner(frame: Packet | bytes, link: int = 1) -> Innermost:
    """The same, which must be INNER, to its last byte."""
    data = bytes(frame)
    answer = found(data, link)
    headers = answer.headers
    assert data[headers.start : headers.end] == bytes(INNER)
    assert data[headers.payload : headers.end] == b"payload"
    assert (headers.source_port, headers.destination_port, headers.protocol) == (1234, 80, 6)
    assert headers.transport == headers.start + 20
    return answer


COOKED = struct.pack(">HHH8sH", 0, 1, 6, bytes(8), 0x0800)
COOKED2 = struct.pack(">HHIHBB8s", 0x0800, 0, 3, 1, 0, 6, bytes(8))
LINKS = {
    "Ethernet": (1, bytes(Ether(**MACS) / INNER)),
    "Ethernet with padding": (1, bytes(Ether(**MACS) / INNER) + bytes(12)),
    "null, little endian": (0, struct.pack("<I", 2) + bytes(INNER)),
    "null, big endian": (0, struct.pack(">I", 2) + bytes(INNER)),
    "loop": (108, struct.pack(">I", 2) + bytes(INNER)),
    "raw": (101, bytes(INNER)),
    "raw of old tools": (12, bytes(INNER)),
    "IPv4": (228, bytes(INNER)),
    "cooked": (113, COOKED + bytes(INNER)),
    "cooked 2": (276, COOKED2 + bytes(INNER)),
    "PPP": (9, b"\x00\x21" + bytes(INNER)),
    "PPP with one byte of protocol": (9, b"\x21" + bytes(INNER)),
    "PPP in HDLC framing": (50, b"\xff\x03\x00\x21" + bytes(INNER)),
    "PPP with direction": (204, b"\x00\xff\x03\x00\x21" + bytes(INNER)),
    "PPI": (192, struct.pack("<BBHI", 0, 0, 8, 1) + bytes(Ether(**MACS) / INNER)),
    "PPPoE": (1, bytes(Ether(**MACS) / PPPoE(sessionid=1) / PPP(proto=0x21) / INNER)),
    "MPLS": (1, bytes(Ether(**MACS, type=0x8847) / MPLS(label=3, s=0) / MPLS(label=4, s=1) / INNER)),
}


@pytest.mark.parametrize("name", LINKS)
def test_each_link_type_leads_to_the_ip_header(name: str) -> None:
    link, frame = LINKS[name]
    answer = is_inner(frame, link)
    assert not answer.tunnelled
    assert not answer.headers.truncated


def test_the_outer_vlan_of_one_or_two_tags_is_kept() -> None:
    assert is_inner(Ether(**MACS) / Dot1Q(vlan=7) / INNER).vlan == 7
    assert is_inner(Ether(**MACS) / Dot1AD(vlan=9) / Dot1Q(vlan=7) / INNER).vlan == 9


TUNNELS = {
    "VXLAN": (OUTER / UDP(sport=9, dport=4789) / VXLAN(vni=42) / Ether(**MACS) / INNER, 42),
    "VXLAN on Linux' old port": (OUTER / UDP(sport=9, dport=8472) / VXLAN(vni=3) / Ether(**MACS) / INNER, 3),
    "Geneve": (OUTER / UDP(sport=9, dport=6081) / GENEVE(vni=77, proto=0x6558) / Ether(**MACS) / INNER, 77),
    "Geneve with options": (
        OUTER / UDP(sport=9, dport=6081) / Raw(bytes.fromhex("02006558 00004d00") + bytes(8)) / Ether(**MACS) / INNER,
        77,
    ),
    "GRE": (OUTER / GRE() / INNER, 0),
    "GRE with key": (OUTER / GRE(key_present=1, key=99) / INNER, 99),
    "GRE with all": (OUTER / GRE(chksum_present=1, key_present=1, key=98, seqnum_present=1) / INNER, 98),
    "GRE with Ethernet": (OUTER / GRE(proto=0x6558) / Ether(**MACS) / INNER, 0),
    "IP in IP": (OUTER / INNER, 0),
    "IPv4 in IPv6": (Ether(**MACS) / IPv6(src="fd00::1", dst="fd00::2", nh=4) / INNER, 0),
    "GTP-U": (OUTER / UDP(sport=2152, dport=2152) / GTPHeader(gtp_type=255, teid=1000) / INNER, 1000),
    "GTP-U with extension": (
        OUTER
        / UDP(sport=2152, dport=2152)
        / GTPHeader(gtp_type=255, teid=5, E=1, next_ex=0x85)
        / GTPPDUSessionContainer()
        / INNER,
        5,
    ),
    "VXLAN in GRE": (
        OUTER / GRE(key_present=1, key=1) / IP() / UDP(dport=4789) / VXLAN(vni=8) / Ether(**MACS) / INNER,
        8,
    ),
}


@pytest.mark.parametrize("name", TUNNELS)
def test_each_tunnel_leads_to_the_packet_inside_and_its_id(name: str) -> None:
    frame, tunnel = TUNNELS[name]
    answer = is_inner(frame)
    assert answer.tunnelled
    assert answer.tunnel == tunnel
    assert answer.shared == (not name.startswith("GTP"))


def test_6in4_leads_to_the_ipv6_packet_inside() -> None:
    answer = found(OUTER / INNER_V6)
    assert answer.tunnelled
    assert answer.headers.family == 6
    assert answer.headers.destination_port == 53


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x08", bytes(8), b"\x30\xff\x00\x10\x00\x00\x00\x01not an IP packet", b"\x37\xff\0\0\0\0\0\1\0\0\0\x85\0"],
)
@pytest.mark.parametrize("port", [4789, 6081, 2152])
def test_what_only_has_the_port_of_a_tunnel_stays_the_outer_packet(port: int, payload: bytes) -> None:
    answer = found(OUTER / UDP(sport=1, dport=port) / payload)
    assert not answer.tunnelled
    assert answer.headers.destination_port == port


@pytest.mark.parametrize("padding", [0, 100])
def test_an_inner_packet_that_claims_more_than_the_tunnel_carries_is_not_one(padding: int) -> None:
    inner = bytearray(bytes(INNER))
    inner[3] += 40
    frame = bytes(OUTER / UDP(sport=2152, dport=2152) / GTPHeader(gtp_type=255, teid=1) / bytes(inner))
    answer = found(frame + bytes(padding))
    assert not answer.tunnelled


def test_ip_options_and_extension_headers_move_the_transport_header() -> None:
    options = found(Ether(**MACS) / IP(options=[IPOption_Timestamp()]) / TCP(dport=80) / b"x").headers
    assert options.transport - options.start > 20
    assert options.destination_port == 80
    extended = Ether(**MACS) / IPv6() / IPv6ExtHdrHopByHop(options=[PadN()]) / IPv6ExtHdrDestOpt() / UDP(dport=53)
    assert found(extended / b"q").headers.destination_port == 53


def test_fragments_are_known_as_such_and_show_no_ports() -> None:
    first = found(Ether(**MACS) / IP(flags="MF") / UDP(dport=53) / bytes(80)).headers
    later = found(Ether(**MACS) / IP(frag=10, proto=17) / bytes(80)).headers
    v6 = found(Ether(**MACS) / IPv6() / IPv6ExtHdrFragment(offset=4, nh=17) / bytes(80)).headers
    for headers in (first, later, v6):
        assert headers.fragment
        assert headers.destination_port == 0
        assert headers.payload == headers.end
    assert v6.protocol == 17


def test_an_atomic_fragment_is_a_whole_packet() -> None:
    headers = found(Ether(**MACS) / IPv6() / IPv6ExtHdrFragment(offset=0, m=0) / UDP(dport=53) / b"q").headers
    assert not headers.fragment
    assert headers.destination_port == 53


def test_a_packet_that_the_capture_cut_is_read_as_far_as_it_goes() -> None:
    frame = bytes(Ether(**MACS) / INNER)
    answer = found(frame[:-3])
    assert answer.headers.truncated
    assert answer.headers.end == len(frame) - 3


@pytest.mark.parametrize(
    ("link", "frame", "reason"),
    [
        (1, b"short", "cut off before the IP header"),
        (1, bytes(Ether(**MACS, type=0x0806) / bytes(28)), "not IP"),
        (1, bytes(Ether(**MACS) / INNER)[:30], "cut off inside the IP header"),
        (1, bytes(Ether(**MACS) / INNER)[:40], "cut off inside the transport header"),
        (1, bytes(Ether(**MACS) / IP(ihl=4) / bytes(20)), "malformed IP header"),
        (1, bytes(Ether(**MACS) / IP(len=10) / bytes(20)), "malformed IP header"),
        (1, bytes(Ether(**MACS) / IP() / TCP(dataofs=2)), "malformed transport header"),
        (1, bytes(Ether(**MACS) / IP() / UDP(len=4)), "malformed transport header"),
        (1, bytes(Ether(**MACS) / IP() / UDP(len=400) / b"x"), "malformed transport header"),
        (127, b"radiotap", "link type 127 is not supported"),
        (0, struct.pack("<I", 99), "not IP"),
        (101, b"", "cut off before the IP header"),
        (101, b"\x00", "not IP"),
    ],
)
def test_a_frame_that_cannot_be_read_says_why(link: int, frame: bytes, reason: str) -> None:
    assert innermost(link, frame) == reason


def test_icmp_has_no_ports() -> None:
    headers = found(Ether(**MACS) / IP() / ICMP() / b"ping").headers
    assert (headers.source_port, headers.destination_port) == (0, 0)


SEEDS = [frame for _, frame in LINKS.values()] + [bytes(frame) for frame, _ in TUNNELS.values()]


@given(st.sampled_from(SEEDS), st.integers(0, 150), st.integers(0, 255), st.integers(0, 200), st.sampled_from([1, 101]))
def test_no_changed_byte_and_no_cut_leads_outside_of_the_frame(
    frame: bytes, at: int, value: int, cut: int, link: int
) -> None:
    data = bytearray(frame)
    if at < len(data):
        data[at] = value
    answer = innermost(link, bytes(data[: max(len(data) - cut, 0)]))
    if isinstance(answer, Innermost):
        headers = answer.headers
        assert 0 <= headers.start < headers.transport <= headers.payload <= headers.end <= len(data)
