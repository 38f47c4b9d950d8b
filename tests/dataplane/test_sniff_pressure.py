"""Rings: which one a flow's records go to, and what happens when nobody reads them, or not fast enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marks import ALL_HOOKS, FAMILIES
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.sniffing.flows import worker_of
from sluicegate_agent.sniffing.model import SniffState, SniffWhy
from sniff_bench import BIG_ENTRY, PLAN, RING_BYTES, SMALL_ENTRY, SniffBench, there

pytestmark = pytest.mark.kernel

PAGE = 4096
ROOM = PAGE // SMALL_ENTRY
"""Small entries in a ring of one page, which never holds its last byte."""
MANY = Budget(1000, 1 << 20, 1000)
LEVELS = [(0, 19, 16), (1, 21, 8), (1, 29, 8), (2, 31, 4), (2, 35, 4), (3, 36, 2)]
"""How often a budget of 16 packets is halved; big entries that wait, near the level's borders; packets that may go."""


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_flows_records_go_to_the_worker_of_its_slot(
    sniffer: SniffBench, hook: str, family: int, workers: int
) -> None:
    sniffer.read_by(workers)
    sniffer.tap(hook=hook)
    for port in range(1, 13):
        sniffer.send(hook, there(family, port=port), there(family, port=port))
    taken = {worker: [record.flow_id for record in sniffer.records(worker)] for worker in range(workers)}
    assert sum(map(len, taken.values())) == 24
    for worker, ids in taken.items():
        assert {worker_of(flow_id, workers) for flow_id in ids} <= {worker}
        assert ids, "a worker that gets nothing of what one CPU sees"


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_flows_of_one_cpu_go_to_all_workers_evenly(sniffer: SniffBench, workers: int) -> None:
    """A card with one queue must not keep one worker busy and all others idle."""
    sniffer.read_by(workers)
    sniffer.tap()
    flows = 400
    for port in range(1, flows + 1):
        sniffer.bench.run("xdp", there(4, Protocol.UDP, payload=b"", port=port))
    shares = [len(sniffer.records(worker)) for worker in range(workers)]
    assert sum(shares) == flows
    assert min(shares) * 2 >= flows / workers


@ALL_HOOKS
@FAMILIES
def test_nobody_reads(sniffer: SniffBench, hook: str, family: int) -> None:
    """Then packets pass, and no budget is used up."""
    sniffer.tap(replace(PLAN, budget=Budget(1, 100, 1)), hook=hook)
    sniffer.sniffing.set_readers(0, RING_BYTES)
    assert sniffer.fates(hook, there(family), there(family)) == ["no_worker", "no_worker"]
    assert (sniffer.flow(family).state, sniffer.flow(family).sent) == (SniffState.SNIFF, 0)
    sniffer.sniffing.set_readers(1, RING_BYTES)
    assert sniffer.fates(hook, there(family), there(family)) == ["sent", "stopped"]
    (record,) = sniffer.records()
    assert record.index == 3


