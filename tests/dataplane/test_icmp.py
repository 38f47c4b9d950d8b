"""ICMP errors about balanced flows, in both directions."""

from __future__ import annotations

from itertools import product

import pytest

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
)
from frames import from_client, ip_layer, reply, request, rewritten, transport
from marks import FAMILIES, HOOKS, PROTOCOLS, TRANSLATING
from pieces import icmp, link, translated, with_header_checksum
from services import set_state, setup_service
from sluicegate_agent.datapath.model import BackendState, ForwardingMode, Protocol

pytestmark = pytest.mark.kernel

ERRORS = {
    4: [(3, 4), (3, 1), (3, 3), (11, 0), (12, 0)],
    6: [(2, 0), (1, 0), (1, 4), (3, 0), (4, 0)],
}
ERROR_CASES = [(family, head) for family, heads in ERRORS.items() for head in heads]
REST = b"\x00\x00\x05\x78"
ROUTER = {4: "192.0.2.7", 6: "2001:db8:7::7"}
PAYLOAD = b"and so on, odd length"
SHORT = 8


def quote_of(packet: bytes, kept: int | None, header: int) -> bytes:
    """What an error quotes: all, or the header and so many bytes."""
    return packet if kept is None else packet[: header + kept]


def from_client_side(family: int, packet: bytes) -> bytes:
    return link(CLIENT_MAC, C0_MAC, family) + packet


def from_backend_side(family: int, packet: bytes) -> bytes:
    return link(BACKEND_MAC, B0_MAC, family) + packet


def one_hop_less(packet: bytes) -> bytes:
    """As a router quotes what it got."""
    data = bytearray(packet)
    if packet[0] >> 4 == 4:
        data[8] -= 1
        header = (data[0] & 15) * 4
        data[:header] = with_header_checksum(bytes(data[:header]))
    else:
        data[7] -= 1
    return bytes(data)


def opened(bench: Bench, hook: Hook, family: int, protocol: Protocol, mode: ForwardingMode) -> tuple[bytes, str, int]:
    """Open a flow: the packet that the backend got, and the client's end as the backend sees it."""
    setup_service(bench, family=family, protocol=protocol, mode=mode)
    first = bench.send(hook, request(family, protocol, payload=PAYLOAD))
    seen = SOURCE[family] if mode is ForwardingMode.FULL_NAT else CLIENT[family]
    return first.frame[14:], seen, first.source_port


@HOOKS
@PROTOCOLS
@TRANSLATING
@pytest.mark.parametrize(("family", "head"), ERROR_CASES)
@pytest.mark.parametrize("kept", [None, SHORT], ids=["whole", "ports"])
def test_an_error_about_a_reply_reaches_the_backend(
    bench: Bench,
    hook: Hook,
    family: int,
    head: tuple[int, int],
    protocol: Protocol,
    mode: ForwardingMode,
    kept: int | None,
) -> None:
    _, seen, port = opened(bench, hook, family, protocol, mode)
    answer = reply(family, protocol, "SA", to_port=port, to=seen, payload=PAYLOAD)
    left = one_hop_less(bench.send(hook, answer, "b0").frame[14:])
    header = 20 if family == 4 else 40
    known = translated(left, BACKENDS[family][0], seen, BACKEND_PORT, port)
    error = icmp(family, ROUTER[family], VIP[family], head, REST, quote_of(left, kept, header), hops=33)

    outcome = bench.send(hook, from_client_side(family, error))

    assert outcome.reason == "forwarded_error"
    source = seen if mode is ForwardingMode.FULL_NAT else ROUTER[family]
    expected = icmp(family, source, BACKENDS[family][0], head, REST, quote_of(known, kept, header), hops=32)
    assert outcome.frame[14:] == expected
    if hook is Hook.XDP:
        assert outcome.frame[:14] == link(B0_MAC, BACKEND_MAC, family)


