"""Which of the sniffer's flows a sweep ends, what it says of them, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.sniffing.flows import CLOSED_SECONDS, FlowSweeper, worker_of
from sluicegate_agent.sniffing.model import EndedFlow, FlowEnd, SnifferPlan, SniffState, SniffWhy, Swept, Tap
from sluicegate_agent.sniffing.tables import SniffTables
from sniff_rig import maps, put_flow, sniff_manifest

__all__ = ["maps", "sniff_manifest"]
pytestmark = pytest.mark.kernel

PLAN = SnifferPlan(1, "shop/edge", tcp_idle_seconds=600, other_idle_seconds=180)
LOW, HIGH = ("10.0.0.1", 40000), ("10.0.0.9", 80)
SINCE = {"first_ns": 1 << 62}
FIN_OPENER, FIN_OTHER, RESET = 2, 4, 8


class Sweeping:
    """A sweeper over tables whose interface 5 is sniffed by number 1."""

    def __init__(self, tables: KernelTables) -> None:
        self.tables = tables
        self.sniffing = SniffTables(tables, hertz())
        self.sniffing.apply([PLAN], [Tap(5, 1, True)])
        self.sweeper = FlowSweeper(tables, hertz())

    def sweep(self, workers: int = 1, limit: int = 1000) -> Swept:
        return self.sweeper.sweep(self.sniffing.flow_facts(), workers, jiffies(), limit)

    def ended(self) -> list[EndedFlow]:
        return [flow for flows in self.sweep().ended.values() for flow in flows]


@pytest.fixture
def sweeping(maps: KernelTables) -> Sweeping:
    return Sweeping(maps)


def put(tables: KernelTables, flow_id: int, **members: object) -> bytes:
    given: dict[str, object] = {"client": LOW, "server": HIGH, **SINCE, **members}
    return put_flow(tables, flow_id=flow_id, **given)  # type: ignore[arg-type]


def test_all_that_is_known_of_a_flow_is_told(maps: KernelTables, sweeping: Sweeping) -> None:
    put(
        maps,
        3 << 32 | 17,
        client=HIGH,
        server=LOW,
        protocol=17,
        idle_seconds=200,
        packets=(3, 4),
        octets=(300, 400),
        state=2,
        why=2,
        sent=5,
        rule=6,
    )
    (flow,) = sweeping.ended()
    assert (flow.client, flow.server, flow.ports) == (
        ip_address(HIGH[0]).packed,
        ip_address(LOW[0]).packed,
        (80, 40000),
    )
    assert (flow.flow_id, flow.family, flow.protocol, flow.ifindex) == (3 << 32 | 17, 4, 17, 5)
    assert (flow.packets, flow.octets, flow.sent) == ((3, 4), (300, 400), 5)
    assert (flow.state, flow.why, flow.sniffer, flow.rule) == (SniffState.STOP, SniffWhy.BUDGET, 1, 6)
    assert (flow.end, flow.closing, flow.first_ns) == (FlowEnd.IDLE, False, 1 << 62)


def test_ipv6_flows_are_told_as_well(maps: KernelTables, sweeping: Sweeping) -> None:
    put(maps, 1 << 32, client=("2001:db8::2", 9), server=("2001:db8::1", 53), protocol=17, idle_seconds=181)
    (flow,) = sweeping.ended()
    assert (flow.family, flow.client, flow.ports) == (6, ip_address("2001:db8::2").packed, (9, 53))


@pytest.mark.parametrize(
    ("protocol", "idle", "flags", "end"),
    [
        (6, 599, 0, None),
        (6, 601, 0, FlowEnd.IDLE),
        (17, 179, 0, None),
        (17, 181, 0, FlowEnd.IDLE),
        (6, CLOSED_SECONDS + 1, FIN_OPENER, None),
        (6, CLOSED_SECONDS + 1, FIN_OPENER | FIN_OTHER, FlowEnd.CLOSED),
        (6, CLOSED_SECONDS + 1, RESET, FlowEnd.CLOSED),
        (6, CLOSED_SECONDS - 1, RESET, None),
    ],
)
def test_a_flow_ends_when_the_programs_would_take_it_for_over(
    maps: KernelTables, sweeping: Sweeping, protocol: int, idle: int, flags: int, end: FlowEnd | None
) -> None:
    put(maps, 1 << 32, protocol=protocol, idle_seconds=idle, flags=flags)
    assert [flow.end for flow in sweeping.ended()] == ([] if end is None else [end])
    assert len(list(maps["sniffs4"].map.keys())) == (end is None)


def test_a_dropped_flow_is_kept_while_the_drop_holds(maps: KernelTables, sweeping: Sweeping) -> None:
    until = jiffies() + 60 * hertz() & 0xFFFFFFFF
    put(maps, 1 << 32, idle_seconds=5000, flags=RESET, state=3, until=until)
    assert sweeping.ended() == []
    put(maps, 1 << 32, idle_seconds=5000, flags=RESET, state=3, until=jiffies() - 1 & 0xFFFFFFFF)
    assert [flow.state for flow in sweeping.ended()] == [SniffState.DROP]


def test_flows_that_nobody_wanted_go_untold(maps: KernelTables, sweeping: Sweeping) -> None:
    put(maps, 1 << 32, idle_seconds=5000, state=0, why=1)
    assert sweeping.ended() == []
    assert list(maps["sniffs4"].map.keys()) == []


def test_flows_go_to_the_worker_of_their_slot(maps: KernelTables, sweeping: Sweeping) -> None:
    for slot in range(6):
        put(maps, 9 << 32 | slot, client=("10.0.0.1", 1000 + slot), idle_seconds=5000)
    ended = sweeping.sweep(workers=4).ended
    told = {flow.flow_id: worker for worker, flows in ended.items() for flow in flows}
    assert told == {9 << 32 | slot: worker_of(slot, 4) for slot in range(6)}
    assert {*told.values()} == {0, 1, 2, 3}


def test_flows_of_an_interface_without_a_tap_end(maps: KernelTables, sweeping: Sweeping) -> None:
    put(maps, 1 << 32)
    put(maps, 2 << 32, ifindex=6)
    assert [(flow.flow_id >> 32, flow.end) for flow in sweeping.ended()] == [(2, FlowEnd.UNTAPPED)]


def test_flows_that_the_number_had_under_another_owner_end(maps: KernelTables, sweeping: Sweeping) -> None:
    put(maps, 1 << 32)
    put(maps, 2 << 32, client=("2001:db8::1", 1), server=("2001:db8::2", 1))
    sweeping.sweep()
    sweeping.sniffing.apply([replace(PLAN, owner="shop/other")], [Tap(5, 1, True)])
    assert [len(list(maps.by_family("sniffs", family).map.keys())) for family in (4, 6)] == [0, 0]
    swept = sweeping.sweep()
    assert {(flow.flow_id >> 32, flow.end) for flow in swept.ended[0]} == {
        (1, FlowEnd.UNTAPPED),
        (2, FlowEnd.UNTAPPED),
    }
    assert swept.evicted == 0


def test_a_sweep_ends_so_many_and_leaves_the_rest_for_the_next(maps: KernelTables, sweeping: Sweeping) -> None:
    for slot in range(5):
        put(maps, 1 << 32 | slot, client=("10.0.0.1", 1000 + slot), idle_seconds=5000)
    put(maps, 1 << 32 | 9, client=("2001:db8::1", 1), server=("2001:db8::2", 1), idle_seconds=5000)
    first = sweeping.sweep(limit=4)
    assert (first.more, sum(map(len, first.ended.values()))) == (True, 4)
    second = sweeping.sweep(limit=4)
    assert (second.more, sum(map(len, second.ended.values()))) == (False, 2)
    assert second.entries == {"sniffs4": 0, "sniffs6": 0}


def test_a_flow_that_was_evicted_or_replaced_is_told_with_what_was_known(
    maps: KernelTables, sweeping: Sweeping
) -> None:
    gone = put(maps, 1 << 32, client=("10.0.0.1", 1), packets=(2, 0))
    put(maps, 2 << 32, client=("10.0.0.1", 2), packets=(3, 0))
    assert sweeping.ended() == []
    maps["sniffs4"].map.delete(gone)
    put(maps, 3 << 32, client=("10.0.0.1", 2))
    swept = sweeping.sweep()
    found = {flow.flow_id >> 32: (flow.end, flow.packets) for flow in swept.ended[0]}
    assert found == {1: (FlowEnd.EVICTED, (2, 0)), 2: (FlowEnd.REUSED, (3, 0))}
    assert swept.evicted == 1
    assert sweeping.ended() == []


def test_what_a_sweep_ended_is_not_told_again(maps: KernelTables, sweeping: Sweeping) -> None:
    put(maps, 1 << 32)
    assert sweeping.ended() == []
    put(maps, 1 << 32, idle_seconds=5000)
    assert len(sweeping.ended()) == 1
    assert sweeping.ended() == []


def test_a_packet_between_the_look_and_the_removal_keeps_its_flow(
    maps: KernelTables, sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(maps, 1 << 32, idle_seconds=5000)
    table = maps["sniffs4"]
    stale = list(table.batches())
    put(maps, 1 << 32)
    monkeypatch.setattr(table, "batches", lambda: iter(stale))
    assert sweeping.ended() == []
    assert len(list(table.map.keys())) == 1


def test_living_flows_are_counted_by_sniffer_and_state(maps: KernelTables, sweeping: Sweeping) -> None:
    for number, state in enumerate((0, 1, 1, 2, 3)):
        put(maps, number + 1 << 32, client=("10.0.0.1", number + 1), state=state)
    put(maps, 9 << 32, client=("2001:db8::1", 1), server=("2001:db8::2", 1))
    swept = sweeping.sweep()
    assert swept.flows == {
        (1, SniffState.IGNORE): 1,
        (1, SniffState.SNIFF): 3,
        (1, SniffState.STOP): 1,
        (1, SniffState.DROP): 1,
    }
    assert swept.entries == {"sniffs4": 5, "sniffs6": 1}


def test_clocks_that_wrapped_are_read_right(maps: KernelTables, sweeping: Sweeping) -> None:
    put(maps, 1 << 32, last_seen=(1 << 32) - 5)
    sniffing, sweeper = sweeping.sniffing, sweeping.sweeper
    assert sweeper.sweep(sniffing.flow_facts(), 1, 5).ended == {}
    swept = sweeper.sweep(sniffing.flow_facts(), 1, 601 * hertz())
    assert [flow.end for flow in swept.ended[0]] == [FlowEnd.IDLE]
