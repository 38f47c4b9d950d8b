"""The rules one by one: latency guard, failures, prior, learner, slow start, limits."""

from __future__ import annotations

import pytest
from weight_pools import heard, seen

from sluicegate_agent.signals.model import Passive
from sluicegate_agent.weights import bounds, errors, guard, learner, prior, slow_start
from sluicegate_agent.weights.ticks import tick


@pytest.mark.parametrize(
    ("latency", "factor"),
    [(None, 1.0), (0.001, 1.0), (0.020, 1.0), (0.030, 1.0), (0.061, 0.5), (0.305, 0.1)],
)
def test_guard_costs_nothing_up_to_half_above_the_median_and_never_rewards(
    latency: float | None, factor: float
) -> None:
    assert guard.guard(latency, 0.020) == pytest.approx(factor)


def test_differences_of_fractions_of_a_millisecond_are_no_load() -> None:
    assert guard.guard(0.0006, 0.0001) == 1.0


def test_estimate_rises_faster_than_it_falls_where_load_places_flows() -> None:
    assert guard.followed(0.1, 0.2, 1.0, 0.1, by_load=True) == pytest.approx(0.16)
    assert guard.followed(0.2, 0.1, 1.0, 0.1, by_load=True) == pytest.approx(0.17)
    assert guard.followed(0.2, 0.1, 1.0, 0.1, by_load=False) == pytest.approx(0.14)


def test_without_samples_the_estimate_goes_to_the_median_and_no_further() -> None:
    estimate: float | None = 1.0
    for _ in range(60):
        estimate = guard.followed(estimate, 0.0, 0.0, 0.02, by_load=True)
    assert estimate == pytest.approx(0.02, rel=1e-3)
    assert guard.followed(None, 0.0, 0.0, 0.02, by_load=True) is None


@pytest.mark.parametrize(
    ("passive", "believed"),
    [
        (None, 0.0),
        (seen(0.02), 1.0),
        (seen(0.02, flows=2), 0.25),
        (seen(0.02, active=0.2), 0.25),
        (seen(None, active=0.0), 0.0),
    ],
)
def test_few_observations_are_believed_a_little(passive: Passive | None, believed: float) -> None:
    assert guard.sampled(passive, 0.02)[1] == pytest.approx(believed)


def test_backend_that_hangs_has_the_latency_of_what_is_in_flight() -> None:
    hangs = Passive(1.0, active=9.0, in_flight=9.0)
    assert guard.sampled(hangs, 0.02) == (9.0, 1.0)
    assert guard.sampled(hangs, None)[1] == 0.0, "a lower bound alone is no beginning"


@pytest.mark.parametrize(
    ("latencies", "middle"),
    [
        ([], None),
        ([(5.0, 1)], 5.0),
        ([(1.0, 1), (5.0, 1)], 1.0),
        ([(1.0, 1), (2.0, 1), (9.0, 1)], 2.0),
        ([(1.0, 1), (5.0, 9)], 5.0),
    ],
)
def test_median_is_what_backends_with_half_of_the_weight_keep_to(
    latencies: list[tuple[float, float]], middle: float | None
) -> None:
    assert guard.median(latencies) == middle


def test_pool_is_overloaded_above_a_third_and_until_a_quarter() -> None:
    assert not guard.overloaded([1, 1], 6, was=False)
    assert guard.overloaded([1, 1, 1], 6, was=False)
    assert guard.overloaded([1, 1], 6, was=True)
    assert not guard.overloaded([1, 1], 8, was=True)
    assert not guard.overloaded([1], 2, was=False), "one of two may be slow"


def after(*ticks: tuple[float, float], known: errors.Errors = errors.UNKNOWN) -> errors.Errors:
    for failures, flows in ticks:
        known = errors.followed(known, failures, flows, 1.0)
    return known


def test_three_bad_ticks_eject() -> None:
    assert not after((100, 100), (100, 100)).ejected
    assert after((100, 100), (100, 100), (100, 100)).ejected


def test_ticks_without_flows_do_not_eject_and_forget() -> None:
    known = after((100, 100), *[(0, 0)] * 5)
    assert not known.ejected
    assert after(*[(0, 0)] * 100, known=known) == errors.UNKNOWN


def test_one_failure_of_one_flow_is_no_catastrophe() -> None:
    assert after((1, 1)).factor > 0.7


def test_ejected_backend_comes_back_on_probation_and_goes_for_longer_when_it_fails_again() -> None:
    known = after(*[(10, 10)] * 3)
    pauses = []
    for _ in range(6):
        waited = 0
        while known.ejected:
            known = after((0, 0), known=known)
            waited += 1
        pauses.append(waited)
        assert known.probation
        known = after((10, 10), (10, 10), known=known)
        assert known.ejected
    assert pauses == [30, 60, 120, 240, 300, 300]


