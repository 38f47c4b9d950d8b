"""DNAT: backends see the client itself, so one backend behind several VIPs must tell their flows apart."""

from __future__ import annotations

import pytest

from bench import BACKENDS, CLIENT, OTHER_VIP, VIP, Bench, Hook
from frames import locate, reply, request
from marks import FAMILIES, HOOKS, PROTOCOLS
from services import IDLE_SECONDS, SETTINGS, setup_service
from sluicegate_agent.datapath.model import ForwardingMode, Protocol

pytestmark = pytest.mark.kernel

DNAT = ForwardingMode.DNAT


def two_vips(bench: Bench, family: int, backends: int = 1, protocol: Protocol = Protocol.TCP) -> None:
    """Two services with the same backends."""
    for service, vip in enumerate((VIP, OTHER_VIP), start=1):
        setup_service(
            bench, family=family, protocol=protocol, mode=DNAT, backends=backends, service=service, vip=vip[family]
        )


def answer(family: int, port: int, flags: str = "SA", backend: int = 0, protocol: Protocol = Protocol.TCP) -> bytes:
    return reply(family, protocol, flags, to_port=port, to=CLIENT[family], backend=backend)


def sender(frame: bytes) -> str:
    place = locate(frame)
    return frame[place.network + (12 if place.family == 4 else 8) :][: 4 if place.family == 4 else 16].hex()


@HOOKS
@FAMILIES
def test_replies_of_a_shared_backend_come_from_the_vip_that_was_asked(bench: Bench, hook: Hook, family: int) -> None:
    two_vips(bench, family)
    senders = []
    for port, vip in ((40000, VIP), (40001, OTHER_VIP)):
        frame = request(family, port=port, vip=vip[family])
        assert bench.send(hook, frame).reason == "forwarded_request"
        asked = frame[locate(frame).network :][16:20] if family == 4 else frame[locate(frame).network :][24:40]
        senders.append((port, asked.hex()))

    for port, vip_bytes in senders:
        outcome = bench.send(hook, answer(family, port), "b0")
        assert outcome.reason == "forwarded_reply"
        assert sender(outcome.frame) == vip_bytes


@HOOKS
@FAMILIES
@PROTOCOLS
def test_a_clients_port_is_not_used_twice_towards_one_backend(
    bench: Bench, hook: Hook, family: int, protocol: Protocol
) -> None:
    two_vips(bench, family, protocol=protocol)
    assert bench.send(hook, request(family, protocol)).reason == "forwarded_request"

    assert bench.send(hook, request(family, protocol, vip=OTHER_VIP[family])).reason == "dnat_clash"
    assert bench.send(hook, request(family, protocol, vip=OTHER_VIP[family], port=40001)).reason == "forwarded_request"


@HOOKS
@FAMILIES
def test_a_clash_leads_to_another_backend(bench: Bench, hook: Hook, family: int) -> None:
    """The table's first draw may be the backend in use; the next draws are others."""
    two_vips(bench, family, backends=3)
    refused = 0
    for port in range(40000, 40050):
        first = bench.send(hook, request(family, port=port))
        second = bench.send(hook, request(family, port=port, vip=OTHER_VIP[family]))
        if second.reason == "dnat_clash":  # all four draws hit the same backend: one in 81
            refused += 1
            continue
        assert second.reason == "forwarded_request"
        assert second.destination != first.destination
        for outcome in (first, second):
            backend = BACKENDS[family].index(outcome.destination)
            assert bench.send(hook, answer(family, port, backend=backend), "b0").reason == "forwarded_reply"
    assert refused <= 5


@HOOKS
@FAMILIES
@pytest.mark.parametrize("why", ["closed", "expired"])
def test_a_port_is_free_again_once_its_flow_is_over(bench: Bench, hook: Hook, family: int, why: str) -> None:
    two_vips(bench, family)
    bench.send(hook, request(family))
    if why == "closed":
        bench.send(hook, answer(family, 40000, "RA"), "b0")
    else:
        bench.age("flows", family, SETTINGS.half_open_seconds + 1)

    assert bench.send(hook, request(family, vip=OTHER_VIP[family])).reason == "forwarded_request"


@HOOKS
@FAMILIES
def test_other_traffic_of_a_backend_passes(bench: Bench, hook: Hook, family: int) -> None:
    two_vips(bench, family)
    bench.send(hook, request(family))

    assert bench.send(hook, answer(family, 40001), "b0").reason == "no_translation"
    own = reply(family, to_port=40000, to=CLIENT[family])
    own = own[: locate(own).transport] + (22).to_bytes(2) + own[locate(own).transport + 2 :]
    assert bench.send(hook, own, "b0").reason == "no_translation"


@HOOKS
@FAMILIES
@pytest.mark.parametrize(
    ("protocol", "established", "limit"),
    [
        (Protocol.TCP, True, IDLE_SECONDS),
        (Protocol.TCP, False, SETTINGS.half_open_seconds),
        (Protocol.UDP, False, IDLE_SECONDS),
    ],
)
def test_a_silent_flow_expires(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, established: bool, limit: float
) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=DNAT)
    bench.send(hook, request(family, protocol))
    if established:
        bench.send(hook, answer(family, 40000), "b0")
        bench.send(hook, request(family, flags="A"))
    bench.age("flows", family, limit - 1)
    frame = answer(family, 40000, "A", protocol=protocol)
    assert bench.send(hook, frame, "b0").reason == "forwarded_reply"

    bench.age("flows", family, limit + 1)

    assert bench.send(hook, frame, "b0").reason == "no_translation"
    reason = "no_flow" if protocol is Protocol.TCP else "forwarded_request"
    assert bench.send(hook, request(family, protocol, "A")).reason == reason


@HOOKS
@FAMILIES
def test_a_connection_that_is_not_known_is_refused(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, mode=DNAT)

    assert bench.send(hook, request(family, flags="A")).reason == "no_flow"
