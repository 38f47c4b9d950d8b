"""Whatever comes in, weights stay within bounds and are the same for the same inputs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import isfinite

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from weight_pools import seen

from sluicegate_agent.signals.model import Passive, Reading, Report, Stated
from sluicegate_agent.weights.controller import Controller
from sluicegate_agent.weights.model import Member, Pool, PoolDecision
from sluicegate_api.checks import WeightSource

NAMES = "abcdefgh"
ABSURD = st.one_of(st.floats(0, 2), st.floats(0, 1e308), st.sampled_from([0.0, 5e-324, 1e-9, 1.0, 1e308]))
COUNTS = st.one_of(st.integers(0, 200), st.integers(0, 2**63))
MAYBE = st.none() | ABSURD

passives = st.builds(
    Passive,
    seconds=st.sampled_from([0.0, 0.1, 1.0, 1e9]),
    active=ABSURD,
    in_flight=ABSURD,
    new_flows=COUNTS,
    responses=COUNTS,
    closed=COUNTS,
    failures=COUNTS,
    latency=MAYBE,
)
reports = st.builds(
    Report,
    utilization=MAYBE,
    rps=MAYBE,
    eps=MAYBE,
    share=st.none() | st.sampled_from([0.0, 0.3, 1.0, 5.0, 1e300]),
    weight=st.none() | st.integers(0, 2**40),
    administrative=st.sampled_from([None, Stated.READY, Stated.DRAIN, Stated.MAINT]),
    operational=st.sampled_from([None, Stated.UP, Stated.DOWN]),
)
readings = st.builds(Reading, st.none() | reports, st.none() | st.floats(-1e6, 1e6), st.just(""), st.integers(0, 9))
members = st.builds(
    Member,
    weight=st.integers(0, 1000),
    usable=st.booleans(),
    usable_since=st.none() | st.floats(-1e6, 1e6),
    passive=st.none() | passives,
    reading=st.none() | readings,
)
pools = st.builds(
    Pool,
    source=st.sampled_from(WeightSource),
    members=st.dictionaries(st.sampled_from(NAMES), members, max_size=8),
    by_load=st.booleans(),
    replies_seen=st.booleans(),
    slow_start=st.sampled_from([0.0, 10.0]),
)
times = st.one_of(st.floats(0, 20), st.floats(-1e6, 1e6))
anything = st.lists(st.tuples(pools, times), min_size=1, max_size=8)


def run(steps: list[tuple[Pool, float]]) -> list[PoolDecision]:
    controller = Controller()
    return [controller.step("pool", pool, now) for pool, now in steps]


@given(anything)
@settings(max_examples=80, deadline=None)
def test_bounds_hold_for_any_input_and_any_clock(steps: list[tuple[Pool, float]]) -> None:
    for (pool, _), decision in zip(steps, run(steps), strict=True):
        assert decision.members.keys() == pool.members.keys()
        for name, member in pool.members.items():
            found = decision.members[name]
            assert 0 <= found.weight <= max(11_000 * member.weight, 1_000_000)
            assert member.weight or not found.weight
            assert 0 < found.guard <= 1
            assert 0 <= found.errors <= 1
            assert 0.1 <= found.slow_start <= 1
            assert isfinite(found.prior)
            assert found.reason
            if pool.source is WeightSource.NONE and pool.slow_start == 0 and not found.state:
                assert found.weight == 1000 * member.weight


@given(anything)
@settings(max_examples=40, deadline=None)
def test_equal_inputs_give_equal_outputs_in_any_order_of_members(steps: list[tuple[Pool, float]]) -> None:
    turned = [(replace(pool, members=dict(reversed(pool.members.items()))), now) for pool, now in steps]
    assert run(steps) == run(steps)
    assert run(turned) == run(steps)


latencies = st.lists(st.none() | st.floats(0.001, 2.0), min_size=5, max_size=5)
histories = st.lists(latencies, min_size=2, max_size=12)
modes = st.tuples(st.sampled_from([WeightSource.PASSIVE, WeightSource.HTTP, WeightSource.AGENT_CHECK]), st.booleans())

LEARNING = (WeightSource.PASSIVE, True)
"""The one mode that is an integrator: what it gives depends on the order of what it saw."""


def measured(
    mode: tuple[WeightSource, bool], tick: int, latencies: list[float | None], *, rates: bool = True, failures: int = 0
) -> Pool:
    """A pool of five with these latencies in a second; with ``rates`` they report different capacities."""
    source, by_load = mode
    found: dict[str, Member] = {}
    for index, latency in enumerate(latencies):
        report = Report(utilization=0.5, rps=50.0 + 10 * index * rates) if source is WeightSource.HTTP else None
        reading = Reading(report, float(tick), "", tick) if report else None
        passive = seen(latency, flows=100 * bool(latency), failures=failures, active=4.0 * bool(latency))
        found[NAMES[index]] = Member(100, True, passive=passive, reading=reading)
    return Pool(source, found, by_load=by_load)


def lag(mode: tuple[WeightSource, bool]) -> float:
    """How far a published weight may be from the one that the controller has in mind: it waits, or is rounded."""
    source, by_load = mode
    return 1.16 if by_load or source is WeightSource.AGENT_CHECK else 1.26 * 2 ** (1 / 8)


@given(modes, histories)
@settings(max_examples=60, deadline=None)
def test_measured_weights_move_by_limited_steps_and_not_below_the_floor(
    mode: tuple[WeightSource, bool], history: list[list[float | None]]
) -> None:
    decisions = run([(measured(mode, tick, each), tick) for tick, each in enumerate(history)])
    least = (0.5 if mode[1] else 0.25) / lag(mode)
    for before, after in pairwise(decisions):
        for name, decision in after.members.items():
            assert least <= decision.weight / before.members[name].weight <= 1.3 * lag(mode)
            assert decision.weight >= 5_000 / lag(mode)


@given(modes, histories, st.floats(1.0, 20.0))
@settings(max_examples=60, deadline=None)
def test_slower_never_gets_more(
    mode: tuple[WeightSource, bool], history: list[list[float | None]], times: float
) -> None:
    """Of two backends that report the same, the one that is always slower gets no more, whatever the others do."""
    assume(mode != LEARNING)
    twins = [[each[0], each[0] and each[0] * times, *each[2:]] for each in history]
    for decision in run([(measured(mode, tick, each, rates=False), tick) for tick, each in enumerate(twins)]):
        assert decision.members["b"].weight <= decision.members["a"].weight * lag(mode) ** 2


@given(latencies)
@settings(max_examples=40, deadline=None)
def test_learner_gives_the_slower_of_two_no_more_while_both_are_steady(constant: list[float | None]) -> None:
    last = run([(measured(LEARNING, tick, constant), tick) for tick in range(40)])[-1]
    known = [(latency, last.members[NAMES[index]].weight) for index, latency in enumerate(constant) if latency]
    for latency, weight in known:
        assert all(weight <= other * lag(LEARNING) ** 2 for faster, other in known if faster <= latency)


@given(modes, latencies, histories)
@settings(max_examples=30, deadline=None)
def test_constant_signals_come_to_rest(
    mode: tuple[WeightSource, bool], constant: list[float | None], history: list[list[float | None]]
) -> None:
    all_of_it = [*history, *[constant] * 120]
    decisions = run([(measured(mode, tick, each), tick) for tick, each in enumerate(all_of_it)])
    weights = [{name: each.weight for name, each in decision.members.items()} for decision in decisions[-20:]]
    changes = sum(before != after for before, after in pairwise(weights))
    # The integrator approaches its rest for minutes; its small moves wait for every fifth tick.
    assert changes <= (4 if mode == LEARNING else 1), "a late move across the dead band at most"


@given(modes, histories, st.sampled_from([1.0, -5e5, 3600.0]))
@settings(max_examples=40, deadline=None)
def test_without_signals_everything_goes_back_to_the_configured_weight(
    mode: tuple[WeightSource, bool], history: list[list[float | None]], jump: float
) -> None:
    steps = [(measured(mode, tick, each), float(tick)) for tick, each in enumerate(history)]
    silent = Pool(mode[0], {name: Member(100, True) for name in NAMES[:5]}, by_load=mode[1])
    begin = len(history) + jump
    decisions = run([*steps, *[(silent, begin + tick) for tick in range(200)]])
    assert {each.weight for each in decisions[-1].members.values()} == {100_000}


@given(histories)
@settings(max_examples=40, deadline=None)
def test_failures_that_flap_never_empty_a_pool(history: list[list[float | None]]) -> None:
    steps = [
        (measured((WeightSource.PASSIVE, False), tick, each, failures=100 * (tick % 3 > 0)), float(tick))
        for tick, each in enumerate(history * 4)
    ]
    for decision in run(steps):
        assert any(each.weight for each in decision.members.values())
