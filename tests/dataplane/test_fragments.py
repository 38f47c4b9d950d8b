"""Datagrams in fragments: all of one go the same way, and the receiver can put them together."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from scapy.layers.inet6 import IPv6ExtHdrDestOpt

from bench import (
    B0_MAC,
    BACKEND_MAC,
    BACKEND_PORT,
    BACKENDS,
    C0_MAC,
    CLIENT,
    CLIENT_MAC,
    SOURCE,
    VIP,
    VIP_PORT,
    Bench,
    Hook,
    ip,
)
from frames import from_client, ip_layer, locate, reply, request, rewritten, transport
from marks import FAMILIES, HOOKS, MODES, TRANSLATING
from pieces import cut, identification, whole
from services import set_state, set_table, setup_service
from sluicegate_agent.datapath.model import BackendState, ForwardingMode, FrontendId, Protocol

pytestmark = pytest.mark.kernel

PAYLOAD = bytes(index * 7 % 251 for index in range(3001))
STRANGER = {4: "10.1.0.3", 6: "fd01::3"}


def forward(bench: Bench, hook: Hook, frames: list[bytes], device: str = "c0") -> list[bytes]:
    """Send all; each must be forwarded."""
    out = []
    for index, frame in enumerate(frames):
        outcome = bench.send(hook, frame, device)
        assert outcome.reason == ("forwarded_request" if device == "c0" else "forwarded_reply"), f"fragment {index}"
        out.append(outcome.frame)
    return out


def hops(frame: bytes) -> int:
    return frame[14 + 8] if frame[12:14] == b"\x08\x00" else frame[14 + 7]


def same_packet(parts: list[bytes], expected: bytes) -> None:
    """Put together, the fragments are the packet that would have left in one piece."""
    packet, place = whole(parts), locate(expected)
    header = 20 if place.family == 4 else 40
    assert packet[header:] == expected[place.transport : place.end]
    at = slice(12, 20) if place.family == 4 else slice(8, 40)
    assert packet[at] == expected[place.network :][at]


@pytest.mark.parametrize(("hook", "family", "protocol", "mode"), list(product(Hook, (4, 6), Protocol, ForwardingMode)))
def test_fragments_are_translated_both_ways(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    (backend,) = setup_service(bench, family=family, protocol=protocol, mode=mode)
    full_nat, direct = mode is ForwardingMode.FULL_NAT, mode is ForwardingMode.DIRECT_RETURN
    whole_request = request(family, protocol, "S", payload=PAYLOAD)
    sent = cut(whole_request, 1400, 0x1234)
    seen = SOURCE[family] if full_nat else CLIENT[family]

    arrived = forward(bench, hook, sent)

    port = int.from_bytes(arrived[0][locate(arrived[0]).transport :][:2])
    same_packet(
        arrived,
        rewritten(
            whole_request,
            source=seen,
            destination=VIP[family] if direct else BACKENDS[family][0],
            sport=port,
            dport=VIP_PORT if direct else BACKEND_PORT,
            eth=None,
        ),
    )
    assert {hops(frame) for frame in arrived} == {63}
    assert (identification(arrived[0]) == 0x1234) != full_nat
    if hook is Hook.XDP:
        macs = bytes.fromhex((BACKEND_MAC + B0_MAC).replace(":", ""))
        assert all(frame[:12] == macs for frame in arrived)
    counters = bench.datapath.counters()
    for traffic in (counters.backends[backend], counters.frontends[FrontendId(1)]):
        assert (traffic.request_packets, traffic.opened) == (len(sent), 1)
        assert traffic.request_bytes == sum(len(frame) - 14 for frame in sent)
    if direct:
        return

    whole_reply = reply(family, protocol, "SA", to_port=port, payload=PAYLOAD, to=seen)
    answers = cut(whole_reply, 1400, 0x77)
    arrived = forward(bench, hook, answers, "b0")

    same_packet(
        arrived,
        rewritten(whole_reply, source=VIP[family], destination=CLIENT[family], sport=VIP_PORT, dport=40000, eth=None),
    )
    assert {hops(frame) for frame in arrived} == {63}
    macs = bytes.fromhex((CLIENT_MAC + C0_MAC).replace(":", ""))
    assert all(frame[:12] == macs for frame in arrived)
    counters = bench.datapath.counters()
    assert counters.backends[backend].reply_packets == len(answers)


@HOOKS
@FAMILIES
@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_one_identification_from_two_senders_becomes_two(bench: Bench, hook: Hook, family: int, direction: str) -> None:
    """Their fragments are mixed: the receiver must not put parts of different datagrams together."""
    replies = direction == "replies"
    backends = 2 if replies else 1
    ids = setup_service(bench, family=family, protocol=Protocol.UDP, backends=backends)
    wholes = []
    for index, client in enumerate((CLIENT[family], CLIENT[family] if replies else STRANGER[family])):
        set_table(bench, (ids[index if replies else 0],))
        opening = request(family, Protocol.UDP, port=40000 + index, client=client, payload=PAYLOAD + bytes([index]))
        if not replies:
            wholes.append(opening)
            continue
        port = bench.send(hook, request(family, Protocol.UDP, port=40000 + index)).source_port
        wholes.append(reply(family, Protocol.UDP, to_port=port, backend=index, payload=PAYLOAD + bytes([index])))
    mixed = [frame for pair in zip(*(cut(frame, 1400, 7) for frame in wholes), strict=True) for frame in pair]

    arrived = forward(bench, hook, mixed, "b0" if replies else "c0")

    first, second = arrived[::2], arrived[1::2]
    assert len({identification(frame) for frame in first}) == 1
    assert identification(first[0]) != identification(second[0])
    for parts, original in ((first, wholes[0]), (second, wholes[1])):
        assert whole(parts)[-3001:] == original[-3001:]


@HOOKS
def test_each_datagram_to_one_destination_gets_another_identification(bench: Bench, hook: Hook) -> None:
    setup_service(bench, family=4, protocol=Protocol.UDP)
    seen = set()
    for number in range(20):
        arrived = forward(bench, hook, cut(request(4, Protocol.UDP, payload=PAYLOAD), 1400, number))
        seen |= {identification(frame) for frame in arrived}

    assert len(seen) == 20


@HOOKS
@FAMILIES
@MODES
def test_a_later_fragment_before_the_first_is_dropped(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, protocol=Protocol.UDP, mode=mode)
    first, *later = cut(request(family, Protocol.UDP, payload=PAYLOAD), 1400, 5)

    assert [bench.send(hook, frame).reason for frame in later] == ["frag_first_missing"] * 2
    forward(bench, hook, [first, *later])


@HOOKS
@FAMILIES
@TRANSLATING
def test_a_backends_own_fragments_pass(bench: Bench, hook: Hook, family: int, mode: ForwardingMode) -> None:
    setup_service(bench, family=family, protocol=Protocol.UDP, mode=mode)
    first, *later = cut(reply(family, Protocol.UDP, to_port=5, payload=PAYLOAD, to=CLIENT[family]), 1400, 5)

    for frame in (*later, first, *later):
        assert bench.send(hook, frame, "b0").reason == "no_translation"


@HOOKS
@FAMILIES
def test_fragments_of_another_protocol_pass_all_alike(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, protocol=Protocol.UDP)
    gre = 47
    for frame in cut(request(family, Protocol.UDP, payload=PAYLOAD), 1400, 5):
        at = 23 if family == 4 else 14 + 40
        assert bench.send(hook, frame[:at] + bytes([gre]) + frame[at + 1 :]).reason == "other_protocol"


@HOOKS
@FAMILIES
def test_fragments_with_tags(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, protocol=Protocol.UDP)
    untagged = cut(request(family, Protocol.UDP, payload=PAYLOAD), 1400, 5)
    frames = [frame[:12] + b"\x88\xa8\x00\x07\x81\x00\x00\x05" + frame[12:] for frame in untagged]

    arrived = forward(bench, hook, frames)

    assert [len(frame) for frame in arrived] == [len(frame) for frame in untagged]
    assert whole(arrived)[-3001:] == PAYLOAD


@HOOKS
def test_ipv4_options_of_fragments(bench: Bench, hook: Hook) -> None:
    setup_service(bench, family=4, protocol=Protocol.UDP)
    header = ip_layer(4, CLIENT[4], VIP[4])
    header.options = b"\x01" * 8
    frame = bytes(from_client(header, transport(Protocol.UDP, "", 40000, VIP_PORT) / PAYLOAD))

    arrived = forward(bench, hook, cut(frame, 1400, 5))

    assert whole(arrived)[-3001:] == PAYLOAD
    assert all(locate(part).transport == 14 + 28 for part in arrived)


@HOOKS
def test_an_extension_header_behind_the_fragment_header(bench: Bench, hook: Hook) -> None:
    """Later fragments name that header as what follows, not the transport protocol."""
    setup_service(bench, family=6, protocol=Protocol.UDP)
    plain = cut(request(6, Protocol.UDP, payload=PAYLOAD), 1400, 5)
    option, udp = bytes(IPv6ExtHdrDestOpt(nh=17)), 14 + 48
    frames = []
    for index, frame in enumerate(plain):
        data = bytearray(frame)
        data[14 + 40] = 60
        if index == 0:
            data[udp:udp] = option
            data[18:20] = (int.from_bytes(data[18:20]) + len(option)).to_bytes(2)
        else:
            data[56:58] = (int.from_bytes(data[56:58]) + len(option)).to_bytes(2)
        frames.append(bytes(data))

    assert bench.send(hook, frames[1]).reason == "frag_first_missing"
    arrived = forward(bench, hook, frames)

    assert b"".join([arrived[0][udp + 16 :], *(part[udp:] for part in arrived[1:])]) == PAYLOAD


@HOOKS
@FAMILIES
def test_a_fragment_whose_hops_are_used_up(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, protocol=Protocol.UDP)
    first, *later = cut(request(family, Protocol.UDP, payload=PAYLOAD, hops=2), 1400, 5)
    forward(bench, hook, [first])
    at = 14 + (8 if family == 4 else 7)

    assert bench.send(hook, later[0][:at] + b"\x01" + later[0][at + 1 :]).reason == "ttl_exceeded"


@HOOKS
@FAMILIES
def test_the_rest_follows_the_first_when_the_table_changes(bench: Bench, hook: Hook, family: int) -> None:
    ids = setup_service(bench, family=family, protocol=Protocol.UDP, backends=2)
    set_table(bench, (ids[0],))
    first, *later = cut(request(family, Protocol.UDP, payload=PAYLOAD), 1400, 5)
    parts = forward(bench, hook, [first])
    set_table(bench, (ids[1],))
    set_state(bench, ids[0], BackendState.DOWN)

    assert whole(parts + forward(bench, hook, later))[-3001:] == PAYLOAD


@FAMILIES
@TRANSLATING
def test_what_xdp_leaves_to_tc_is_whole(bench: Bench, family: int, mode: ForwardingMode) -> None:
    """No note is left by a hook that does not forward the first fragment."""
    setup_service(bench, family=family, protocol=Protocol.UDP, mode=mode, nexthop=lambda row: replace(row, xdp=False))
    frames = cut(request(family, Protocol.UDP, payload=PAYLOAD), 1400, 5)
    parts = []
    for index, frame in enumerate(frames):
        assert bench.send(Hook.XDP, frame).reason == ("no_redirect" if index == 0 or parts else "frag_first_missing")
        parts += forward(bench, Hook.TC, [frame])

    assert whole(parts)[-3001:] == PAYLOAD


@HOOKS
@FAMILIES
def test_an_id_used_again_follows_its_latest_first(bench: Bench, hook: Hook, family: int) -> None:
    ids = setup_service(bench, family=family, protocol=Protocol.UDP, backends=2)
    for turn, backend in enumerate((ids[0], ids[1])):
        set_table(bench, (backend,))
        payload = PAYLOAD[:-1] + bytes([turn])
        arrived = forward(bench, hook, cut(request(family, Protocol.UDP, port=40000 + turn, payload=payload), 1400, 5))
        assert whole(arrived)[-3001:] == payload


@FAMILIES
def test_the_rest_of_a_reply_finds_a_client_that_was_not_resolved_at_first(bench: Bench, family: int) -> None:
    client = {4: "10.1.0.77", 6: "fd01::77"}[family]
    setup_service(bench, family=family, protocol=Protocol.UDP)
    port = bench.send(Hook.TC, request(family, Protocol.UDP, client=client)).source_port
    first, second, third = cut(reply(family, Protocol.UDP, to_port=port, payload=PAYLOAD), 1400, 5)
    assert bench.send(Hook.XDP, first, "b0").reason == "neighbour_unresolved"
    forward(bench, Hook.TC, [first], "b0")
    assert bench.send(Hook.XDP, second, "b0").reason == "neighbour_unresolved"

    try:
        ip(f"neigh replace {client} lladdr {CLIENT_MAC} dev c0 nud permanent")
        arrived = forward(bench, Hook.XDP, [second, third], "b0")
    finally:
        ip(f"neigh del {client} dev c0")

    macs = bytes.fromhex((CLIENT_MAC + C0_MAC).replace(":", ""))
    assert all(frame[:12] == macs for frame in arrived)
