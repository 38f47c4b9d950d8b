"""Weights, holds and downs that signals and operators ask for, in the tables."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_node import ACTIVE, DOWN, DRAINING, ONE, THREE, TWO, Node, problems
from plan_worlds import balancer

from sluicegate_agent.datapath.model import Algorithm, BackendId
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.steer import Steer, slow_start_of
from sluicegate_agent.planning.tables import Entry, TableCache
from sluicegate_api.loadbalancer import LoadBalancer
from sluicegate_api.maglev import maglev_table, table_size
from sluicegate_api.roundrobin import LONGEST_TABLE, round_robin_table

PASSIVE = {"dynamicWeights": {"type": "Passive"}}
POOL = (ONE, TWO, THREE)


def run(node: Node, lb: LoadBalancer, steers: Mapping[str, Steer] | None = None) -> Desired:
    """A step with steers by address."""
    keys: list[BackendKey] = list(node.look(lb).backends)
    node.steering = {key: steers[str(key.address)] for key in keys if steers and str(key.address) in steers}
    return node.run(lb)


@pytest.fixture
def node() -> Node:
    return Node()


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 1000), min_size=1), st.integers(1, 3))
def test_a_table_does_not_depend_on_the_unit_of_weights(weights: dict[str, int], more: int) -> None:
    thousandths = {name: 1000 * weight for name, weight in weights.items()}
    size = table_size(len(weights) * more)
    assert maglev_table(thousandths, size) == maglev_table(weights, size)
    assert round_robin_table(thousandths) == round_robin_table(weights)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 1_000_000), min_size=1))
def test_odd_thousandths_make_no_endless_round_robin(weights: dict[str, int]) -> None:
    table = round_robin_table(weights)
    assert len(table) <= LONGEST_TABLE
    assert set(table) == set(weights)


@pytest.mark.parametrize("algorithm", ["Maglev", "RoundRobin", "LeastLoad"])
def test_decisions_that_move_nothing_leave_the_tables_alone(node: Node, algorithm: str) -> None:
    plain = node.run(balancer(backends={ONE: 100, TWO: 50}, algorithm=algorithm)).state
    lb = balancer(backends={ONE: 100, TWO: 50}, algorithm=algorithm, **PASSIVE)
    steered = run(node, lb, {ONE: Steer(100_000), TWO: Steer(50_000)})
    assert steered.state == plain
    assert not node.report.applied


def test_a_weight_moves_slots_and_only_those_of_its_service(node: Node) -> None:
    lb = balancer(backends=POOL, algorithm="Maglev", **PASSIVE)
    other = balancer("other", POOL, algorithm="Maglev", addresses=["203.0.113.20"], **PASSIVE)
    node.run(lb, other)
    keys = [key for key in node.look(lb, other).backends if key.service.object.name == "web"]
    before = dict(node.state.slots)
    node.steering = {key: Steer(25_000 if str(key.address) == ONE else 100_000) for key in keys}
    desired = node.run(lb, other)
    changed = {service for service, slots in node.state.slots.items() if slots != before[service]}
    assert [desired.names.services[service].object.name for service in changed] == ["web"]
    (slots,) = (node.state.slots[service] for service in changed)
    mine = desired.backends[keys[0]]
    assert slots.count(mine.id) / len(slots) == pytest.approx(25 / 225, abs=0.001)
    assert mine.weight == 25_000


def test_a_cached_table_is_built_once() -> None:
    cache = TableCache()
    entries = [Entry("a", 1000, BackendId(1)), Entry("b", 900, BackendId(2))]
    first = cache.slots(Algorithm.MAGLEV, 2, entries)
    cache.forget_unused()
    assert cache.slots(Algorithm.MAGLEV, 2, reversed(entries)) is first


def test_a_held_backend_drains_and_says_why(node: Node) -> None:
    lb = balancer(backends=POOL, **PASSIVE)
    node.run(lb)
    desired = run(node, lb, {ONE: Steer(held=True, because="says drain")})
    (outcome,) = (each for key, each in desired.backends.items() if str(key.address) == ONE)
    assert (outcome.state, outcome.weight, outcome.held, outcome.usable) == (DRAINING, 0, "says drain", True)
    assert set(node.share()) == {TWO, THREE}
    run(node, lb)
    assert node.row(ONE).state is DRAINING, "until somebody decides otherwise"
    run(node, lb, {ONE: Steer(100_000)})
    assert node.row(ONE).state is ACTIVE


def test_a_weight_of_nothing_holds_a_backend(node: Node) -> None:
    lb = balancer(backends=POOL, **PASSIVE)
    run(node, lb, {ONE: Steer(0)})
    assert node.row(ONE).state is DRAINING


def test_a_backend_that_calls_itself_down_is_down_and_counts_in_a_panic(node: Node) -> None:
    lb = balancer(backends=POOL, **PASSIVE)
    desired = run(node, lb, {ONE: Steer(down=True, because="says down")})
    assert node.row(ONE).state is DOWN
    assert not desired.panics
    desired = run(node, lb, {address: Steer(down=True) for address in (ONE, TWO)})
    assert desired.panics
    assert {node.row(address).state for address in POOL} == {ACTIVE}


def test_backends_that_want_to_be_out_do_not_make_their_service_panic(node: Node) -> None:
    lb = balancer(backends=POOL, **PASSIVE)
    desired = run(node, lb, {ONE: Steer(held=True), TWO: Steer(held=True, down=True)})
    assert not desired.panics
    assert [node.row(address).state for address in POOL] == [DRAINING, DOWN, ACTIVE]
    assert not problems(desired)


def test_checks_that_fail_make_a_backend_unusable_and_a_hold_does_not(node: Node) -> None:
    lb = balancer(backends=POOL, **PASSIVE)
    node.health = {ONE: HealthState.DOWN, TWO: HealthState.UP, THREE: HealthState.UP}
    desired = run(node, lb, {ONE: Steer(held=True), TWO: Steer(held=True, down=True)})
    usable = {str(key.address) for key, outcome in desired.backends.items() if outcome.usable}
    assert usable == {TWO, THREE}


def test_a_restart_keeps_weights_and_drains_until_somebody_decides(node: Node) -> None:
    lb = balancer(backends=POOL, **PASSIVE)
    run(node, lb, {ONE: Steer(30_000), TWO: Steer(held=True), THREE: Steer(100_000)})
    before = node.state
    node.restart()
    desired = node.run(lb)
    assert (node.state.backends, node.state.slots) == (before.backends, before.slots)
    found = {str(key.address): outcome.found.weight for key, outcome in desired.backends.items() if outcome.found}
    assert found[ONE] == 30_000


def test_without_dynamic_weights_a_restart_goes_back_to_what_is_configured(node: Node) -> None:
    run(node, balancer(backends=POOL, **PASSIVE), {ONE: Steer(30_000), TWO: Steer(held=True)})
    node.restart()
    node.run(balancer(backends=POOL))
    assert {node.row(address).weight for address in POOL} == {100_000}
    assert {node.row(address).state for address in POOL} == {ACTIVE}


def test_a_new_backend_of_a_service_with_slow_start_begins_with_little(node: Node) -> None:
    lb = balancer(backends=(ONE, TWO), slowStartSeconds=10)
    run(node, lb, {ONE: Steer(100_000), TWO: Steer(100_000)})
    lb = balancer(backends=POOL, slowStartSeconds=10)
    run(node, lb, {ONE: Steer(100_000), TWO: Steer(100_000)})
    assert [node.row(address).weight for address in POOL] == [100_000, 100_000, 10_000]


def test_a_panic_uses_configured_weights_whatever_a_backend_was_to_begin_with(node: Node) -> None:
    lb = balancer(backends=POOL, slowStartSeconds=10)
    node.run(lb)
    node.health = {ONE: HealthState.DOWN, TWO: HealthState.DOWN, THREE: HealthState.UP}
    desired = run(node, lb, {ONE: Steer(10_000), TWO: Steer(10_000), THREE: Steer(100_000)})
    assert desired.panics
    assert [node.row(address).weight for address in POOL] == [100_000] * 3


def test_slow_start_of_small_weights_begins_with_something() -> None:
    assert [slow_start_of(weight) for weight in (0, 1, 1000)] == [0, 100, 100_000]
