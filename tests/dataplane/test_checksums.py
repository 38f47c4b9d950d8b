"""Checksums after translation are what a sender would compute: over random packets, and at the corner values."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import (
    B0_MAC,
    BACKEND_MAC,
    BACKEND_PORT,
    BACKENDS,
    C0_MAC,
    CLIENT,
    CLIENT_MAC,
    SOURCE,
    TC_REDIRECT,
    VIP,
    VIP_PORT,
    Bench,
    Hook,
)
from frames import Place, finish_checksums, locate, partial_checksum, reply, request, rewritten, without_checksum
from marks import FAMILIES, HOOKS, PROTOCOLS
from services import setup_service
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.kernel.programs import RunFlag

pytestmark = pytest.mark.kernel

CHECKSUM_COMPLETE = RunFlag(1 << 2)  # BPF_F_TEST_SKB_CHECKSUM_COMPLETE


def expected_request(hook: Hook, frame: bytes, port: int) -> bytes:
    family = locate(frame).family
    eth = (B0_MAC, BACKEND_MAC) if hook is Hook.XDP else None
    addresses = {"source": SOURCE[family], "destination": BACKENDS[family][0]}
    return rewritten(frame, **addresses, sport=port, dport=BACKEND_PORT, eth=eth)


def field(frame: bytes, place: Place) -> bytes:
    return frame[place.checksum : place.checksum + 2]


@HOOKS
@FAMILIES
@PROTOCOLS
def test_checksums_of_random_packets_are_right(bench: Bench, hook: Hook, family: int, protocol: Protocol) -> None:
    setup_service(bench, family=family, protocol=protocol)
    clients = (st.ip_addresses(network="10.1.0.0/25") if family == 4 else st.ip_addresses(network="fd01::/64")).map(str)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(clients, st.integers(1, 0xFFFF), st.binary(max_size=300), st.integers(2, 255))
    def check(client: str, port: int, payload: bytes, hops: int) -> None:
        frame = request(family, protocol, port=port, payload=payload, client=client, hops=hops)
        outcome = bench.send(hook, frame)
        if outcome.reason == "partial_checksum":  # one finished checksum in 65,536 looks like an unfinished one
            return
        assert outcome.reason == "forwarded_request"
        assert outcome.frame == expected_request(hook, frame, outcome.source_port)

    check()


@HOOKS
@pytest.mark.parametrize("side", ["request", "reply"])
def test_udp_without_a_checksum_keeps_having_none(bench: Bench, hook: Hook, side: str) -> None:
    setup_service(bench, family=4, protocol=Protocol.UDP)
    frame = without_checksum(request(4, Protocol.UDP, payload=b"data"))
    outcome = bench.send(hook, frame)
    expected = expected_request(hook, frame, outcome.source_port)
    if side == "reply":
        frame = without_checksum(reply(4, Protocol.UDP, to_port=outcome.source_port, payload=b"data"))
        outcome = bench.send(hook, frame, "b0")
        addresses = {"source": VIP[4], "destination": CLIENT[4]}
        expected = rewritten(frame, **addresses, sport=VIP_PORT, dport=40000, eth=(C0_MAC, CLIENT_MAC))

    assert outcome.frame == expected
    assert field(outcome.frame, locate(outcome.frame)) == bytes(2)


@HOOKS
@FAMILIES
@PROTOCOLS
def test_a_checksum_that_comes_out_as_zero(bench: Bench, hook: Hook, family: int, protocol: Protocol) -> None:
    """UDP writes all ones, because zero means that there is none (RFC 768); TCP writes zero."""
    setup_service(bench, family=family, protocol=protocol)
    first = bench.send(hook, request(family, protocol, payload=bytes(2)))
    # The last word of the payload takes the value that leaves nothing for the checksum field.
    rest = field(first.frame, locate(first.frame))
    outcome = bench.send(hook, request(family, protocol, payload=rest))

    assert outcome.reason == "forwarded_request"
    value = field(outcome.frame, locate(outcome.frame))
    assert value == (b"\xff\xff" if protocol is Protocol.UDP else bytes(2))
    assert outcome.frame == expected_request(hook, request(family, protocol, payload=rest), outcome.source_port)


@HOOKS
@FAMILIES
@PROTOCOLS
def test_a_checksum_that_comes_in_as_zero_or_all_ones(
    bench: Bench, hook: Hook, family: int, protocol: Protocol
) -> None:
    setup_service(bench, family=family, protocol=protocol)
    plain = request(family, protocol, payload=bytes(2))
    rest = field(plain, locate(plain))
    frame = request(family, protocol, payload=rest)
    assert field(frame, locate(frame)) == (b"\xff\xff" if protocol is Protocol.UDP else bytes(2))

    outcome = bench.send(hook, frame)

    assert outcome.reason == "forwarded_request"
    assert outcome.frame == expected_request(hook, frame, outcome.source_port)


@HOOKS
@FAMILIES
@PROTOCOLS
def test_a_broken_checksum_is_not_healed(bench: Bench, hook: Hook, family: int, protocol: Protocol) -> None:
    setup_service(bench, family=family, protocol=protocol)
    frame = request(family, protocol, payload=b"data")
    broken = frame[:-1] + b"b"

    outcome = bench.send(hook, broken)

    assert outcome.reason == "forwarded_request"
    assert finish_checksums(outcome.frame, locate(outcome.frame)) != outcome.frame


@FAMILIES
@PROTOCOLS
def test_xdp_leaves_unfinished_checksums_to_tc(bench: Bench, family: int, protocol: Protocol) -> None:
    setup_service(bench, family=family, protocol=protocol)
    frame = partial_checksum(request(family, protocol, payload=b"data"))

    assert bench.send(Hook.XDP, frame).reason == "partial_checksum"
    outcome = bench.send(Hook.TC, frame)
    assert outcome.reason == "forwarded_request"
    answer = partial_checksum(reply(family, protocol, to_port=outcome.source_port))
    assert bench.send(Hook.XDP, answer, "b0").reason == "partial_checksum"
    assert bench.send(Hook.TC, answer, "b0").reason == "forwarded_reply"


@FAMILIES
@PROTOCOLS
def test_tc_keeps_the_sum_right_that_the_card_made(bench: Bench, family: int, protocol: Protocol) -> None:
    """CHECKSUM_COMPLETE: after the run the kernel compares its own sum with the packet, and fails the run."""
    setup_service(bench, family=family, protocol=protocol)
    frame = request(family, protocol, payload=b"data")
    run = bench.run(Hook.TC, frame, flags=CHECKSUM_COMPLETE)
    place = locate(run.data)
    port = int.from_bytes(run.data[place.transport : place.transport + 2])
    assert run.data == expected_request(Hook.TC, frame, port)

    answer = reply(family, protocol, to_port=port)
    back = bench.run(Hook.TC, answer, "b0", flags=CHECKSUM_COMPLETE)

    assert back.retval == run.retval == TC_REDIRECT
