"""Ids: stable for what stays, found again after a restart, and never back soon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_worlds import balancer, builder, network

from sluicegate_agent.datapath.memory import MemoryDatapath
from sluicegate_agent.datapath.model import ForwardingMode, KernelState
from sluicegate_agent.planning.ids import IdPool, ServiceIdentity, next_generation, recover_services
from sluicegate_agent.planning.reconcile import Reconciler
from sluicegate_agent.planning.services import Service, expand


def test_a_key_keeps_its_id_whatever_comes_and_goes_around_it() -> None:
    pool: IdPool[str] = IdPool(10)
    first = pool.assign(["a", "b"], {})
    present = {identity: key for key, identity in first.items()}
    assert pool.assign(["0", "b", "c"], present)["b"] == first["b"]


def test_a_key_keeps_its_id_while_its_row_could_not_be_written() -> None:
    pool: IdPool[str] = IdPool(10)
    assert pool.assign(["a"], {}) == pool.assign(["a"], {})


def test_a_new_pool_finds_the_ids_in_the_kernel() -> None:
    pool: IdPool[str] = IdPool(10)
    assert pool.assign(["b", "a"], {7: "a", 4: "b"}) == {"a": 7, "b": 4}


def test_an_id_that_the_kernel_still_uses_is_not_given_away() -> None:
    pool: IdPool[str] = IdPool(2)
    assert pool.assign(["a"], {1: None}) == {"a": 2}
    assert pool.assign(["a", "b"], {1: None, 2: "a"}) == {"a": 2}


def test_the_id_that_is_free_for_longest_comes_back_first() -> None:
    pool: IdPool[str] = IdPool(3)
    pool.assign(["a", "b", "c"], {})
    pool.assign(["a", "c"], {1: "a", 3: "c"})
    pool.assign(["c"], {3: "c"})
    assert pool.assign(["c", "d"], {3: "c"})["d"] == 2
    assert pool.assign(["c", "d", "e"], {3: "c", 2: "d"})["e"] == 1


def test_after_a_restart_ids_without_traces_go_before_those_that_were_used() -> None:
    pool: IdPool[str] = IdPool(5)
    assert pool.assign(["a", "b", "c", "d"], {}, spent=[1, 3]) == {"a": 4, "b": 5, "c": 2, "d": 1}


def test_keys_beyond_the_limit_get_no_id() -> None:
    pool: IdPool[str] = IdPool(1)
    assert pool.assign(["a", "b"], {}) == {"a": 1}


@given(st.lists(st.sets(st.integers(0, 5)), max_size=30))
def test_an_id_never_changes_hands_within_as_many_frees_as_there_are_other_free_ids(rounds: list[set[int]]) -> None:
    pool: IdPool[int] = IdPool(8)
    present: dict[int, int | None] = {}
    freed: list[int] = []
    for wanted in rounds:
        given_ids = pool.assign(sorted(wanted), present)
        assert len(set(given_ids.values())) == len(given_ids) == len(wanted)
        for identity in set(given_ids.values()) - present.keys():
            assert identity not in freed[-2:]
            freed = [each for each in freed if each != identity]
        freed += sorted(present.keys() - set(given_ids.values()))
        present = {identity: key for key, identity in given_ids.items()}


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 2), (65_535, 1)])
def test_generations_count_up_and_skip_zero(before: int, after: int) -> None:
    assert next_generation(before) == after


def services(*arguments: tuple[str, list[str], list[str]]) -> list[Service]:
    balancers = (balancer(name, backends, addresses=vips) for name, vips, backends in arguments)
    return [service for each in balancers for service in expand(each)]


def tables(*arguments: tuple[str, list[str], list[str]]) -> KernelState:
    datapath = MemoryDatapath()
    balancers = [balancer(name, backends, addresses=vips) for name, vips, backends in arguments]
    addresses = [address for _, _, backends in arguments for address in backends]
    Reconciler(datapath).reconcile(builder().build(balancers, network(addresses), {}, KernelState(), 0.0).state)
    return datapath.observe()


def recovered(observed: KernelState, wanted: list[Service], held: dict[ServiceIdentity, int]) -> dict[int, str | None]:
    endpoints = {each.identity: (each.vips, [one.endpoint for one in each.backends]) for each in wanted}
    found = recover_services(endpoints, observed, held)
    return {identity: owner.key.object.name if owner else None for identity, owner in found.items()}


A = ("a", ["203.0.113.1", "203.0.113.2"], ["10.0.0.1"])
B = ("b", ["203.0.113.3"], ["10.0.0.2"])


def test_services_are_recognised_by_their_vips_after_a_restart() -> None:
    assert recovered(tables(A, B), services(B, A), {}) == {1: "a", 2: "b"}


def test_a_renamed_service_keeps_its_id() -> None:
    held = {services(A)[0].identity: 1}
    renamed = ("c", *A[1:])
    assert recovered(tables(A), services(renamed), held) == {1: "c"}


def test_a_service_that_gave_up_a_vip_keeps_its_id_against_the_one_that_took_it() -> None:
    taker, giver = ("0", ["203.0.113.1"], ["10.0.0.3"]), ("a", ["203.0.113.2"], ["10.0.0.1"])
    held = {services(A)[0].identity: 1}
    assert recovered(tables(A), services(taker, giver), held) == {1: "a"}
    assert recovered(tables(A), services(taker, giver), {}) == {1: "a"}


def test_a_service_that_is_gone_leaves_its_id_without_owner() -> None:
    assert recovered(tables(A, B), services(B), {}) == {1: None, 2: "b"}


def test_a_service_is_not_recognised_in_another_mode() -> None:
    (wanted,) = services(B)
    identity = ServiceIdentity(wanted.key, ForwardingMode.DNAT)
    assert recover_services({identity: (wanted.vips, [])}, tables(B), {}) == {1: None}