@HOOKS
@PROTOCOLS
@TRANSLATING
@pytest.mark.parametrize(("family", "head"), ERROR_CASES)
@pytest.mark.parametrize("kept", [None, SHORT], ids=["whole", "ports"])
@pytest.mark.parametrize("teller", ["backend", "router"])
def test_an_error_about_a_request_reaches_the_client(
    bench: Bench,
    hook: Hook,
    family: int,
    head: tuple[int, int],
    protocol: Protocol,
    mode: ForwardingMode,
    kept: int | None,
    teller: str,
) -> None:
    left, seen, _ = opened(bench, hook, family, protocol, mode)
    left = one_hop_less(left)
    header = 20 if family == 4 else 40
    known = translated(left, CLIENT[family], VIP[family], 40000, VIP_PORT)
    source = BACKENDS[family][0] if teller == "backend" else ROUTER[family]
    error = icmp(family, source, seen, head, REST, quote_of(left, kept, header), hops=33)

    outcome = bench.send(hook, from_backend_side(family, error), "b0")

    assert outcome.reason == "forwarded_error"
    source = VIP[family] if teller == "backend" else ROUTER[family]
    expected = icmp(family, source, CLIENT[family], head, REST, quote_of(known, kept, header), hops=32)
    assert outcome.frame == link(C0_MAC, CLIENT_MAC, family) + expected


@HOOKS
@PROTOCOLS
@pytest.mark.parametrize(("family", "head"), ERROR_CASES)
def test_with_direct_return_an_error_reaches_the_backend_as_it_is(
    bench: Bench, hook: Hook, family: int, head: tuple[int, int], protocol: Protocol
) -> None:
    opened(bench, hook, family, protocol, ForwardingMode.DIRECT_RETURN)
    answer = ip_layer(family, VIP[family], CLIENT[family]) / transport(protocol, "SA", VIP_PORT, 40000) / PAYLOAD
    error = icmp(family, ROUTER[family], VIP[family], head, REST, bytes(answer), hops=33)

    outcome = bench.send(hook, from_client_side(family, error))

    assert outcome.reason == "forwarded_error"
    assert outcome.frame[14:] == icmp(family, ROUTER[family], VIP[family], head, REST, bytes(answer), hops=32)
    if hook is Hook.XDP:
        assert outcome.frame[:14] == link(B0_MAC, BACKEND_MAC, family)


@HOOKS
@PROTOCOLS
@TRANSLATING
def test_a_quote_with_ip_options(bench: Bench, hook: Hook, protocol: Protocol, mode: ForwardingMode) -> None:
    setup_service(bench, family=4, protocol=protocol, mode=mode)
    header = ip_layer(4, CLIENT[4], VIP[4])
    header.options = b"\x01" * 12
    frame = bytes(from_client(header, transport(protocol, "S", 40000, VIP_PORT) / PAYLOAD))
    left = bench.send(hook, frame).frame[14:]
    seen = SOURCE[4] if mode is ForwardingMode.FULL_NAT else CLIENT[4]
    error = icmp(4, ROUTER[4], seen, (3, 1), REST, left)

    outcome = bench.send(hook, from_backend_side(4, error), "b0")

    known = translated(left, CLIENT[4], VIP[4], 40000, VIP_PORT)
    assert outcome.frame[14:] == icmp(4, ROUTER[4], CLIENT[4], (3, 1), REST, known, hops=63)


@HOOKS
@FAMILIES
def test_a_quoted_datagram_without_a_checksum_still_has_none(bench: Bench, hook: Hook, family: int) -> None:
    left, seen, _ = opened(bench, hook, family, Protocol.UDP, ForwardingMode.FULL_NAT)
    at = (20 if family == 4 else 40) + 6
    left = left[:at] + bytes(2) + left[at + 2 :]
    error = icmp(family, ROUTER[family], seen, ERRORS[family][1], REST, left)

    outcome = bench.send(hook, from_backend_side(family, error), "b0")

    known = translated(left, CLIENT[family], VIP[family], 40000, VIP_PORT)
    known = known[:at] + bytes(2) + known[at + 2 :]
    expected = icmp(family, ROUTER[family], CLIENT[family], ERRORS[family][1], REST, known, hops=63)
    assert outcome.frame[14:] == expected


