"""LeastLoad: candidates drawn from the weighted table, compared by the flows they hold; and counts that stay right."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

import pytest

from bench import BACKENDS, Bench, Hook
from flood import open_flows
from frames import reply, request
from marks import FAMILIES, HOOKS, PROTOCOLS, TRANSLATING
from probes import drawn_slots
from services import IDLE_SECONDS, set_state, setup_service
from sluicegate_agent.datapath.model import Algorithm, BackendId, BackendState, ForwardingMode, Protocol, Put, Table

pytestmark = pytest.mark.kernel

DRAWS = 4
SHARES = (0, 1, 1, 2, 2, 2, 2) * 3
WEIGHTS = (1000, 2000, 4000)


def set_load(bench: Bench, backend: BackendId, opened: int, closed: int = 0, fix: int = 0) -> None:
    """What the programs and the agent's sweep count for a backend."""
    table = bench.tables["backend_load"]
    row = bytearray(table.value.itemsize)
    row[0:8], row[8:16] = opened.to_bytes(8, "little"), closed.to_bytes(8, "little")
    table.put(backend, bytes(row))
    bench.tables["backend_fix"].put(backend, fix.to_bytes(8, "little", signed=True))


def best_of(candidates: list[int], flows: list[int], weights: tuple[int, ...]) -> int:
    """(2n + 1) / w of each candidate; the first draw wins ties and the choice among idle ones."""
    best = candidates[0]
    for candidate in candidates[1:]:
        if not flows[candidate] and not flows[best]:
            continue
        if (2 * flows[candidate] + 1) * weights[best] < (2 * flows[best] + 1) * weights[candidate]:
            best = candidate
    return best


def chosen(bench: Bench, hook: Hook, family: int, ports: range, protocol: Protocol = Protocol.TCP) -> list[int]:
    addresses = [ip_address(text).packed for text in BACKENDS[family]]
    return [addresses.index(flow.backend) for flow in open_flows(bench, hook, family, protocol, ports)]


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("weights", [WEIGHTS, (1000, 1000, 1000)], ids=["weighted", "equal"])
def test_each_choice_is_the_least_loaded_of_four_draws(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode, weights: tuple[int, ...]
) -> None:
    ids = setup_service(
        bench,
        family=family,
        mode=mode,
        algorithm=Algorithm.LEAST_LOAD,
        backends=3,
        slots=SHARES,
        weights=weights,
    )
    loads = [(900, 880, -5), (70, 50, 10), (10, 0, 0)]
    for backend, load in zip(ids, loads, strict=True):
        set_load(bench, backend, *load)
    flows = [opened - closed + fix for opened, closed, fix in loads]

    ports = range(10000, 10200)
    for port, choice in zip(ports, chosen(bench, hook, family, ports), strict=True):
        candidates = [SHARES[slot] for slot in drawn_slots(family, Protocol.TCP, port, len(SHARES), DRAWS)]
        assert choice == best_of(candidates, flows, weights)
        flows[choice] += 1


@HOOKS
def test_among_idle_backends_the_first_draw_wins(bench: Bench, hook: Hook) -> None:
    setup_service(bench, family=4, algorithm=Algorithm.LEAST_LOAD, backends=3, slots=SHARES, weights=WEIGHTS)
    for port in range(10000, 10030):
        for backend in (10, 11, 12):
            set_load(bench, BackendId(backend), 5, 5)

        (slot,) = drawn_slots(4, Protocol.TCP, port, len(SHARES), 1)
        assert chosen(bench, hook, 4, range(port, port + 1)) == [SHARES[slot]]


@HOOKS
def test_more_closed_than_opened_counts_as_idle(bench: Bench, hook: Hook) -> None:
    """A sweep under way may correct too much; that must not make a backend better than an idle one."""
    ids = setup_service(bench, family=4, algorithm=Algorithm.LEAST_LOAD, backends=2, slots=(0, 1))
    for port in range(10000, 10030):
        set_load(bench, ids[0], 0, 100)
        set_load(bench, ids[1], 0, 0)

        (slot,) = drawn_slots(4, Protocol.TCP, port, 2, 1)
        assert chosen(bench, hook, 4, range(port, port + 1)) == [slot]