@ALL_HOOKS
@FAMILIES
def test_a_ring_is_missing(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    sniffer.tables["sniff_rings"].map.delete(bytes(4))
    assert sniffer.fate(hook, there(family)) == "no_worker"


@ALL_HOOKS
@FAMILIES
def test_what_finds_no_room_is_counted_and_told_in_the_next_record(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.read_by(1, PAGE)
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    frame = there(family, Protocol.UDP, payload=b"")
    assert sniffer.fates(hook, *[frame] * (ROOM + 3)) == ["sent"] * ROOM + ["lost"] * 3
    flow = sniffer.flow(family)
    assert (flow.sent, flow.packets, flow.state) == (ROOM, (ROOM + 3, 0), SniffState.SNIFF)
    assert sniffer.sniffing.losses() == (3,)
    assert {record.drops for record in sniffer.records()} == {0}
    sniffer.send(hook, frame, frame)
    records = sniffer.records()
    assert [record.drops for record in records] == [3, 0]
    assert [record.index for record in records] == [ROOM + 4, ROOM + 5]
    assert (sniffer.sniffing.losses(), sniffer.count().lost) == ((3,), 3)


@ALL_HOOKS
@FAMILIES
def test_more_losses_than_a_record_can_tell_are_told_in_several(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    table = sniffer.tables["sniff_lost"]
    size = table.value.itemsize
    row = (70000).to_bytes(8, "little") * 2
    table.map.update(bytes(4), row * (table.map.stored_size // size))
    frame = there(family)
    sniffer.send(hook, frame, frame, frame)
    assert [record.drops for record in sniffer.records()] == [65535, 70000 - 65535, 0]


@ALL_HOOKS
@FAMILIES
def test_losses_are_told_by_the_ring_that_had_them(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.read_by(3, PAGE)
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    flows = {port: there(family, Protocol.UDP, payload=b"", port=port) for port in range(1, 13)}
    sniffer.send(hook, *flows.values())
    worker = {port: worker_of(sniffer.flow(family, port).id, 3) for port in flows}
    full, other = 1, next(port for port in flows if worker[port] != worker[1])
    for number in range(3):
        sniffer.records(number)
    assert sniffer.fates(hook, *[flows[full]] * (ROOM + 1)) == ["sent"] * ROOM + ["lost"]
    assert sniffer.fate(hook, flows[other]) == "sent"
    assert [record.drops for record in sniffer.records(worker[other])] == [0]
    sniffer.records(worker[full])
    assert sniffer.fate(hook, flows[full]) == "sent"
    assert [record.drops for record in sniffer.records(worker[full])] == [1]


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize(("level", "waiting", "allowed"), LEVELS)
def test_a_flow_may_send_less_the_fuller_its_ring(
    sniffer: SniffBench, hook: str, family: int, level: int, waiting: int, allowed: int
) -> None:
    share = (BIG_ENTRY * waiting, BIG_ENTRY * waiting + allowed * SMALL_ENTRY)
    limits = [0, RING_BYTES // 2, RING_BYTES * 3 // 4, RING_BYTES * 7 // 8, RING_BYTES + 1]
    assert all(limits[level] <= used < limits[level + 1] for used in share)
    sniffer.tap(replace(PLAN, budget=Budget(1000, 1 << 20, 16), adaptive=True), hook=hook)
    sniffer.fill(hook, family, waiting)
    assert sniffer.used() == BIG_ENTRY * waiting
    fates = sniffer.fates(hook, *[there(family)] * 18)
    assert fates == ["sent"] * allowed + ["stopped"] * (18 - allowed)
    flow = sniffer.flow(family)
    assert flow.why is (SniffWhy.PRESSURE if level else SniffWhy.BUDGET)
    assert sniffer.count().stopped_by_pressure == (1 if level else 0)


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("limit", ["payload_packets", "payload_bytes"])
def test_every_limit_is_less_under_pressure(sniffer: SniffBench, hook: str, family: int, limit: str) -> None:
    budget = Budget(**({"payload_packets": 1000, "payload_bytes": 1 << 20, "max_packets": 1000} | {limit: 160}))
    sniffer.tap(replace(PLAN, budget=budget, adaptive=True), hook=hook)
    sniffer.fill(hook, family, 36)
    payload = b"x" if limit == "payload_packets" else b"12345"
    allowed = 20 if limit == "payload_packets" else 4
    fates = sniffer.fates(hook, *[there(family, payload=payload)] * (allowed + 1))
    assert fates == ["sent"] * allowed + ["stopped"]


@ALL_HOOKS
@FAMILIES
def test_a_new_flow_sends_two_packets_whatever_waits(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=Budget(4, 64, 4), adaptive=True), hook=hook)
    sniffer.fill(hook, family, 38)
    assert sniffer.fates(hook, *[there(family)] * 3) == ["sent", "sent", "stopped"]


@ALL_HOOKS
@FAMILIES
def test_a_budget_that_is_used_up_at_once_is_not_said_to_be_pressure(
    sniffer: SniffBench, hook: str, family: int
) -> None:
    sniffer.tap(replace(PLAN, budget=Budget(1, 64, 1), adaptive=True), hook=hook)
    sniffer.fill(hook, family, 38)
    assert sniffer.fates(hook, *[there(family)] * 2) == ["sent", "stopped"]
    assert sniffer.flow(family).why is SniffWhy.BUDGET


@ALL_HOOKS
@FAMILIES
def test_without_adaptive_a_full_ring_takes_no_budget(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=Budget(16, 1 << 20, 16)), hook=hook)
    sniffer.fill(hook, family, 36)
    assert sniffer.fates(hook, *[there(family)] * 17) == ["sent"] * 16 + ["stopped"]


@ALL_HOOKS
@FAMILIES
def test_pressure_ends_when_the_ring_is_read(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=Budget(16, 1 << 20, 16), adaptive=True), hook=hook)
    sniffer.fill(hook, family, 36)
    assert sniffer.fates(hook, *[there(family)] * 3) == ["sent", "sent", "stopped"]
    assert len(sniffer.records()) == 38
    assert sniffer.fate(hook, there(family)) == "stopped", "a flow that was stopped stays so"
    fates = sniffer.fates(hook, *[there(family, port=50000)] * 17)
    assert fates == ["sent"] * 16 + ["stopped"]
