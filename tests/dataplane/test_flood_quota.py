"""Half-open connections have a quota: what a SYN flood above it costs, and whom it does not touch."""

from __future__ import annotations

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
from flood import open_flows
from frames import reply, request, rewritten
from marks import FAMILIES, HOOKS, MODES, TRANSLATING
from probes import drawn_slots, drops, flows, half_open, limited, pass_epochs, send_to
from services import set_state, setup_service
from sluicegate_agent.datapath.model import Algorithm, BackendId, BackendState, ForwardingMode, Protocol

pytestmark = pytest.mark.kernel

STATELESS = pytest.mark.parametrize("mode", [ForwardingMode.DNAT, ForwardingMode.DIRECT_RETURN])
LIMIT = 5


def flood(bench: Bench, hook: Hook, family: int, count: int = LIMIT) -> None:
    """SYNs whose senders never come back."""
    opened = open_flows(bench, hook, family, Protocol.TCP, range(10000, 10000 + count))
    assert all(flow.backend for flow in opened)


def answer(family: int, mode: ForwardingMode, port: int, flags: str = "SA", backend: int = 0) -> bytes:
    to = SOURCE[family] if mode is ForwardingMode.FULL_NAT else CLIENT[family]
    return reply(family, flags=flags, to_port=port, to=to, backend=backend)


def setup(bench: Bench, family: int, mode: ForwardingMode, backends: int = 1, **more: object) -> list[BackendId]:
    return setup_service(
        bench,
        family=family,
        mode=mode,
        backends=backends,
        settings=limited(LIMIT),
        **more,  # type: ignore[arg-type]
    )


@HOOKS
@FAMILIES
def test_above_the_quota_full_nat_refuses(bench: Bench, hook: Hook, family: int) -> None:
    setup(bench, family, ForwardingMode.FULL_NAT)
    flood(bench, hook, family)
    assert half_open(bench) == LIMIT

    assert bench.send(hook, request(family)).reason == "flood"
    assert drops(bench) == 1
    assert half_open(bench) == LIMIT
    assert len(bench.rows("nat", family)[0]) == LIMIT


@HOOKS
@FAMILIES
@STATELESS
def test_above_the_quota_the_other_modes_go_by_hash(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode
) -> None:
    ids = setup(bench, family, mode, 3, algorithm=Algorithm.LEAST_LOAD)
    flood(bench, hook, family)
    before = [bench.load(backend) for backend in ids]

    for port in range(40000, 40010):
        (slot,) = drawn_slots(family, Protocol.TCP, port, 21, 1)
        for flags in ("S", "A", "PA", "FA"):
            outcome, backend = send_to(bench, hook, request(family, flags=flags, port=port))
            assert outcome.reason == "forwarded_request"
            assert backend == ids[slot % 3]

    assert flows(bench, family) == half_open(bench) == LIMIT
    assert [bench.load(backend) for backend in ids] == before


@HOOKS
@FAMILIES
@pytest.mark.parametrize("first_is_down", [False, True])
def test_an_honest_client_of_dnat_gets_through_a_flood(
    bench: Bench, hook: Hook, family: int, first_is_down: bool
) -> None:
    ids = setup(bench, family, ForwardingMode.DNAT, 3)
    flood(bench, hook, family)
    (slot,) = drawn_slots(family, Protocol.TCP, 40000, 21, 1)
    if first_is_down:
        set_state(bench, ids[slot % 3], BackendState.DOWN)
    backend = BACKENDS[family].index(bench.send(hook, request(family)).destination)
    assert (backend == slot % 3) != first_is_down

    def replied(flags: str) -> None:
        frame = answer(family, ForwardingMode.DNAT, 40000, flags, backend)
        outcome = bench.send(hook, frame, "b0")
        assert outcome.reason == "forwarded_reply"
        assert outcome.frame == rewritten(
            frame,
            source=VIP[family],
            destination=CLIENT[family],
            sport=VIP_PORT,
            dport=40000,
            eth=(C0_MAC, CLIENT_MAC),
        )

    def asked(flags: str) -> None:
        frame = request(family, flags=flags)
        outcome = bench.send(hook, frame)
        assert outcome.reason == "forwarded_request"
        assert outcome.frame == rewritten(
            frame,
            source=CLIENT[family],
            destination=BACKENDS[family][backend],
            sport=40000,
            dport=BACKEND_PORT,
            eth=(B0_MAC, BACKEND_MAC) if hook is Hook.XDP else None,
        )

    replied("SA")
    asked("A")
    asked("PA")
    assert flows(bench, family) == LIMIT, "a SYN, and its answer, may be forged"
    opened = bench.load(ids[backend])[0]
    replied("A")
    assert flows(bench, family) == LIMIT + 1
    assert bench.load(ids[backend])[0] == opened + 1
    assert half_open(bench) == LIMIT

    pass_epochs(bench, 4)
    replied("PA")
    asked("A")
    asked("FA")
    replied("FA")
    assert bench.load(ids[backend])[1] >= 1


