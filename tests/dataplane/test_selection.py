"""Which backend gets a new flow, and where flows go when backends and tables change under them."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest

from bench import BACKENDS, CLIENT, VIP, VIP_PORT, Bench, Hook
from flood import open_flows
from frames import reply, request
from marks import FAMILIES, HOOKS, PROTOCOLS, TRANSLATING
from services import SETTINGS, backend_row, set_state, set_table, setup_service
from sluicegate_agent.datapath.model import (
    Algorithm,
    BackendId,
    BackendState,
    Endpoint,
    ForwardingMode,
    FrontendId,
    Protocol,
    Put,
    Table,
    address_hash,
)

pytestmark = pytest.mark.kernel

PORTS = range(10000, 10900)


def mix(value: int) -> int:
    """MurmurHash3's finalizer (Appleby, 2011)."""
    value ^= value >> 16
    value = value * 0x85EBCA6B & 0xFFFFFFFF
    value ^= value >> 13
    value = value * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def slot_of(family: int, protocol: Protocol, port: int, slots: int) -> int:
    """The slot of a client's flow, as ``flow_hash()`` and ``draw()`` in bpf/hash.h define it."""
    value = SETTINGS.seed
    words = zip(*(struct.iter_unpack("<I", ip_address(text[family]).packed) for text in (CLIENT, VIP)), strict=True)
    for (source,), (destination,) in words:
        value = (mix(value ^ source) + destination) & 0xFFFFFFFF
    (sport, dport) = struct.unpack("<HH", struct.pack("!HH", port, VIP_PORT))
    value = mix(value ^ (sport << 16 | dport))
    return mix(mix((value + protocol) & 0xFFFFFFFF)) * slots >> 32


def index_of(family: int, address: bytes) -> int:
    return [ip_address(text).packed for text in BACKENDS[family]].index(address)


def shares(family: int, bench: Bench, hook: Hook, protocol: Protocol = Protocol.TCP) -> Counter[int]:
    """Flows by index of backend."""
    return Counter(index_of(family, flow.backend) for flow in open_flows(bench, hook, family, protocol, PORTS))


@HOOKS
@FAMILIES
@PROTOCOLS
def test_maglev_follows_the_table_and_the_hash(bench: Bench, hook: Hook, family: int, protocol: Protocol) -> None:
    table = tuple(index % 3 for index in (*range(50), *range(0, 50, 2), 1))
    setup_service(bench, family=family, protocol=protocol, backends=3, slots=table)

    opened = open_flows(bench, hook, family, protocol, PORTS)

    chosen = [index_of(family, flow.backend) for flow in opened]
    assert chosen == [table[slot_of(family, protocol, port, len(table))] for port in PORTS]


@HOOKS
@FAMILIES
def test_shares_of_many_clients_are_those_of_the_table(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, backends=3, slots=(0,) * 60 + (1,) * 30 + (2,) * 10)

    seen = shares(family, bench, hook)

    for backend, share in enumerate((0.6, 0.3, 0.1)):
        assert seen[backend] / len(PORTS) == pytest.approx(share, abs=0.05)


@FAMILIES
@TRANSLATING
def test_round_robin_is_exactly_even_over_both_hooks(bench: Bench, family: int, mode: ForwardingMode) -> None:
    setup_service(bench, family=family, mode=mode, algorithm=Algorithm.ROUND_ROBIN, backends=3)

    chosen = []
    for port in range(40000, 40030):
        hook = Hook.XDP if port % 2 else Hook.TC
        chosen.append(bench.send(hook, request(family, port=port)).destination)

    assert chosen == BACKENDS[family] * 10


def test_a_packet_that_xdp_leaves_to_tc_takes_one_turn_of_round_robin(bench: Bench) -> None:
    setup_service(
        bench, family=4, algorithm=Algorithm.ROUND_ROBIN, backends=3, nexthop=lambda row: replace(row, xdp=False)
    )
    chosen = []
    for port in range(40000, 40006):
        assert bench.send(Hook.XDP, request(4, port=port)).reason == "no_redirect"
        chosen.append(bench.send(Hook.TC, request(4, port=port)).destination)

    assert chosen == BACKENDS[4] * 2
    assert [bench.load(backend) for backend in (10, 11, 12)] == [(2, 0)] * 3


@HOOKS
@FAMILIES
@pytest.mark.parametrize("algorithm", Algorithm)
def test_an_empty_table_refuses_new_flows(bench: Bench, hook: Hook, family: int, algorithm: Algorithm) -> None:
    setup_service(bench, family=family, algorithm=algorithm, slots=())

    assert bench.send(hook, request(family)).reason == "no_backend"
    assert bench.send(hook, request(family, flags="A")).reason == "no_flow"
    assert bench.datapath.counters().frontends[FrontendId(1)].dropped == 2


