"""Direct return: the backend owns the VIP and answers the client itself; the node sees requests only."""

from __future__ import annotations

from itertools import product

import pytest

from bench import B0_MAC, BACKEND_MAC, CLIENT, VIP, VIP_PORT, Bench, Hook
from frames import from_client, ip_layer, locate, partial_checksum, request, rewritten, transport
from marks import FAMILIES, HOOKS, PROTOCOLS
from probes import drawn_slots, flows, send_to
from services import IDLE_SECONDS, SETTINGS, set_state, set_table, setup_service
from sluicegate_agent.datapath.model import Algorithm, BackendId, BackendState, ForwardingMode, Protocol

pytestmark = pytest.mark.kernel

DIRECT = ForwardingMode.DIRECT_RETURN
ESTABLISHED, CLIENT_FIN, BACKEND_FIN, RESET = 1, 4, 8, 16


def state(bench: Bench, family: int) -> int:
    """Of the only flow there is."""
    _, values = bench.rows("flows", family)
    assert len(values) == 1
    return int(values["state"][0])


@pytest.mark.parametrize(("hook", "family", "protocol"), list(product(Hook, (4, 6), Protocol)))
def test_only_the_hop_changes(bench: Bench, hook: Hook, family: int, protocol: Protocol) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=DIRECT)
    for flags, payload in (("S", b""), ("A", b""), ("PA", b"question"), ("FA", b"")):
        frame = request(family, protocol, flags, payload=payload)
        outcome = bench.send(hook, frame)

        assert outcome.reason == "forwarded_request"
        eth = (B0_MAC, BACKEND_MAC) if hook is Hook.XDP else None
        assert outcome.frame == rewritten(
            frame, source=CLIENT[family], destination=VIP[family], sport=40000, dport=VIP_PORT, eth=eth
        )
        assert outcome.frame[locate(outcome.frame).transport :] == frame[locate(frame).transport :]


@FAMILIES
@PROTOCOLS
def test_an_unfinished_checksum_stays_as_it_is(bench: Bench, family: int, protocol: Protocol) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=DIRECT)
    frame = partial_checksum(request(family, protocol))

    assert bench.send(Hook.XDP, frame).reason == "partial_checksum"
    outcome = bench.send(Hook.TC, frame)

    assert outcome.reason == "forwarded_request"
    assert outcome.frame[locate(frame).transport :] == frame[locate(frame).transport :]


@HOOKS
@FAMILIES
@PROTOCOLS
def test_a_flow_stays_with_its_backend(bench: Bench, hook: Hook, family: int, protocol: Protocol) -> None:
    ids = setup_service(bench, family=family, protocol=protocol, mode=DIRECT, backends=3)
    first = {port: send_to(bench, hook, request(family, protocol, port=port))[1] for port in range(40000, 40010)}
    assert len(set(first.values())) > 1

    set_table(bench, (ids[0],) * 5)

    for port, backend in first.items():
        assert send_to(bench, hook, request(family, protocol, "A", port=port))[1] == backend


@HOOKS
@FAMILIES
@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_connection_that_began_elsewhere_goes_where_its_hash_points(
    bench: Bench, hook: Hook, family: int, algorithm: Algorithm
) -> None:
    """Another node with the same table sent it there; turns and loads of this one say nothing about that."""
    ids = setup_service(bench, family=family, mode=DIRECT, algorithm=algorithm, backends=3)
    for backend in ids[1:]:
        bench.tables["backend_fix"].put(backend, (-5 + 10 * backend).to_bytes(8, "little", signed=True))

    for port in range(40000, 40010):
        (slot,) = drawn_slots(family, Protocol.TCP, port, 21, 1)
        outcome, backend = send_to(bench, hook, request(family, flags="A", port=port))
        assert outcome.reason == "forwarded_request"
        assert backend == ids[slot % 3]
    assert flows(bench, family) == 10
    _, values = bench.rows("flows", family)
    assert set(values["state"].tolist()) == {ESTABLISHED}


@HOOKS
@FAMILIES
@pytest.mark.parametrize("flags", ["FA", "R", "RA"])
def test_the_end_of_an_unknown_connection_is_forwarded_and_forgotten(
    bench: Bench, hook: Hook, family: int, flags: str
) -> None:
    (backend,) = setup_service(bench, family=family, mode=DIRECT)

    assert bench.send(hook, request(family, flags=flags)).reason == "forwarded_request"
    assert flows(bench, family) == 0
    assert bench.load(backend) == (0, 0)


