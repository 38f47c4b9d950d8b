"""The sniffer looks inside tunnels: what they carry is one flow in both directions; what does not decode is left."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import GRE, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from bench import CLIENT, VIP
from frames import from_client, ip_layer
from marks import ALL_HOOKS, FAMILIES
from sluicegate_agent.sniffing.model import SniffState, SniffWhy
from sniff_bench import Action, SniffBench

pytestmark = pytest.mark.kernel

TUNNEL = 32  # enum sg_record_flag
INNER_CLIENT, INNER_SERVER = ("172.16.0.1", 45000), ("172.16.0.2", 80)
INNER6_CLIENT, INNER6_SERVER = ("fd00:1::1", 45000), ("fd00:1::2", 80)


def inner(family: int = 4, *, back: bool = False, payload: bytes = b"data") -> Packet:
    """A packet of one TCP connection."""
    source, destination = (INNER_CLIENT, INNER_SERVER) if family == 4 else (INNER6_CLIENT, INNER6_SERVER)
    if back:
        source, destination = destination, source
    ip = IP(src=source[0], dst=destination[0]) if family == 4 else IPv6(src=source[0], dst=destination[0])
    return ip / TCP(sport=source[1], dport=destination[1], flags="PA") / payload


def framed(packet: Packet) -> Packet:
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet


# Name -> the layers between the outer IP header and the packet inside, the identifier, and whether the key has it.
KINDS: dict[str, tuple[Callable[[Packet], Packet], int, bool]] = {
    "VXLAN": (lambda p: UDP(sport=1, dport=4789) / VXLAN(vni=77) / framed(p), 77, True),
    "VXLAN on the port of Linux": (lambda p: UDP(sport=1, dport=8472) / VXLAN(vni=78) / framed(p), 78, True),
    "VXLAN with a tag inside": (
        lambda p: UDP(sport=1, dport=4789) / VXLAN(vni=79) / Ether() / Dot1Q(vlan=5) / p,
        79,
        True,
    ),
    "Geneve with a frame": (lambda p: UDP(sport=1, dport=6081) / GENEVE(vni=80, proto=0x6558) / framed(p), 80, True),
    "Geneve with a packet": (
        lambda p: UDP(sport=1, dport=6081) / GENEVE(vni=81, proto=0x86DD if IPv6 in p else 0x0800) / p,
        81,
        True,
    ),
    "GRE": (lambda p: GRE(proto=0x86DD if IPv6 in p else 0x0800) / p, 0, True),
    "GRE with key and sequence": (
        lambda p: GRE(proto=0x86DD if IPv6 in p else 0x0800, key_present=1, key=82, seqnum_present=1) / p,
        82,
        True,
    ),
    "GRE with a frame": (lambda p: GRE(proto=0x6558) / framed(p), 0, True),
    "IP in IP": (lambda p: p, 0, True),
    "GTP-U": (lambda p: UDP(sport=2152, dport=2152) / GTP_U_Header(teid=83, S=1) / p, 83, False),
}


def carried(outer: int, kind: str, packet: Packet, *, back: bool = False) -> bytes:
    ends = (VIP[outer], CLIENT[outer]) if back else (CLIENT[outer], VIP[outer])
    return bytes(from_client(ip_layer(outer, *ends) / KINDS[kind][0](packet)))


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("inside", [4, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_the_flow_is_the_one_inside(sniffer: SniffBench, hook: str, family: int, inside: int, kind: str) -> None:
    sniffer.tap(hook=hook)
    ask, answer = inner(inside), inner(inside, back=True, payload=b"longer data")
    assert sniffer.fates(hook, carried(family, kind, ask), carried(family, kind, answer, back=True)) == ["sent"] * 2
    flow = sniffer.flow(inside)
    assert flow.opener == (INNER_CLIENT if inside == 4 else INNER6_CLIENT)
    assert flow.packets == (1, 1)
    assert sniffer.flows(10 - inside) == []
    first, second = sniffer.records()
    assert (first.data, second.data) == (bytes(ask), bytes(answer))
    assert (first.flags & TUNNEL, second.flags & TUNNEL) == (TUNNEL, TUNNEL)
    assert (first.tunnel, second.tunnel) == (KINDS[kind][1], KINDS[kind][1])
    assert (first.pl_len, second.pl_len) == (4, 11)


@ALL_HOOKS
def test_equal_flows_in_two_networks_are_two(sniffer: SniffBench, hook: str) -> None:
    sniffer.tap(hook=hook)
    sniffer.send(hook, carried(4, "VXLAN", inner()), carried(4, "VXLAN on the port of Linux", inner()))
    assert len(sniffer.flows(4)) == 2


@ALL_HOOKS
def test_directions_with_an_identifier_each_are_one(sniffer: SniffBench, hook: str) -> None:
    sniffer.tap(hook=hook)
    other = UDP(sport=2152, dport=2152) / GTP_U_Header(teid=9, S=1) / inner(back=True)
    sniffer.send(hook, carried(4, "GTP-U", inner()), bytes(from_client(ip_layer(4, VIP[4], CLIENT[4]) / other)))
    assert sniffer.flow(4).packets == (1, 1)


@ALL_HOOKS
def test_a_flow_inside_is_stopped_and_dropped_alone(sniffer: SniffBench, hook: str) -> None:
    sniffer.tap(hook=hook)
    frame = carried(4, "VXLAN", inner())
    assert sniffer.fate(hook, frame) == "sent"
    sniffer.say(sniffer.flow(4).id, Action.STOP)
    assert sniffer.fates(hook, frame, frame) == ["stopped", "stopped"]
    sniffer.say(sniffer.flow(4).id, Action.DROP, seconds=60)
    assert sniffer.fates(hook, frame, frame) == ["dropped", "dropped"]
    flow = sniffer.flow(4)
    assert (flow.state, flow.why) == (SniffState.DROP, SniffWhy.VERDICT)
    assert sniffer.fate(hook, carried(4, "VXLAN", inner(6))) == "sent"


SAME_AS_OUTSIDE = {
    "a port proves nothing": UDP(sport=1, dport=4789) / Raw(b"no VXLAN header in here, only words"),
    "too short for a header": UDP(sport=1, dport=6081) / Raw(b"1234"),
    "a packet that is longer than its tunnel": UDP(sport=1, dport=4789) / VXLAN(vni=1) / framed(IP(len=400) / TCP()),
    "ARP inside": UDP(sport=1, dport=4789) / VXLAN(vni=1) / Ether(type=0x0806) / Raw(bytes(28)),
    "a fragment inside": UDP(sport=1, dport=4789) / VXLAN(vni=1) / framed(IP(frag=8) / Raw(bytes(64))),
    "an IPv6 fragment inside": UDP(sport=1, dport=4789)
    / VXLAN(vni=1)
    / framed(IPv6() / IPv6ExtHdrFragment(offset=8) / Raw(bytes(64))),
    "PPTP": GRE(version=1, proto=0x880B, key_present=1, key=1) / Raw(bytes(32)),
    "GRE with source routing": GRE(routing_present=1, proto=0x0800) / inner(),
    "signalling of GTP": UDP(sport=2152, dport=2152) / GTP_U_Header(gtp_type=1, teid=0) / Raw(bytes(32)),
}


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("what", SAME_AS_OUTSIDE)
def test_what_cannot_be_read_stays_the_flow_outside(sniffer: SniffBench, hook: str, family: int, what: str) -> None:
    sniffer.tap(hook=hook)
    frame = bytes(from_client(ip_layer(family, CLIENT[family], VIP[family]) / SAME_AS_OUTSIDE[what]))
    assert sniffer.fates(hook, frame, frame) == ["sent", "sent"]
    flow = sniffer.flow(family)
    assert (flow.opener[0], flow.other[0]) == (CLIENT[family], VIP[family])
    assert flow.packets == (2, 0)
    assert {record.flags & TUNNEL for record in sniffer.records()} == {0}
    sniffer.say(flow.id, Action.STOP)
    assert sniffer.fates(hook, frame, frame) == ["stopped", "stopped"]


@ALL_HOOKS
@pytest.mark.parametrize("kind", KINDS)
def test_truncated_tunnels_never_become_anything_else(sniffer: SniffBench, hook: str, kind: str) -> None:
    """Any length of it: the outer packet, or nothing that can be read; and every one is counted once."""
    sniffer.tap(hook=hook)
    whole = carried(4, kind, inner())
    for length in range(34, len(whole) - 1):
        cut = bytearray(whole[:length])
        cut[16:18] = (length - 14).to_bytes(2)  # the outer IP header's length
        sniffer.send(hook, bytes(cut))
    assert all(flow.opener[0] == CLIENT[4] for flow in sniffer.flows(4))