@HOOKS
@FAMILIES
def test_a_full_backend_gets_next_to_nothing(bench: Bench, hook: Hook, family: int) -> None:
    ids = setup_service(bench, family=family, algorithm=Algorithm.LEAST_LOAD, backends=3)
    set_load(bench, ids[0], 10_000)

    counts = Counter(chosen(bench, hook, family, range(10000, 10300)))

    assert counts[0] < 20  # four draws of it alone: one in 81
    assert abs(counts[1] - counts[2]) < 30


def counted(bench: Bench, backend: BackendId) -> int:
    """What selection takes for the number of the backend's flows."""
    opened, closed = bench.load(backend)
    fix = bench.tables["backend_fix"].get(backend)
    assert fix is not None
    return opened - closed + int(fix["value"])


def sweep_until_settled(bench: Bench, backend: BackendId) -> list[int]:
    """The count after each sweep, until it stands still."""
    seen = [counted(bench, backend)]
    while len(seen) < 2 or seen[-1] != seen[-2]:
        bench.datapath.sweep()
        seen.append(counted(bench, backend))
        assert len(seen) < 40
    return seen


@pytest.mark.parametrize("wrong", [-1000, -7, -1, 1, 2, 3, 1000])
def test_a_sweep_brings_counts_half_way_to_the_live_flows(bench: Bench, wrong: int) -> None:
    (backend,) = setup_service(bench, family=4, mode=ForwardingMode.DNAT, algorithm=Algorithm.LEAST_LOAD)
    open_flows(bench, Hook.XDP, 4, Protocol.TCP, range(10000, 10020))
    bench.tables["backend_fix"].put(backend, wrong.to_bytes(8, "little", signed=True))

    seen = sweep_until_settled(bench, backend)

    assert seen[-1] == 20
    errors = [abs(count - 20) for count in seen]
    assert all(after <= -(-before // 2) for before, after in itertools.pairwise(errors))


@FAMILIES
@PROTOCOLS
def test_evicted_flows_are_not_counted_for_long(bench: Bench, family: int, protocol: Protocol) -> None:
    (backend,) = setup_service(
        bench, family=family, protocol=protocol, mode=ForwardingMode.DNAT, algorithm=Algorithm.LEAST_LOAD
    )
    open_flows(bench, Hook.XDP, family, protocol, range(10000, 10100))
    keys, _ = bench.rows("flows", family)
    for key in keys[:60]:
        bench.tables.by_family("flows", family).map.delete(key.tobytes())
    assert counted(bench, backend) == 100

    assert sweep_until_settled(bench, backend)[-1] == 40


@FAMILIES
@TRANSLATING
@PROTOCOLS
def test_flows_whose_end_was_not_seen_are_not_counted_for_long(
    bench: Bench, family: int, mode: ForwardingMode, protocol: Protocol
) -> None:
    (backend,) = setup_service(bench, family=family, protocol=protocol, mode=mode, algorithm=Algorithm.LEAST_LOAD)
    open_flows(bench, Hook.TC, family, protocol, range(10000, 10050))
    bench.age_flows(family, IDLE_SECONDS + 1)
    open_flows(bench, Hook.XDP, family, protocol, range(20000, 20010))

    assert sweep_until_settled(bench, backend)[-1] == 10


@FAMILIES
def test_a_closed_flow_counts_no_more_at_once(bench: Bench, family: int) -> None:
    (backend,) = setup_service(bench, family=family, algorithm=Algorithm.LEAST_LOAD)
    first = bench.send(Hook.XDP, request(family))
    assert counted(bench, backend) == 1
    bench.send(Hook.XDP, reply(family, flags="FA", to_port=first.source_port), "b0")

    assert counted(bench, backend) == 0
    bench.send(Hook.XDP, request(family, flags="FA"))
    bench.datapath.sweep()
    assert counted(bench, backend) == 0


@FAMILIES
def test_a_backend_under_a_freed_id_starts_at_nothing(bench: Bench, family: int) -> None:
    (backend,) = setup_service(bench, family=family, algorithm=Algorithm.LEAST_LOAD)
    set_load(bench, backend, 50, 10, -7)
    row = bench.datapath.observe().backends[backend]

    set_state(bench, backend, BackendState.FREE)
    bench.apply(Put(Table.BACKENDS, backend, replace(row, generation=2)))

    assert counted(bench, backend) == 0