@HOOKS
@FAMILIES
def test_the_clients_word_must_do_for_both_sides(bench: Bench, hook: Hook, family: int) -> None:
    (backend,) = setup_service(bench, family=family, mode=DIRECT)
    bench.send(hook, request(family))
    assert state(bench, family) == 0
    bench.send(hook, request(family, flags="A"))
    assert state(bench, family) == ESTABLISHED
    assert bench.load(backend) == (1, 0)

    bench.send(hook, request(family, flags="FA"))

    assert state(bench, family) & (CLIENT_FIN | BACKEND_FIN) == CLIENT_FIN | BACKEND_FIN
    assert bench.load(backend) == (1, 1)
    assert bench.send(hook, request(family, flags="A")).reason == "forwarded_request", "the last ACK"
    assert bench.load(backend) == (1, 1)


@HOOKS
@FAMILIES
@pytest.mark.parametrize("last", ["FA", "RA"])
def test_a_syn_after_the_end_chooses_anew(bench: Bench, hook: Hook, family: int, last: str) -> None:
    ids = setup_service(bench, family=family, mode=DIRECT, backends=2)
    set_table(bench, (ids[0],))
    for flags in ("S", "A", last):
        assert send_to(bench, hook, request(family, flags=flags))[1] == ids[0]
    set_table(bench, (ids[1],))

    assert send_to(bench, hook, request(family))[1] == ids[1]
    assert state(bench, family) == 0


@HOOKS
@FAMILIES
@pytest.mark.parametrize(
    ("protocol", "packets", "limit"),
    [
        (Protocol.TCP, ("S",), SETTINGS.half_open_seconds),
        (Protocol.TCP, ("S", "A"), IDLE_SECONDS),
        (Protocol.TCP, ("S", "A", "FA"), SETTINGS.closed_rest_seconds),
        (Protocol.UDP, ("",), IDLE_SECONDS),
    ],
)
def test_a_silent_flow_expires(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, packets: tuple[str, ...], limit: float
) -> None:
    (backend,) = setup_service(bench, family=family, protocol=protocol, mode=DIRECT)
    for flags in packets:
        bench.send(hook, request(family, protocol, flags))
    bench.age("flows", family, limit - 1)
    bench.send(hook, request(family, protocol, packets[-1]))
    assert bench.load(backend)[0] == 1
    bench.age("flows", family, limit + 1)

    bench.send(hook, request(family, protocol, "A"))

    assert bench.load(backend)[0] == 2


@HOOKS
@FAMILIES
@pytest.mark.parametrize(
    ("protocol", "change", "stays"),
    [
        (Protocol.TCP, BackendState.DOWN, True),
        (Protocol.TCP, BackendState.DRAINING, True),
        (Protocol.UDP, BackendState.DOWN, False),
        (Protocol.UDP, BackendState.DRAINING, True),
        (Protocol.UDP, BackendState.FREE, False),
    ],
)
def test_where_a_flow_goes_when_its_backend_changes_state(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, change: BackendState, stays: bool
) -> None:
    ids = setup_service(bench, family=family, protocol=protocol, mode=DIRECT, backends=2)
    set_table(bench, (ids[0],))
    bench.send(hook, request(family, protocol))
    set_table(bench, (ids[1],))
    set_state(bench, ids[0], change)

    assert send_to(bench, hook, request(family, protocol, "A"))[1] == (ids[0] if stays else ids[1])


@HOOKS
@FAMILIES
def test_an_unknown_connection_without_a_backend_is_refused(bench: Bench, hook: Hook, family: int) -> None:
    ids = setup_service(bench, family=family, mode=DIRECT)
    set_state(bench, BackendId(ids[0]), BackendState.DOWN)

    for flags in ("S", "A"):
        assert bench.send(hook, request(family, flags=flags)).reason == "no_backend"


@HOOKS
def test_tags_and_extension_headers_of_a_request(bench: Bench, hook: Hook) -> None:
    """A tag belongs to the incoming network; options go with the packet."""
    setup_service(bench, family=4, mode=DIRECT)
    ip = ip_layer(4, CLIENT[4], VIP[4])
    ip.options = b"\x01" * 8
    frame = bytes(from_client(ip, transport(Protocol.TCP, "S", 40000, VIP_PORT)))
    tagged = frame[:12] + b"\x81\x00\x00\x05" + frame[12:]

    outcome = bench.send(hook, tagged)

    eth = (B0_MAC, BACKEND_MAC) if hook is Hook.XDP else None
    assert outcome.frame == rewritten(tagged, source=CLIENT[4], destination=VIP[4], sport=40000, dport=80, eth=eth)
