"""The plan: from any tables to any others, each step of the way safe."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_worlds import ETH1, VIPS, balancer, builder, kernel_states, network, without_free

from sluicegate_agent.datapath.memory import MemoryDatapath
from sluicegate_agent.datapath.model import (
    BackendState,
    Delete,
    FrontendId,
    KernelState,
    NexthopId,
    Operation,
    Put,
    ServiceId,
    Table,
    address_hash,
)
from sluicegate_agent.planning.plan import plan


def carry_out(datapath: MemoryDatapath, desired: KernelState) -> list[Operation]:
    """Apply the plan; the data path raises when a step breaks a rule."""
    start = len(datapath.applied)
    for operation in plan(datapath.observe(), desired):
        datapath.apply(operation)
    return datapath.applied[start:]


def programmed(*names: str, **spec: object) -> tuple[MemoryDatapath, KernelState]:
    """A data path that balances to backends of these addresses."""
    datapath = MemoryDatapath()
    desired = builder().build([balancer(backends=names, **spec)], network(names), {}, KernelState(), 0.0).state
    carry_out(datapath, desired)
    return datapath, desired


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_state_turns_into_any_other_without_breaking_a_rule_on_the_way(data: st.DataObject) -> None:
    datapath = MemoryDatapath()
    for _ in range(3):
        desired = data.draw(kernel_states(datapath.observe()))
        carry_out(datapath, desired)
        assert without_free(datapath.observe()) == desired
        assert plan(datapath.observe(), desired) == ()


@given(kernel_states())
def test_a_state_that_is_as_desired_needs_no_operation(state: KernelState) -> None:
    assert plan(state, without_free(state)) == ()


def test_what_goes_is_removed_after_what_comes_is_bound() -> None:
    datapath, desired = programmed("10.0.0.1")
    vip, old = next(iter(desired.vips.items()))
    new = FrontendId(old + 1)
    moved = replace(desired, frontends={new: desired.frontends[old]}, vips={vip: new})
    assert carry_out(datapath, moved) == [
        Put(Table.FRONTENDS, new, desired.frontends[old]),
        Put(Table.VIPS, vip, new),
        Delete(Table.FRONTENDS, old),
    ]


def test_a_backend_leaves_its_table_before_it_stops_taking_flows() -> None:
    datapath, desired = programmed("10.0.0.1", "10.0.0.2")
    kept, leaving = sorted(desired.backends)
    draining = replace(desired.backends[leaving], state=BackendState.DRAINING)
    frontends = {key: replace(row, slots=1) for key, row in desired.frontends.items()}
    then = replace(
        desired,
        backends={**desired.backends, leaving: draining},
        slots={ServiceId(1): (kept,)},
        frontends=frontends,
    )
    tables = [operation.table for operation in carry_out(datapath, then)]
    assert tables == [Table.FRONTENDS, Table.SLOTS, Table.BACKENDS]


def test_a_growing_table_is_there_before_a_frontend_reads_it() -> None:
    datapath, desired = programmed("10.0.0.1")
    identity = next(iter(desired.backends))
    frontends = {key: replace(row, slots=3) for key, row in desired.frontends.items()}
    then = replace(desired, slots={ServiceId(1): (identity,) * 3}, frontends=frontends)
    assert [operation.table for operation in carry_out(datapath, then)] == [Table.SLOTS, Table.FRONTENDS]


def test_a_table_shrinks_only_after_a_frontend_that_goes_is_gone() -> None:
    datapath, desired = programmed("10.0.0.1", "10.0.0.2", addresses=["203.0.113.10", "203.0.113.11"])
    kept = next(iter(desired.backends))
    gone, stays = sorted(desired.frontends)
    then = replace(
        desired,
        frontends={stays: replace(desired.frontends[stays], slots=1)},
        vips={desired.frontends[stays].endpoint: stays},
        slots={ServiceId(1): (kept,)},
    )
    operations = carry_out(datapath, then)
    assert operations.index(Delete(Table.FRONTENDS, gone)) < operations.index(Put(Table.SLOTS, ServiceId(1), (kept,)))


def test_a_changed_next_hop_gets_a_new_row_and_loses_the_old_one_last() -> None:
    datapath, desired = programmed("10.0.0.1")
    (identity, backend), (old, hop) = next(iter(desired.backends.items())), next(iter(desired.nexthops.items()))
    new = NexthopId(old + 1)
    then = replace(
        desired,
        nexthops={new: replace(hop, destination_mac=b"\2\0\0\0\0\x7f")},
        backends={identity: replace(backend, nexthop=new)},
    )
    assert [(type(each), each.table, each.key) for each in carry_out(datapath, then)] == [
        (Put, Table.NEXTHOPS, new),
        (Put, Table.BACKENDS, identity),
        (Delete, Table.NEXTHOPS, old),
    ]


def test_a_backend_answers_for_old_and_new_frontends_until_the_old_ones_are_unbound() -> None:
    datapath, desired = programmed("10.0.0.1", forwarding={"mode": "DNAT"})
    ((old, frontend),) = desired.frontends.items()
    (endpoint,) = desired.reverse
    new, vip = FrontendId(old + 1), VIPS[0]
    then = replace(
        desired,
        frontends={new: replace(frontend, endpoint=vip)},
        vips={vip: new},
        reverse={endpoint: (new,)},
        filter=replace(desired.filter, vips=frozenset({address_hash(vip.address)})),
    )
    operations = [each for each in carry_out(datapath, then) if each.table in {Table.REVERSE, Table.VIPS}]
    assert operations == [
        Put(Table.REVERSE, endpoint, (new, old)),
        Put(Table.VIPS, vip, new),
        Delete(Table.VIPS, frontend.endpoint),
        Put(Table.REVERSE, endpoint, (new,)),
    ]


def test_allowed_clients_are_there_before_a_frontend_asks_for_them_and_go_after_it() -> None:
    datapath, open_to_all = programmed("10.0.0.1")
    (key,) = open_to_all.frontends
    restricted = replace(
        open_to_all,
        frontends={key: replace(open_to_all.frontends[key], restricted=True)},
        sources={ServiceId(1): frozenset({ip_network("198.51.100.0/24")})},
    )
    there = [(type(each), each.table) for each in carry_out(datapath, restricted)]
    back = [(type(each), each.table) for each in carry_out(datapath, open_to_all)]
    assert there == [(Put, Table.SOURCES), (Put, Table.FRONTENDS)]
    assert back == [(Put, Table.FRONTENDS), (Delete, Table.SOURCES)]


def test_a_frontend_never_asks_for_allowed_clients_that_have_no_row() -> None:
    datapath, desired = programmed("10.0.0.1", allowedSources=["198.51.100.0/24"])
    ((key, row),) = desired.frontends.items()
    with pytest.raises(AssertionError, match="asked for by frontends"):
        datapath.apply(Delete(Table.SOURCES, row.service))
    datapath.apply(Put(Table.FRONTENDS, key, replace(row, restricted=False)))
    datapath.apply(Delete(Table.SOURCES, row.service))
    with pytest.raises(AssertionError, match="has no row of them"):
        datapath.apply(Put(Table.FRONTENDS, key, row))


def test_a_dnat_frontend_never_reads_a_backend_whose_replies_would_be_passed_over() -> None:
    datapath, desired = programmed("10.0.0.1", forwarding={"mode": "DNAT"})
    ((key, row),) = desired.frontends.items()
    blind = Put(Table.FILTER, None, replace(desired.filter, dnat_backends=frozenset()))
    with pytest.raises(AssertionError, match="lacks backend"):
        datapath.apply(blind)
    datapath.apply(Delete(Table.VIPS, row.endpoint))
    datapath.apply(Delete(Table.REVERSE, *desired.reverse))
    datapath.apply(Delete(Table.FRONTENDS, key))
    datapath.apply(blind)
    with pytest.raises(AssertionError, match="lacks backend"):
        datapath.apply(Put(Table.FRONTENDS, key, row))


def test_a_freed_backend_keeps_its_generation() -> None:
    datapath, desired = programmed("10.0.0.1")
    identity = next(iter(desired.backends))
    carry_out(datapath, KernelState())
    row = datapath.observe().backends[identity]
    assert (row.state, row.generation) == (BackendState.FREE, desired.backends[identity].generation)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (Delete(Table.NEXTHOPS, 1), "used by backends"),
        (Delete(Table.INTERFACES, ETH1), "used by next hops"),
        (Delete(Table.SLOTS, 1), "used by frontends"),
        (Delete(Table.FRONTENDS, 1), "bound to"),
        (Put(Table.SLOTS, 1, ()), "shorter than"),
        (Put(Table.SLOTS, 1, (9, 9)), "takes no new flows"),  # type: ignore[arg-type]
        (Put(Table.FILTER, None, KernelState().filter), "would lack"),
    ],
)
def test_the_memory_data_path_refuses_what_would_leave_a_packet_nowhere_to_go(operation: Operation, words: str) -> None:
    datapath, _ = programmed("10.0.0.1", "10.0.0.2")
    before = datapath.observe()
    with pytest.raises(AssertionError, match=words):
        datapath.apply(operation)
    assert datapath.observe() == before
