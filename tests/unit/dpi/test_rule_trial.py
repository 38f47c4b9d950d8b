"""Patterns are tried in a process of their own: what takes forever or ends it hurts nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from own_rules import VARIABLES, own_rules
from test_rule_matching import needs_vectorscan

from sluicegate_agent.dpi.rules import trial
from sluicegate_agent.dpi.rules.load import RuleSource, State, load
from sluicegate_agent.dpi.rules.tables import SINGLE_MATCH, Pattern
from sluicegate_agent.dpi.rules.trial import ChildTries, Trial

pytestmark = needs_vectorscan

FOREVER = rb"(.{1,30000}a.{1,30000}b.{1,30000}){2,30}"


def pattern(expression: bytes) -> Pattern:
    return Pattern(expression, SINGLE_MATCH, 0, 3)


GOOD = pattern(b"word")


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (b"a(?=b)", "looks ahead or behind"),
        (b"(?<!a)b", "looks ahead or behind"),
        (rb"(a)\1", "refers back to a group"),
        (b"a++b", "possessive"),
        (b"(?>a)b", "atomic"),
        (b"a(?:^b)", "can never match"),
        (b"a*", "matches the empty text"),
        (b"a{1,40000}", "more than 32767 times"),
        (b"a[", "Vectorscan says: "),
    ],
)
def test_what_cannot_be_expressed_is_refused_in_words(expression: bytes, words: str) -> None:
    bad = pattern(expression)
    found = ChildTries()([bad, GOOD])
    assert words in found[bad].refused
    assert found[GOOD].cost is not None


def test_a_pattern_that_takes_forever_is_quarantined_and_the_others_are_tried() -> None:
    tries = ChildTries(pattern_seconds=0.5)
    found = tries([pattern(FOREVER), GOOD])
    assert found[pattern(FOREVER)] == Trial(quarantined="compiling and trying it took longer than 0.5 s")
    assert found[GOOD].cost is not None


def test_a_dear_pattern_is_quarantined_with_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MAX_COST", 0.0)
    found = ChildTries()([GOOD])[GOOD]
    assert found.quarantined.startswith(f"takes {found.cost:.0f} times as long as a plain content")


def test_when_the_time_for_all_is_over_the_rest_is_quarantined() -> None:
    moments: Iterator[float] = iter([0.0, 1.0, 61.0, 62.0])
    tries = ChildTries(clock=lambda: next(moments))
    found = tries([GOOD, pattern(b"second"), pattern(b"another one")])
    assert [bool(each.quarantined) for each in found.values()] == [False, True, True]
    assert "not tried" in found[pattern(b"second")].quarantined


def test_a_reload_tries_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = ChildTries()
    first = tries([GOOD])

    def no_child(*_arguments: object, **_names: object) -> None:
        raise AssertionError

    monkeypatch.setattr(subprocess, "Popen", no_child)
    assert tries([GOOD]) == first


def test_a_child_that_ends_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_CHILD", "sluicegate_agent.no_such_module")
    found = ChildTries()([GOOD, pattern(b"second")])
    assert {each.quarantined for each in found.values()} == {
        "compiling it ended the compiler, or took more than its memory"
    }


def test_our_own_rules_are_all_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MAX_COST", 1000.0)  # how long something takes is no matter of right or wrong
    rules = load([RuleSource("own", own_rules())], VARIABLES, ChildTries(pattern_seconds=60.0))
    assert [each for each in rules.outcomes if each.state is not State.LOADED] == []
