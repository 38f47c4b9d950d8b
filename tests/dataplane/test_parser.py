"""What the programs read in a frame: every branch of the parser, and every length at which a frame may be cut."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import B0_MAC, BACKEND_MAC, BACKEND_PORT, BACKENDS, SOURCE, Bench, Hook, shortest
from frames import locate, request, rewritten, without_rewritten_fields
from marks import FAMILIES, HOOKS
from parser_cases import (
    DESTINATION,
    FIRST_FRAGMENTS,
    FORWARDED,
    HOP,
    LATER_FRAGMENTS,
    PASSED,
    Case,
    options_header,
    patch,
    tagged,
    with_extensions,
    with_options,
)
from services import setup_service
from sluicegate_agent.datapath.model import Protocol

pytestmark = pytest.mark.kernel


def both(cases: list[Case]) -> list[tuple[Hook, Case]]:
    return [(hook, case) for case in cases for hook in case.hooks]


@pytest.fixture
def balanced(bench: Bench) -> Bench:
    """VIPs of both families with TCP and UDP on port 80."""
    for service, (family, protocol) in enumerate(((f, p) for f in (4, 6) for p in Protocol), start=1):
        setup_service(bench, family=family, protocol=protocol, service=service)
    return bench


@pytest.mark.parametrize(("hook", "case"), both(PASSED), ids=str)
def test_goes_to_the_stack_unmodified(balanced: Bench, hook: Hook, case: Case) -> None:
    assert balanced.send(hook, case.frame, case.device).reason == case.reason


@pytest.mark.parametrize(("hook", "case"), both(LATER_FRAGMENTS), ids=str)
def test_a_fragment_that_nobody_can_place_is_dropped(balanced: Bench, hook: Hook, case: Case) -> None:
    assert balanced.send(hook, case.frame).reason == case.reason


@pytest.mark.parametrize(("hook", "case"), both(FIRST_FRAGMENTS), ids=str)
def test_a_first_fragment_goes_the_way_of_a_whole_packet(balanced: Bench, hook: Hook, case: Case) -> None:
    outcome = balanced.send(hook, case.frame)

    assert outcome.reason == case.reason
    assert without_rewritten_fields(outcome.frame) == without_rewritten_fields(case.frame)


@pytest.mark.parametrize(("hook", "case"), both(FORWARDED), ids=str)
def test_is_forwarded_without_tags(balanced: Bench, hook: Hook, case: Case) -> None:
    outcome = balanced.send(hook, case.frame)

    assert outcome.reason == case.reason
    place = locate(outcome.frame)
    assert outcome.frame == rewritten(
        case.frame,
        source=SOURCE[place.family],
        destination=BACKENDS[place.family][0],
        sport=int.from_bytes(outcome.frame[place.transport : place.transport + 2]),
        dport=BACKEND_PORT,
        eth=(B0_MAC, BACKEND_MAC) if hook is Hook.XDP else None,
    )


@HOOKS
@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("tcp4", request(4)),
        ("udp4", request(4, Protocol.UDP, payload=b"data")),
        ("tcp6", request(6)),
        ("udp6", request(6, Protocol.UDP, payload=b"data")),
        ("tagged twice", tagged(request(4), 0x88A8, 0x8100)),
        ("options", with_options(10)),
        ("extension headers", with_extensions((HOP, options_header()), (DESTINATION, options_header(1)))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_frame_cut_anywhere_goes_to_the_stack(balanced: Bench, hook: Hook, kind: str, frame: bytes) -> None:
    for length in range(shortest(hook, frame), len(frame)):
        reason = balanced.send(hook, frame[:length]).reason
        assert reason in {"malformed", "not_ip"}, f"{kind} cut after {length} bytes: {reason}"
    assert balanced.send(hook, frame).reason == "forwarded_request"


@FAMILIES
def test_a_frame_in_several_buffers_is_read_like_any_other(bench: Bench, family: int) -> None:
    """Jumbo frames do not fit one page; XDP gets them in fragments."""
    setup_service(bench, family=family, nexthop=lambda row: replace(row, mtu=9000))
    frame = request(family, payload=bytes(range(250)) * 30)

    outcome = bench.send(Hook.XDP, frame)

    assert outcome.reason == "forwarded_request"
    assert without_rewritten_fields(outcome.frame) == without_rewritten_fields(frame)
    assert bench.send(Hook.XDP, frame[:-1]).reason == "malformed"


@HOOKS
def test_a_packet_may_end_before_its_frame_does(balanced: Bench, hook: Hook) -> None:
    """The IP header's length counts: a UDP datagram may be shorter than its packet, and this than its frame."""
    frame = request(4, Protocol.UDP, payload=b"12345678")
    shorter = patch(frame, 14 + 20 + 4, 0, 12)

    assert balanced.send(hook, shorter + bytes(9)).reason == "forwarded_request"