@HOOKS
@FAMILIES
def test_errors_about_other_traffic_pass(bench: Bench, hook: Hook, family: int) -> None:
    left, seen, _ = opened(bench, hook, family, Protocol.TCP, ForwardingMode.FULL_NAT)
    head = ERRORS[family][1]
    quotes = {
        "another port": translated(left, seen, BACKENDS[family][0], 999, BACKEND_PORT),
        "another host": translated(left, seen, ROUTER[family], 999, BACKEND_PORT),
        "another port of the VIP": translated(left, VIP[family], CLIENT[family], 99, 40000),
        "no ports": left[: (20 if family == 4 else 40) + 3],
        "another protocol": left[:9] + b"\x2f" + left[10:] if family == 4 else left[:6] + b"\x2f" + left[7:],
    }
    for what, quote in quotes.items():
        error = icmp(family, ROUTER[family], seen, head, REST, quote)
        reason = bench.send(hook, from_backend_side(family, error), "b0").reason
        assert reason == ("malformed" if what == "no ports" else "not_ours"), what


@HOOKS
def test_a_quoted_later_fragment_has_no_ports(bench: Bench, hook: Hook) -> None:
    """Its first bytes are data, and may look like ports of a flow."""
    left, seen, _ = opened(bench, hook, 4, Protocol.TCP, ForwardingMode.FULL_NAT)
    error = icmp(4, ROUTER[4], seen, (3, 1), REST, left[:6] + b"\x00\x10" + left[8:])

    assert bench.send(hook, from_backend_side(4, error), "b0").reason == "not_ours"


@HOOKS
@FAMILIES
def test_an_error_about_a_flow_that_is_not_known(bench: Bench, hook: Hook, family: int) -> None:
    _, seen, port = opened(bench, hook, family, Protocol.TCP, ForwardingMode.FULL_NAT)
    left = bench.send(hook, reply(family, to_port=port, to=seen), "b0").frame[14:]
    error = from_client_side(family, icmp(family, ROUTER[family], VIP[family], ERRORS[family][1], REST, left))
    (backend,) = bench.datapath.observe().backends
    set_state(bench, backend, BackendState.FREE)
    assert bench.send(hook, error).reason == "backend_gone"

    bench.evict_flows(family)

    assert bench.send(hook, error).reason == "no_flow"


@HOOKS
@FAMILIES
def test_an_error_with_no_hops_left_or_too_long_is_answered_by_nothing(bench: Bench, hook: Hook, family: int) -> None:
    left, seen, _ = opened(bench, hook, family, Protocol.TCP, ForwardingMode.FULL_NAT)
    head = ERRORS[family][1]
    last = icmp(family, ROUTER[family], seen, head, REST, left, hops=1)
    assert bench.send(hook, from_backend_side(family, last), "b0").reason == "ttl_exceeded"

    jumbo = icmp(family, ROUTER[family], seen, head, REST, left + bytes(1500))
    assert bench.send(hook, from_backend_side(family, jumbo), "b0").reason == "too_big"


@pytest.mark.parametrize(("hook", "family"), list(product(Hook, (4, 6))))
def test_an_error_changes_nothing_about_the_flow(bench: Bench, hook: Hook, family: int) -> None:
    left, seen, port = opened(bench, hook, family, Protocol.TCP, ForwardingMode.FULL_NAT)
    error = icmp(family, ROUTER[family], seen, ERRORS[family][1], REST, left)
    bench.send(hook, from_backend_side(family, error), "b0")

    frame = reply(family, to_port=port)
    assert bench.send(hook, frame, "b0").frame == rewritten(
        frame, source=VIP[family], destination=CLIENT[family], sport=VIP_PORT, dport=40000, eth=(C0_MAC, CLIENT_MAC)
    )
