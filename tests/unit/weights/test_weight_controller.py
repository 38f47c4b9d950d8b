"""What the controller decides for pools in trouble, and what it says about it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from weight_pools import Driver, equal, heard, seen

from sluicegate_agent.signals.model import Passive, Stated
from sluicegate_agent.weights.model import Member
from sluicegate_api.checks import WeightSource


def test_configured_weights_hold_without_a_source() -> None:
    decisions = Driver(WeightSource.NONE).tick(
        {"a": Member(3, True), "b": Member(0, True), "c": Member(5, True, 1000.0)}
    )
    assert {name: each.weight for name, each in decisions.items()} == {"a": 3000, "b": 0, "c": 5000}
    assert decisions["a"].reason == "its configured weight"


@pytest.mark.parametrize("by_load", [False, True])
def test_slow_backend_gets_less_and_the_others_keep_theirs(by_load: bool) -> None:
    driver = Driver(WeightSource.AGENT_CHECK, by_load=by_load)
    driver.tick(equal(6), ticks=10)
    decisions = driver.tick(equal(6, c=0.1), ticks=12)
    assert decisions["c"].weight < 36_000
    assert decisions["a"].weight == 100_000
    assert "5.0 times slower than the pool's median: 31 % of its weight" in decisions["c"].reason
    assert driver.tick(equal(6), ticks=15)["c"].weight == 100_000


def test_slow_backend_reaches_its_place_within_two_ticks_where_the_hash_places_flows() -> None:
    driver = Driver(by_load=False)
    driver.tick(equal(6), ticks=5)
    assert driver.tick(equal(6, c=0.2), ticks=2)["c"].weight <= 40_000


def test_backend_that_hangs_is_spared_for_as_long_as_it_hangs() -> None:
    driver = Driver(by_load=False)
    driver.tick(equal(6), ticks=3)
    hangs = equal(6) | {"c": Member(100, True, passive=Passive(1.0, active=9.0, in_flight=9.0))}
    driver.tick(hangs, ticks=10)
    assert {driver.tick(hangs)["c"].weight for _ in range(20)} == {5256}


def test_fast_backend_is_not_rewarded() -> None:
    driver = Driver(by_load=False)
    assert driver.tick(equal(6, c=0.001), ticks=20)["c"].weight == 100_000


def test_configured_weights_that_differ_are_what_the_learner_would_have_to_find() -> None:
    """Where they are equal they tell nothing, and a fast backend is given more; else only the guard moves them."""

    def sized(**latency: float) -> dict[str, Member]:
        return {name: replace(each, weight=200 if name == "a" else 100) for name, each in equal(6, **latency).items()}

    driver = Driver()
    assert driver.tick(equal(6, c=0.005), ticks=20)["c"].weight > 120_000
    driver = Driver()
    assert driver.tick(sized(c=0.005), ticks=20)["c"].weight == 100_000
    assert driver.tick(sized(a=0.1), ticks=12)["a"].weight < 80_000
    assert driver.tick(sized(), ticks=8)["a"].weight > 0.7 * 200_000


def test_pool_that_is_slow_as_a_whole_keeps_its_weights_and_says_so() -> None:
    driver = Driver(by_load=False)
    driver.tick(equal(5), ticks=3)
    decisions = driver.tick(equal(5, a=0.2, b=0.2), ticks=12)
    assert {each.weight for each in decisions.values()} == {100_000}
    assert driver.last.note.startswith("overloaded: 2 of 5 backends")


def test_one_of_two_backends_may_be_guarded() -> None:
    driver = Driver(by_load=False)
    assert driver.tick(equal(2, b=0.2), ticks=10)["b"].weight < 25_000


@pytest.mark.parametrize("by_load", [False, True])
def test_backend_that_fails_is_ejected_and_comes_back_on_probation(by_load: bool) -> None:
    driver = Driver(by_load=by_load)
    pool = equal(4)
    driver.tick(pool, ticks=5)
    failing = pool | {"b": Member(100, True, passive=seen(0.001, failures=100))}
    first = driver.tick(failing)["b"]
    assert first.weight <= 50_000
    assert "60 % of its new flows fail" in first.reason
    ejected = driver.tick(failing, ticks=3)["b"]
    assert (ejected.weight, ejected.state) == (0, "ejected")
    assert "ejected" in ejected.reason
    silent = pool | {"b": Member(100, True, passive=seen(None, flows=0, active=0.0))}
    back = driver.tick(silent, ticks=30)["b"]
    assert back.state == "probation"
    assert 1000 <= back.weight <= 8_000
    steps = [driver.tick(pool)["b"].weight for _ in range(14)]
    assert all(after <= 1.8 * before for before, after in pairwise(steps)), "1.3, and what rounding held back"
    assert steps[-1] >= 80_000


def test_ejected_backend_returns_when_its_check_failed_and_passed() -> None:
    driver = Driver(by_load=False)
    failing = equal(4) | {"b": Member(100, True, passive=seen(0.001, failures=100))}
    assert driver.tick(failing, ticks=4)["b"].state == "ejected"
    driver.tick(equal(4) | {"b": Member(100, False)})
    assert driver.tick(equal(4) | {"b": Member(100, True, driver.now)})["b"].weight == 100_000


def test_panic_uses_all_at_their_configured_weights() -> None:
    driver = Driver(by_load=False)
    members = equal(4) | {name: Member(100, False) for name in "ab"}
    assert driver.tick(members)["c"].reason == "its configured weight"
    assert not driver.last.note
    decisions = driver.tick(members | {"c": Member(100, False)})
    assert {each.weight for each in decisions.values()} == {100_000}
    assert driver.last.note == "panic: only 25 % of the weight is healthy: all backends at their configured weights"


def test_when_all_fail_none_is_ejected_for_good() -> None:
    driver = Driver(by_load=False)
    failing = {name: replace(member, passive=seen(0.001, failures=100)) for name, member in equal(4).items()}
    assert {each.weight for each in driver.tick(failing, ticks=10).values()} == {100_000}
    assert driver.last.note.startswith("panic: only 0 % of the weight is healthy")
    driver.tick(equal(4), ticks=20)
    assert not driver.last.note


def test_stated_share_counts_at_once_when_lower_and_by_steps_when_higher() -> None:
    driver = Driver(WeightSource.AGENT_CHECK)
    driver.report({"a": {"share": 1.0}, "b": {"share": 1.0}}, ticks=3)
    lower = driver.report({"a": {"share": 0.4}, "b": {"share": 1.0}})["a"]
    assert (lower.weight, lower.reason) == (40_000, "says 40 %")
    higher = driver.report({"a": {"share": 1.0}, "b": {"share": 1.0}})["a"]
    assert higher.weight == 52_000
    assert "rising" in higher.reason
    assert driver.report({"a": {"share": 1.0}, "b": {"share": 1.0}}, ticks=8)["a"].weight == 100_000


def test_stated_weight_is_the_weight_itself() -> None:
    decisions = Driver(WeightSource.AGENT_CHECK).report({"a": {"weight": 30}, "b": {"weight": 7}})
    assert decisions["a"].weight == 30_000
    assert decisions["b"].weight == 7_000
    assert decisions["a"].reason == "says weight 30"


def test_share_of_nothing_takes_no_flows_and_comes_back() -> None:
    driver = Driver(WeightSource.AGENT_CHECK)
    assert driver.report({"a": {"share": 0.0}, "b": {"share": 1.0}}, ticks=2)["a"].weight == 0
    assert driver.report({"a": {"share": 1.0}, "b": {"share": 1.0}})["a"].weight == 10_000
    assert driver.report({"a": {"share": 0.0}, "b": {"share": 0.0}}, ticks=2)["a"].weight == 100_000
    assert driver.last.note == "panic: every backend states a share of 0: configured weights"


@pytest.mark.parametrize(
    ("stated", "state"),
    [
        ({"administrative": Stated.DRAIN}, "drain"),
        ({"administrative": Stated.MAINT}, "maint"),
        ({"operational": Stated.DOWN}, "down"),
        ({"operational": Stated.UP, "administrative": Stated.READY}, ""),
    ],
)
def test_stated_states(stated: dict[str, Stated], state: str) -> None:
    driver = Driver(WeightSource.AGENT_CHECK, slow_start=10.0)
    decision = driver.report({"a": stated, "b": {}, "c": {}}, ticks=3)["a"]
    assert (decision.state, decision.weight) == (state, 0 if state else 100_000)
    if state:
        assert driver.report({"a": {}, "b": {}, "c": {}})["a"].slow_start < 0.2, "it begins anew"


def test_capacity_becomes_weight_with_the_configured_mean() -> None:
    driver = Driver(WeightSource.HTTP)
    loads = {name: {"rps": 60.0 * size, "utilization": 0.6} for name, size in zip("abcd", (1, 1, 2, 4), strict=True)}
    decisions = driver.report(loads, ticks=20)
    assert [each.weight for each in decisions.values()] == pytest.approx([50_000, 50_000, 100_000, 200_000], rel=0.06)
    assert decisions["d"].reason == "full at about 400 requests/s: 200 % of its weight"


def test_backend_that_fails_fast_does_not_seem_to_have_capacity() -> None:
    driver = Driver(WeightSource.HTTP)
    busy = {name: {"rps": 60.0, "utilization": 0.6} for name in "abc"}
    driver.report(busy, ticks=10, passive=seen(flows=60))
    at = driver.now + 0.9
    pool = {name: Member(100, True, reading=heard(at, **load), passive=seen(flows=60)) for name, load in busy.items()}
    hole = heard(at, rps=500.0, utilization=0.06)
    decision = driver.tick(pool | {"c": Member(100, True, reading=hole, passive=seen(None, flows=500, failures=450))})[
        "c"
    ]
    assert decision.prior == pytest.approx(100, rel=0.01)
    assert decision.weight <= 25_000


def test_lost_reports_lead_back_to_the_configured_weight() -> None:
    driver = Driver(WeightSource.HTTP)
    loads = {"a": {"rps": 60.0, "utilization": 0.9}, "b": {"rps": 60.0, "utilization": 0.3}}
    driver.report(loads, ticks=20)
    kept = {name: Member(100, True, reading=heard(driver.now, **load)) for name, load in loads.items()}
    weights = [driver.tick(kept)["b"].weight for _ in range(60)]
    assert weights == sorted(weights, reverse=True)
    assert weights[8] > 140_000
    assert weights[-1] == 100_000
    decision = driver.last.members["b"]
    assert decision.reason.endswith("back to its configured weight")
    assert "report" in decision.absent
    assert "no backend reports" in driver.last.note


def test_backend_that_gets_too_little_to_show_itself_is_given_the_benefit_of_the_doubt() -> None:
    driver = Driver(WeightSource.HTTP)
    busy = {name: {"rps": 60.0, "utilization": 0.6} for name in "abc"}
    assert driver.report(busy | {"d": {"rps": 6.0, "utilization": 0.6}}, ticks=20)["d"].weight < 15_000
    assert driver.report(busy | {"d": {"rps": 0.5, "utilization": 0.005}}, ticks=20)["d"].weight > 70_000


def test_idle_pool_keeps_what_it_knows() -> None:
    driver = Driver(WeightSource.HTTP)
    driver.report({"a": {"rps": 60.0, "utilization": 0.3}, "b": {"rps": 60.0, "utilization": 0.9}}, ticks=20)
    before = driver.last.members["b"].weight
    idle = {"rps": 0.1, "utilization": 0.01}
    assert driver.report({"a": idle, "b": idle}, ticks=100)["b"].weight == before


def test_joining_backend_starts_slowly_when_asked_to() -> None:
    driver = Driver(by_load=False, slow_start=10.0)
    driver.tick(equal(3), ticks=3)
    joined = driver.now + 1
    shares = [driver.tick(equal(3) | {"z": Member(100, True, joined, passive=seen())})["z"].weight for _ in range(16)]
    assert shares[0] == pytest.approx(10_000, rel=0.1)
    assert shares == sorted(shares)
    assert shares[-1] == 100_000
    assert driver.tick(equal(3))["a"].weight == 100_000
    assert "z" not in driver.last.members


def test_backend_that_is_not_usable_already_shows_where_it_will_start() -> None:
    decision = Driver(by_load=False, slow_start=10.0).tick(equal(3) | {"z": Member(100, False)})["z"]
    assert decision.weight == pytest.approx(10_000, rel=0.1)
    assert decision.reason.startswith("not usable")


def test_replies_that_are_not_seen_are_said_to_be_absent() -> None:
    driver = Driver(by_load=True, replies_seen=False)
    decision = driver.tick(equal(3, c=9.0), ticks=5)["c"]
    assert decision.weight == 100_000
    assert decision.absent == ("latency", "errors")
    assert "DirectReturn" in driver.last.note


def test_step_between_two_ticks_applies_facts_only() -> None:
    driver = Driver(WeightSource.AGENT_CHECK, by_load=False)
    driver.tick(equal(4), ticks=5)
    slow = equal(4, c=0.5)
    assert driver.tick(slow, jump=0.1)["c"].weight == 100_000
    assert driver.tick(slow | {"d": Member(50, True)}, jump=0.1)["d"].weight == 50_000
    says = Member(100, True, reading=heard(driver.now, share=0.3), passive=seen())
    assert driver.tick(equal(4) | {"a": says}, jump=0.1)["a"].weight == 30_000


def test_edited_weight_counts_at_once_and_keeps_what_was_found() -> None:
    driver = Driver(by_load=False)
    driver.tick(equal(4, c=0.2), ticks=10)
    before = driver.last.members["c"].weight
    doubled = {name: replace(member, weight=2 * member.weight) for name, member in equal(4, c=0.2).items()}
    assert driver.tick(doubled)["c"].weight == pytest.approx(2 * before, abs=2)


def test_first_step_moves_on_from_the_weight_that_an_agent_before_left() -> None:
    driver = Driver(by_load=False)
    left = equal(3) | {"c": Member(100, True, passive=seen(), published=25_000), "d": Member(100, True, published=0)}
    decisions = driver.tick(left)
    assert {name: each.weight for name, each in decisions.items()} == {
        "a": 100_000,
        "b": 100_000,
        "c": 35_355,
        "d": 100_000,
    }
    assert driver.tick(left, ticks=8)["c"].weight == 100_000


def test_stated_share_that_an_agent_before_applied_is_not_applied_twice() -> None:
    driver = Driver(WeightSource.AGENT_CHECK)
    says = {"a": Member(100, True, published=40_000), "b": Member(100, True)}
    assert driver.tick(says)["a"].weight == 52_000
    assert driver.report({"a": {"share": 0.4}, "b": {"share": 1.0}})["a"].weight == 40_000


def test_pools_that_are_gone_are_forgotten() -> None:
    driver = Driver(by_load=False)
    driver.tick(equal(4, c=0.2), ticks=10)
    driver.controller.keep_only(["pool"])
    assert driver.tick(equal(4))["c"].weight < 100_000
    driver.controller.keep_only([])
    assert driver.tick(equal(4))["c"].weight == 100_000


@pytest.mark.parametrize("source", list(WeightSource))
def test_pools_of_none_and_one(source: WeightSource) -> None:
    driver = Driver(source)
    assert driver.tick({}) == {}
    assert not driver.last.note
    assert driver.tick({"a": Member(7, True, passive=seen(3.0))}, ticks=5)["a"].weight == 7000
