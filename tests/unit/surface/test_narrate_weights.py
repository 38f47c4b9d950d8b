"""Lines about weights, signals and overrides: one per change, and never too many."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from surface_moments import configured, document, moment

from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.reports.narrate_weights import BURST, WeightNarrator
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.signals.model import Reading, Report
from sluicegate_agent.weights.model import Decision, Override


@pytest.fixture
def situation() -> Situation:
    return moment(configured(document()))


def keys(situation: Situation) -> list[BackendKey]:
    return sorted(situation.desired.backends)


def deciding(situation: Situation, *weights: int, reason: str = "slow") -> Situation:
    decisions = {key: Decision(weight, reason=reason) for key, weight in zip(keys(situation), weights, strict=False)}
    return replace(situation, decisions=decisions)


def test_a_weight_is_told_when_it_moved_by_half_since_it_was_told_last(situation: Situation) -> None:
    narrator = WeightNarrator()
    assert not list(narrator.lines(deciding(situation, 100_000, 50_000), 0))
    assert not list(narrator.lines(deciding(situation, 70_000, 50_000), 1))
    assert list(narrator.lines(deciding(situation, 60_000, 50_000), 2)) == [
        "backend shop/web http 10.0.0.1:8080: weight 100 -> 60 (slow)"
    ]
    assert not list(narrator.lines(deciding(situation, 80_000, 50_000), 3))
    assert len(list(narrator.lines(deciding(situation, 91_000, 50_000), 4))) == 1


def test_going_out_and_coming_back_is_told_by_the_state_and_not_again(situation: Situation) -> None:
    narrator = WeightNarrator()
    for time, weight in enumerate((100_000, 0, 5_000)):
        lines = list(narrator.lines(deciding(situation, weight), time))
    assert len(lines) == 1, "5 of 100 after its return"
    assert "100 -> 5" in lines[0]


def test_a_signal_that_goes_and_comes_back_is_told_with_its_error(situation: Situation) -> None:
    narrator = WeightNarrator()
    one, two = keys(situation)
    good = Reading(Report(share=1.0), at=0.0)
    assert not list(narrator.lines(replace(situation, readings={one: good, two: good}), 0))
    lost = replace(good, error="connection refused")
    assert list(narrator.lines(replace(situation, readings={one: lost, two: good}), 1)) == [
        "backend shop/web http 10.0.0.1:8080: no signal: connection refused"
    ]
    assert not list(narrator.lines(replace(situation, readings={one: lost, two: good}), 2))
    (line,) = narrator.lines(replace(situation, readings={one: good, two: good}), 3)
    assert line.endswith("the signal is back")


def test_an_error_that_backends_share_is_one_line(situation: Situation) -> None:
    lost = dict.fromkeys(keys(situation), Reading(error="Prometheus: refused"))
    (line,) = WeightNarrator().lines(replace(situation, readings=lost), 0)
    assert line == "load balancer shop/web, http over IPv4, 2 backends: no signal: Prometheus: refused"


def test_notes_and_overrides_are_told_when_they_come_and_go(situation: Situation) -> None:
    narrator = WeightNarrator()
    one = keys(situation)[0]
    decided = deciding(situation, 100_000, 50_000)
    noted = replace(decided, pool_notes={one.service: "panic"}, overrides={one: Override(1_700_000_000.0, "eve")})
    assert list(narrator.lines(noted, 0)) == [
        "backend shop/web http 10.0.0.1:8080: drained by an operator (eve) until 2023-11-14T22:13:20Z",
        "load balancer shop/web, http over IPv4: panic",
    ]
    assert list(narrator.lines(decided, 1)) == [
        "backend shop/web http 10.0.0.1:8080: not drained by an operator any more",
        "load balancer shop/web, http over IPv4: no more: panic",
    ]
    assert not list(narrator.lines(decided, 2))


def test_lines_are_bounded_and_what_found_no_room_is_told_later(situation: Situation) -> None:
    narrator = WeightNarrator()
    service = keys(situation)[0].service
    many = [BackendKey(service, ip_address(f"10.1.0.{number}"), 80) for number in range(1, 101)]
    before = replace(situation, decisions=dict.fromkeys(many, Decision(100_000)))
    after = replace(situation, decisions=dict.fromkeys(many, Decision(10_000, reason="slow")))
    assert not list(narrator.lines(before, 0))
    told = list(narrator.lines(after, 1))
    assert len(told) == BURST
    told += narrator.lines(after, 6)
    assert len(set(told)) == BURST + 5
    for second in range(7, 107):
        told += narrator.lines(after, second)
    assert len(set(told)) == len(told) == 100


def test_what_is_gone_is_forgotten(situation: Situation) -> None:
    narrator = WeightNarrator()
    assert not list(narrator.lines(deciding(situation, 100_000), 0))
    assert not list(narrator.lines(situation, 1))
    assert not list(narrator.lines(deciding(situation, 10_000), 2)), "it begins there"
