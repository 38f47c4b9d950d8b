"""The demo's second act compares the sides fairly, and judges itself by what its load saw."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from sluicegate_agent.lab.demo.weights_script import (
    CORES,
    DYNAMIC,
    FAILING,
    NOTICE_SECONDS,
    SLOWED,
    STATIC,
    Phase,
    Row,
    Started,
    Weight,
    complaints,
    rows,
)
from sluicegate_agent.lab.outcomes import Figures, Outcome, figures, from_json, quantile, to_json

GOOD = Figures(400, Counter(), Counter(dict.fromkeys(CORES, 100)), 0.05, 0.2, 0.001)
WORSE = replace(GOOD, p99=1.5)
RESETTING = Figures(400, Counter({"reset": 100}), Counter(dict.fromkeys(set(CORES) - {FAILING}, 100)), 0.05, math.inf)
CALM = {STATIC: GOOD, DYNAMIC: GOOD}
GOOD_ROWS = {
    Phase.STEADY: Row(Phase.STEADY, WORSE, GOOD, CALM),
    Phase.SLOW: Row(Phase.SLOW, WORSE, GOOD, CALM),
    Phase.RECOVERED: Row(Phase.RECOVERED, GOOD, GOOD, CALM),
    Phase.HOLE: Row(Phase.HOLE, RESETTING, replace(GOOD, failures=Counter({"reset": 9})), CALM),
}
FULL = {name: Weight(100, 100.0) for name in CORES}
WEIGHTS = {
    Phase.STEADY: FULL,
    Phase.SLOW: FULL | {SLOWED: Weight(100, 30.0, "slow")},
    Phase.RECOVERED: FULL,
    Phase.HOLE: FULL | {FAILING: Weight(100, 5.0, "errors")},
}


def said(changed: Row | None = None, weights: dict[Phase, dict[str, Weight]] = WEIGHTS) -> list[str]:
    table = GOOD_ROWS if changed is None else GOOD_ROWS | {changed.phase: changed}
    return list(complaints(tuple(table.values()), weights))


def test_an_act_that_shows_what_it_says_has_no_complaints() -> None:
    assert said() == []


@pytest.mark.parametrize("side", [STATIC, DYNAMIC])
def test_nothing_may_fail_while_all_is_well(side: str) -> None:
    failed = replace(GOOD, failures=Counter({"timeout": 2}))
    assert said(replace(GOOD_ROWS[Phase.STEADY], settled=CALM | {side: failed})) == [
        f"steady: 2 requests to the {side} side failed"
    ]


def test_every_backend_answers_while_all_is_well() -> None:
    lonely = replace(GOOD, answers=Counter({name: 1 for name in CORES if name != "backend-4"}))
    assert said(replace(GOOD_ROWS[Phase.STEADY], settled=CALM | {DYNAMIC: lonely})) == [
        "steady: no answer from backend-4 on the dynamic side"
    ]


def test_a_slow_backend_must_cost_less_with_dynamic_weights() -> None:
    (complaint,) = said(replace(GOOD_ROWS[Phase.SLOW], static=GOOD, dynamic=WORSE))
    assert complaint == "slow: p99 with dynamic weights is not lower: 1.500 s against 0.200 s"
    assert said(replace(GOOD_ROWS[Phase.SLOW], static=RESETTING, dynamic=WORSE)) == []
    assert len(said(replace(GOOD_ROWS[Phase.SLOW], static=RESETTING, dynamic=RESETTING))) == 1


def test_a_recovered_backend_costs_nothing_and_gets_requests_again() -> None:
    row = GOOD_ROWS[Phase.RECOVERED]
    early = replace(row, dynamic=replace(GOOD, failures=Counter({"timeout": 3})))
    assert said(early) == []
    (late,) = said(replace(row, settled=CALM | {DYNAMIC: replace(GOOD, failures=Counter({"timeout": 3}))}))
    assert late == "recovered: 3 requests to the dynamic side failed later than 5 s after it"
    starved = replace(GOOD, answers=Counter({"backend-1": 400}))
    assert said(replace(row, settled=CALM | {DYNAMIC: starved})) == [
        "recovered: backend-3 got no requests on the dynamic side again"
    ]


def test_a_black_hole_must_swallow_less_than_half_with_dynamic_weights() -> None:
    row = GOOD_ROWS[Phase.HOLE]
    half, more = (replace(GOOD, failures=Counter({"reset": count})) for count in (50, 51))
    assert said(replace(row, dynamic=half)) == []
    assert said(replace(row, dynamic=more)) == [
        "black hole: 51 failures with dynamic weights, against 100 with static ones"
    ]
    assert "black hole: backend-2 failed no request on the static side" in said(replace(row, static=GOOD))


@pytest.mark.parametrize(("phase", "backend"), [(Phase.SLOW, SLOWED), (Phase.HOLE, FAILING)])
def test_the_agent_must_lower_the_weight_and_tell(phase: Phase, backend: str) -> None:
    assert said(weights=WEIGHTS | {phase: FULL}) == [
        f"{phase.title}: the weight of {backend} did not fall: 100 before, 100 at the end"
    ]
    assert said(weights=WEIGHTS | {phase: {}}) == [f"{phase.title}: the agent does not tell the weight of {backend}"]


def test_requests_that_were_never_sent_and_missing_phases_are_told() -> None:
    unsent = replace(GOOD, failures=Counter({"not sent": 4}))
    assert "slow, dynamic: 4 requests were never sent: too many were waiting" in said(
        replace(GOOD_ROWS[Phase.SLOW], dynamic=unsent)
    )
    assert list(complaints((GOOD_ROWS[Phase.STEADY],), WEIGHTS)) == ["there was no phase slow, recovered, black hole"]


def test_a_request_counts_in_the_phase_and_on_the_side_it_was_planned_for() -> None:
    started = [Started(Phase.STEADY, 100.0), Started(Phase.SLOW, 110.0)]
    outcomes = [
        Outcome(STATIC, 99.9, 0.0, 100.4, "backend-1"),
        Outcome(STATIC, 109.9, 0.0, 112.0, "backend-3"),  # ended in the next phase
        Outcome(DYNAMIC, 110.0, 0.0, 113.0, failure="timeout"),
        Outcome(DYNAMIC, 110.0 + NOTICE_SECONDS, 0.01, 115.1, "backend-4"),
    ]
    steady, slow = rows(outcomes, started)
    assert (steady.static.requests, steady.dynamic.requests) == (2, 0)
    assert steady.static.p99 == pytest.approx(2.1)
    assert (slow.static.requests, slow.dynamic.requests, slow.dynamic.failed) == (0, 2, 1)
    assert slow.dynamic.worst_lag == 0.01


def test_a_request_is_settled_long_after_one_change_and_before_the_next() -> None:
    started = [Started(Phase.STEADY, 100.0), Started(Phase.SLOW, 110.0), Started(Phase.RECOVERED, 120.0)]
    settled = {
        Phase.STEADY: [Outcome(DYNAMIC, 100.1, 0.0, 100.2, "backend-1")],
        Phase.SLOW: [Outcome(DYNAMIC, 110.0 + NOTICE_SECONDS, 0.0, 119.9, "backend-1")],
        Phase.RECOVERED: [Outcome(DYNAMIC, 126.0, 0.0, 130.0, "backend-1")],
    }
    disturbed = [
        Outcome(DYNAMIC, 109.9, 0.0, 110.1, failure="timeout"),
        Outcome(DYNAMIC, 109.9 + NOTICE_SECONDS, 0.0, 115.0, failure="timeout"),
        Outcome(DYNAMIC, 119.9, 0.0, 120.1, failure="reset"),
    ]
    table = rows([*disturbed, *(one for some in settled.values() for one in some)], started)
    assert {row.phase: row.settled[DYNAMIC] for row in table} == {
        phase: figures(some) for phase, some in settled.items()
    }
    assert all(row.settled[STATIC].requests == 0 for row in table)


def test_the_ratio_is_of_the_p99() -> None:
    assert Row(Phase.SLOW, WORSE, GOOD, CALM).ratio == pytest.approx(7.5)
    assert math.isinf(Row(Phase.SLOW, RESETTING, GOOD, CALM).ratio)
    assert Row(Phase.SLOW, GOOD, RESETTING, CALM).ratio == 0.0
    assert math.isnan(Row(Phase.SLOW, RESETTING, RESETTING, CALM).ratio)
    assert math.isnan(Row(Phase.SLOW, Figures(), Figures(), CALM).ratio)


@pytest.mark.parametrize(
    ("static", "dynamic", "words"),
    [(WORSE, GOOD, "7.5×"), (GOOD, WORSE, "0.1×"), (RESETTING, GOOD, "> 15×"), (RESETTING, RESETTING, "–")],  # noqa: RUF001
)
def test_the_ratio_in_words_is_a_bound_where_too_many_failed(static: Figures, dynamic: Figures, words: str) -> None:
    assert Row(Phase.SLOW, static, dynamic, CALM).in_words == words


def test_latency_counts_from_the_planned_time_and_a_failure_took_for_ever() -> None:
    late = Outcome(STATIC, 10.0, 0.5, 10.6, "backend-1")
    assert late.latency == pytest.approx(0.6)
    assert math.isinf(Outcome(STATIC, 10.0, 0.5, 10.6, failure="reset").latency)


def test_figures_of_requests_some_of_which_failed() -> None:
    answered = [Outcome(STATIC, 0.0, 0.0, (number + 1) / 100, "backend-1") for number in range(98)]
    failed = [Outcome(STATIC, 0.0, 0.2, 1.0, failure="reset"), Outcome(STATIC, 0.0, 0.0, 1.0, failure="timeout")]
    seen = figures(answered + failed)
    assert (seen.requests, seen.failed, seen.p50, seen.worst_lag) == (100, 2, 0.5, 0.2)
    assert math.isinf(seen.p99)
    assert figures(answered).p99 == 0.98
    assert seen.share("backend-1") == 0.98
    assert figures([]).requests == 0
    assert math.isnan(figures([]).p99)


@pytest.mark.parametrize(("part", "value"), [(0.0, 1), (0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_a_quantile_is_one_of_the_values(part: float, value: int) -> None:
    assert quantile([4, 2, 1, 3], part) == value


def test_outcomes_survive_their_way_between_processes() -> None:
    outcomes = [Outcome(STATIC, 1.5, 0.001, 2.25, "backend-1"), Outcome(DYNAMIC, 1.5, 0.001, 2.5, failure="reset")]
    assert from_json(to_json(outcomes)) == outcomes