@HOOKS
@FAMILIES
def test_a_refusal_in_a_flood_leaves_no_entry(bench: Bench, hook: Hook, family: int) -> None:
    setup(bench, family, ForwardingMode.DNAT)
    flood(bench, hook, family)
    bench.send(hook, request(family))

    outcome = bench.send(hook, answer(family, ForwardingMode.DNAT, 40000, "RA"), "b0")

    assert outcome.reason == "forwarded_reply"
    assert flows(bench, family) == LIMIT


@HOOKS
@FAMILIES
def test_in_a_flood_a_backend_speaks_for_the_vip_where_the_hash_says_so_alone(
    bench: Bench, hook: Hook, family: int
) -> None:
    setup(bench, family, ForwardingMode.DNAT, 3)
    flood(bench, hook, family)
    (slot,) = drawn_slots(family, Protocol.TCP, 40000, 21, 1)

    for backend in range(3):
        outcome = bench.send(hook, answer(family, ForwardingMode.DNAT, 40000, "A", backend), "b0")
        assert outcome.reason == ("forwarded_reply" if backend == slot % 3 else "no_translation")


@HOOKS
@FAMILIES
@MODES
@pytest.mark.parametrize("way", ["answered", "reset", "closed"])
def test_a_settled_flow_leaves_the_quota(bench: Bench, hook: Hook, family: int, mode: ForwardingMode, way: str) -> None:
    setup(bench, family, mode)
    port = 40000
    first = bench.send(hook, request(family))
    assert half_open(bench) == 1
    if way == "answered":
        if mode is not ForwardingMode.DIRECT_RETURN:
            bench.send(hook, answer(family, mode, first.source_port), "b0")
            assert half_open(bench) == 1
        bench.send(hook, request(family, flags="A", port=port))
    else:
        bench.send(hook, request(family, flags="RA" if way == "reset" else "FA", port=port))

    assert half_open(bench) == 0
    bench.send(hook, request(family, flags="FA", port=port))
    assert half_open(bench) == 0, "left only once"


@HOOKS
@FAMILIES
@MODES
def test_established_flows_and_udp_do_not_notice(bench: Bench, hook: Hook, family: int, mode: ForwardingMode) -> None:
    setup(bench, family, mode)
    first = bench.send(hook, request(family))
    if mode is not ForwardingMode.DIRECT_RETURN:
        bench.send(hook, answer(family, mode, first.source_port), "b0")
    bench.send(hook, request(family, flags="A"))
    flood(bench, hook, family)

    assert bench.send(hook, request(family, flags="PA")).reason == "forwarded_request"
    if mode is not ForwardingMode.DIRECT_RETURN:
        outcome = bench.send(hook, answer(family, mode, first.source_port, "A"), "b0")
        assert outcome.reason == "forwarded_reply"


@HOOKS
@FAMILIES
@MODES
def test_udp_has_no_quota(bench: Bench, hook: Hook, family: int, mode: ForwardingMode) -> None:
    setup_service(bench, family=family, protocol=Protocol.UDP, mode=mode, settings=limited(0))

    assert bench.send(hook, request(family, Protocol.UDP)).reason == "forwarded_request"
    assert half_open(bench) == 0
    assert flows(bench, family) == 1


@HOOKS
@FAMILIES
def test_a_syn_sent_again_counts_once(bench: Bench, hook: Hook, family: int) -> None:
    setup(bench, family, ForwardingMode.FULL_NAT)
    for _ in range(3):
        bench.send(hook, request(family))

    assert half_open(bench) == 1


@HOOKS
@FAMILIES
@pytest.mark.parametrize(("epochs", "refused"), [(1, True), (3, True), (4, False), (1000, False)])
def test_what_timed_out_leaves_the_quota(bench: Bench, hook: Hook, family: int, epochs: int, refused: bool) -> None:
    """Nothing else would take a flow out that was evicted. Seen from an epoch of one new flow to the next."""
    setup(bench, family, ForwardingMode.FULL_NAT)
    flood(bench, hook, family)
    for _ in range(min(epochs, 4)):
        pass_epochs(bench, 1 if epochs <= 4 else epochs)
        outcome = bench.send(hook, request(family))
        if outcome.reason == "forwarded_request":
            break

    assert (outcome.reason == "flood") == refused


@HOOKS
def test_a_cpu_whose_clock_is_a_tick_behind_forgets_nothing(bench: Bench, hook: Hook) -> None:
    """Another CPU saw the next epoch first."""
    setup(bench, 4, ForwardingMode.FULL_NAT)
    flood(bench, hook, 4)
    pass_epochs(bench, -1)

    assert bench.send(hook, request(4)).reason == "flood"


@TRANSLATING
def test_the_quota_is_a_services_own(bench: Bench, mode: ForwardingMode) -> None:
    setup(bench, 4, mode)
    setup(bench, 4, mode, service=2, vip="203.0.113.20")
    flood(bench, Hook.XDP, 4)

    outcome = bench.send(Hook.XDP, request(4, vip="203.0.113.20"))

    assert outcome.reason == "forwarded_request"
    assert half_open(bench, 2) == 1
