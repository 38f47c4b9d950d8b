"""Pings: those to a VIP are answered, all others are the stack's."""

from __future__ import annotations

import pytest

from bench import B0_MAC, BACKEND_MAC, BACKENDS, C0_MAC, CLIENT, CLIENT_MAC, SOURCE, VIP, Bench, Hook
from marks import FAMILIES, HOOKS
from pieces import icmp, link
from services import setup_service
from sluicegate_agent.datapath.model import Delete, Endpoint, Table

pytestmark = pytest.mark.kernel

ECHO = {4: (8, 0), 6: (128, 0)}
ECHO_REPLY = {4: (0, 0), 6: (129, 0)}
STRANGER = {4: "192.0.2.7", 6: "2001:db8:7::7"}


def from_client_side(family: int, packet: bytes) -> bytes:
    return link(CLIENT_MAC, C0_MAC, family) + packet


def from_backend_side(family: int, packet: bytes) -> bytes:
    return link(BACKEND_MAC, B0_MAC, family) + packet


@HOOKS
@FAMILIES
@pytest.mark.parametrize("size", [0, 1, 8, 55, 56, 1400])
def test_a_ping_to_a_vip_is_answered(bench: Bench, hook: Hook, family: int, size: int) -> None:
    setup_service(bench, family=family)
    body = bytes(index % 256 for index in range(size))
    ping = icmp(family, CLIENT[family], VIP[family], ECHO[family], b"\x12\x34\x00\x01", body, hops=1)

    outcome = bench.send(hook, from_client_side(family, ping))

    assert outcome.reason == "answered_echo"
    pong = icmp(family, VIP[family], CLIENT[family], ECHO_REPLY[family], b"\x12\x34\x00\x01", body)
    assert outcome.frame == link(C0_MAC, CLIENT_MAC, family) + pong


@HOOKS
@FAMILIES
def test_the_answer_to_a_ping_keeps_its_tags(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    ping = from_client_side(family, icmp(family, CLIENT[family], VIP[family], ECHO[family], bytes(4), b"x" * 56))
    tags = b"\x88\xa8\x00\x07\x81\x00\x00\x05"

    outcome = bench.send(hook, ping[:12] + tags + ping[12:])

    assert outcome.reason == "answered_echo"
    assert outcome.frame[12:20] == tags
    pong = icmp(family, VIP[family], CLIENT[family], ECHO_REPLY[family], bytes(4), b"x" * 56)
    assert outcome.frame[22:] == pong


@HOOKS
@FAMILIES
def test_pings_to_others_pass(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    for address in (BACKENDS[family][0], SOURCE[family], STRANGER[family]):
        ping = icmp(family, CLIENT[family], address, ECHO[family], bytes(4), b"x" * 56)
        assert bench.send(hook, from_client_side(family, ping)).reason == "not_ours"
    pong = icmp(family, BACKENDS[family][0], CLIENT[family], ECHO_REPLY[family], bytes(4), b"x" * 56)
    assert bench.send(hook, from_backend_side(family, pong), "b0").reason == "not_ours"


@HOOKS
@FAMILIES
def test_a_vip_that_is_gone_answers_no_ping(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    for endpoint in bench.datapath.observe().vips:
        bench.apply(Delete(Table.VIPS, Endpoint(endpoint.address, endpoint.protocol, endpoint.port)))
    ping = icmp(family, CLIENT[family], VIP[family], ECHO[family], bytes(4), b"x")

    assert bench.send(hook, from_client_side(family, ping)).reason == "not_ours"


@HOOKS
@FAMILIES
def test_other_messages_to_a_vip_pass(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    for head in (ECHO_REPLY[family], (13, 0) if family == 4 else (139, 0)):
        message = icmp(family, CLIENT[family], VIP[family], head, bytes(4), b"x" * 20)
        assert bench.send(hook, from_client_side(family, message)).reason == "other_protocol"