@HOOKS
@FAMILIES
@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("state", [BackendState.FREE, BackendState.DOWN, BackendState.DRAINING])
def test_slots_of_a_backend_that_takes_no_flows_are_passed_over(
    bench: Bench, hook: Hook, family: int, algorithm: Algorithm, state: BackendState
) -> None:
    ids = setup_service(bench, family=family, algorithm=algorithm, backends=3)
    set_state(bench, ids[1], state)

    opened = open_flows(bench, hook, family, Protocol.TCP, PORTS)

    found = Counter(index_of(family, flow.backend) for flow in opened if flow.nat_port)
    assert found[1] == 0
    assert found[0] + found[2] > 0.95 * len(PORTS)  # four draws fail once in 81


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("state", [BackendState.DOWN, BackendState.DRAINING, BackendState.FREE])
def test_a_syn_leaves_a_backend_that_takes_no_new_connections(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode, state: BackendState
) -> None:
    ids = setup_service(bench, family=family, mode=mode, backends=2)
    set_table(bench, (ids[0],))
    assert bench.send(hook, request(family)).destination == BACKENDS[family][0]

    set_table(bench, (ids[1],) * 3)
    assert bench.send(hook, request(family)).destination == BACKENDS[family][0], "a SYN sent again"
    set_state(bench, ids[0], state)

    assert bench.send(hook, request(family)).destination == BACKENDS[family][1]


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize(
    ("protocol", "state", "backend"),
    [
        (Protocol.TCP, BackendState.DOWN, 0),
        (Protocol.TCP, BackendState.DRAINING, 0),
        (Protocol.TCP, BackendState.FREE, None),
        (Protocol.UDP, BackendState.DOWN, 1),
        (Protocol.UDP, BackendState.DRAINING, 0),
        (Protocol.UDP, BackendState.FREE, 1),
    ],
)
def test_where_a_flow_goes_when_its_backend_changes_state(
    bench: Bench,
    hook: Hook,
    family: int,
    mode: ForwardingMode,
    protocol: Protocol,
    state: BackendState,
    backend: int | None,
) -> None:
    ids = setup_service(bench, family=family, protocol=protocol, mode=mode, backends=2)
    set_table(bench, (ids[0],))
    bench.send(hook, request(family, protocol))
    set_table(bench, (ids[1],))

    set_state(bench, ids[0], state)

    outcome = bench.send(hook, request(family, protocol, "A"))
    if backend is None:
        assert outcome.reason == "backend_gone"
        assert bench.datapath.counters().frontends[FrontendId(1)].dropped == 1
    else:
        assert outcome.reason == "forwarded_request"
        assert outcome.destination == BACKENDS[family][backend]


@HOOKS
@FAMILIES
@TRANSLATING
def test_a_backend_that_got_a_freed_id_gets_no_old_flows(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode
) -> None:
    (old,) = setup_service(bench, family=family, mode=mode)
    first = bench.send(hook, request(family))
    set_state(bench, old, BackendState.FREE)
    newcomer = backend_row(family, Protocol.TCP, mode, ip_address(BACKENDS[family][1]), old, generation=2)
    bench.apply(Put(Table.BACKENDS, old, newcomer))

    assert bench.send(hook, request(family, flags="A")).reason == "backend_gone"

    to = None if mode is ForwardingMode.FULL_NAT else CLIENT[family]
    last_words = reply(family, flags="RA", to_port=first.source_port, to=to)
    full_nat = mode is ForwardingMode.FULL_NAT
    assert bench.send(hook, last_words, "b0").reason == ("forwarded_reply" if full_nat else "no_translation")
    assert bench.load(old) == (0, 0)
    assert bench.datapath.counters().backends[BackendId(old)].reply_packets == 0
    assert bench.send(hook, request(family)).destination == BACKENDS[family][1]
    assert bench.load(old) == (1, 0)


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("length", [1, 5, 4093, 16381])
def test_flows_stay_where_they_are_when_the_table_is_swapped(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode, length: int
) -> None:
    ids = setup_service(bench, family=family, mode=mode, backends=2)
    before = {port: bench.send(hook, request(family, port=port)).destination for port in range(40000, 40020)}

    set_table(bench, (ids[1],) * length)

    for port, backend in before.items():
        assert bench.send(hook, request(family, flags="A", port=port)).destination == backend
    for port in range(41000, 41010):
        assert bench.send(hook, request(family, port=port)).destination == BACKENDS[family][1]


@HOOKS
def test_vips_of_one_service_share_its_table_and_turns(bench: Bench, hook: Hook) -> None:
    setup_service(bench, family=4, algorithm=Algorithm.ROUND_ROBIN, backends=3)
    state = bench.datapath.observe()
    other = Endpoint(ip_address("203.0.113.20"), Protocol.TCP, VIP_PORT)
    row = replace(state.frontends[FrontendId(1)], endpoint=other)
    vip_bits = state.filter.vips | {address_hash(other.address)}
    bench.apply(
        Put(Table.FRONTENDS, FrontendId(2), row),
        Put(Table.FILTER, None, replace(state.filter, vips=vip_bits)),
        Put(Table.VIPS, other, FrontendId(2)),
    )

    vips = [VIP[4], str(other.address)] * 3
    chosen = [bench.send(hook, request(4, vip=vip, port=40000 + turn)).destination for turn, vip in enumerate(vips)]

    assert chosen == BACKENDS[4] * 2