def test_probation_ends_after_a_good_minute() -> None:
    known = after(*[(10, 10)] * 3, *[(0, 0)] * 30, *[(0, 100)] * 61)
    assert known == errors.UNKNOWN


def test_ejected_backend_that_answers_well_in_panic_is_taken_back() -> None:
    assert after(*[(10, 10)] * 3, *[(0, 100)] * 3).probation


def test_capacity_needs_three_good_reports_and_some_load() -> None:
    known = prior.UNKNOWN
    for count in (1, 2):
        known = prior.followed(known, heard(count, count, rps=100.0, utilization=0.5), None, tick(None, 1, count), 10)
        assert known.capacity is None
    known = prior.followed(known, heard(3, 3, rps=100.0, utilization=0.5), None, tick(None, 1, 3), 10)
    assert known.capacity == 200.0
    for report in ({"rps": 5.0, "utilization": 0.001}, {"rps": 0.1, "utilization": 0.9}, {"rps": 5.0}, {}):
        assert prior.followed(known, heard(4, **report), None, tick(None, 1, 4), 10).capacity == 200.0


def test_rate_is_our_own_when_the_report_has_none() -> None:
    known = prior.followed(prior.UNKNOWN, heard(3, utilization=0.5), seen(flows=50), tick(None, 1, 3), 10)
    assert known.capacity == 100.0


def test_one_that_lies_moves_the_others_little() -> None:
    scale = prior.scale([(100.0, 10)] * 15 + [(1e15, 10)])
    honest = prior.measured(prior.Known(1, 0, 100.0, 1.0), 10, scale, 10)
    liar = prior.measured(prior.Known(1, 0, 1e15, 1.0), 10, scale, 10)
    assert honest > 0.6
    assert liar <= 10


@pytest.mark.parametrize(("quiet", "factor"), [(0, 0.2), (10, 0.2), (20, 0.7057), (40, 0.9602), (41, 1.0)])
def test_stale_prior_goes_back_to_the_configured_weight(quiet: float, factor: float) -> None:
    assert prior.faded(0.2, quiet, 10) == pytest.approx(factor, abs=1e-4)


def lesson(sample: float, *, believed: float = 1.0, failing: float = 0.0) -> learner.Lesson:
    return learner.Lesson(sample, sample, believed, 0.02, failing)


def test_learner_converges_and_forgets() -> None:
    known = learner.UNKNOWN
    for _ in range(100):
        known = learner.followed(known, lesson(0.1))
    assert known.factor == learner.LEAST
    for _ in range(40):
        known = learner.followed(known, lesson(0.02, believed=0.0))
    assert known.factor == 1.0


def test_learner_takes_failing_fast_for_no_merit() -> None:
    assert learner.followed(learner.UNKNOWN, lesson(0.001)).factor > 1.0
    assert learner.followed(learner.UNKNOWN, lesson(0.001, failing=0.5)).factor == 1.0


@pytest.mark.parametrize(
    ("age", "window", "factor"), [(0, 0, 1), (0, 10, 0.1), (0.5, 10, 0.1), (5, 10, 0.5), (10, 10, 1), (99, 10, 1)]
)
def test_slow_start_begins_at_a_tenth(age: float, window: float, factor: float) -> None:
    assert slow_start.factor(age, window) == factor


@pytest.mark.parametrize(
    ("target", "fast", "step"), [(9, False, 1.3), (0.1, False, 0.5), (0.1, True, 0.25), (1.1, False, 1.1)]
)
def test_steps(target: float, fast: bool, step: float) -> None:
    assert bounds.limited(1.0, target, fast=fast) == step


@pytest.mark.parametrize(
    ("factor", "last", "rounded", "small", "out"),
    [
        (0.97, 1.0, False, True, 1.0),
        (0.94, 1.0, False, True, 0.94),
        (0.94, 1.0, False, False, 1.0),
        (0.80, 1.0, False, False, 0.80),
        (1.0, 0.98, False, True, 1.0),
        (0.90, 1.0, True, True, 1.0),
        (0.85, 1.0, True, True, 2**-0.25),
        (0.85, 1.0, True, False, 1.0),
        (0.5, 1.0, True, False, 0.5),
        (0.9, None, True, False, 2**-0.25),
        (0.0, 1.0, True, False, 0.0),
    ],
)
def test_what_is_published(factor: float, last: float | None, rounded: bool, small: bool, out: float) -> None:
    assert bounds.published(factor, last, rounded=rounded, small=small) == pytest.approx(out)


@pytest.mark.parametrize(
    ("last", "now", "elapsed", "counts"),
    [(None, 5, 0, True), (5, 6, 1, True), (5, 5.2, 0, False), (5, 5, 0, False), (5, -900, 0, True), (5, 1e9, 5, True)],
)
def test_no_jump_of_a_clock_counts_as_experience(last: float | None, now: float, elapsed: float, counts: bool) -> None:
    time = tick(last, 1.0, now)
    assert (time.elapsed, time.counts) == (elapsed, counts)
