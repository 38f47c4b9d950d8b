"""Many rules at once: each has an outcome, bad ones stop no others, and the tables hold what is in force."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from own_rules import VARIABLES, own_rules

from sluicegate_agent.dpi.rules import load as loading
from sluicegate_agent.dpi.rules.load import Outcome, RuleSource, State, load
from sluicegate_agent.dpi.rules.model import App, Buffer
from sluicegate_agent.dpi.rules.sources import sources_of
from sluicegate_agent.dpi.rules.tables import NO_OFFSET, Pattern
from sluicegate_agent.dpi.rules.trial import Trial
from sluicegate_api.dpisniffer import DpiSniffer

PLAIN = 'alert tcp any any -> any any (content:"word{0}"; sid:{0};)'


def all_well(patterns: Iterable[Pattern]) -> dict[Pattern, Trial]:
    return {pattern: Trial(cost=1.0) for pattern in patterns}


def outcomes(text: str, tries: loading.Tries = all_well) -> tuple[Outcome, ...]:
    return load([RuleSource("a.rules", text)], VARIABLES, tries).outcomes


def test_every_rule_has_an_outcome_in_its_place() -> None:
    found = outcomes(
        "# comment\n"
        'alert tcp any any -> any any (msg:"one"; content:"a"; sid:1; rev:2;)\n'
        'alert tcp any any -> any any (content:"a"; frob; sid:2;)\n'
        'alert ip any any -> any any (content:"a"; sid:3;)\n'
    )
    assert found == (
        Outcome("a.rules", 2, State.LOADED, sid=1, rev=2, message="one", cost=1.0),
        Outcome(
            "a.rules",
            3,
            State.REFUSED,
            "frob is not supported here yet",
            message='alert tcp any any -> any any (content:"a"; frob; sid:2;)',
            keyword="frob",
            column=44,
        ),
        Outcome(
            "a.rules",
            4,
            State.REWRITTEN,
            "one rule each for the stream of TCP, packets of UDP, packets of ICMP",
            sid=3,
            rev=0,
            cost=1.0,
        ),
    )
    assert [each.place for each in found] == ["a.rules:2", "a.rules:3:44", "a.rules:4"]


def test_the_second_of_one_sid_names_the_first() -> None:
    first, second = outcomes(PLAIN.format(1) + "\n" + PLAIN.format(1))
    assert (first.state, second.state) == (State.LOADED, State.REFUSED)
    assert second.reason == "sid 1 is already that of a.rules:1"


def test_a_bad_pattern_takes_out_its_rule_alone() -> None:
    def tries(patterns: Iterable[Pattern]) -> dict[Pattern, Trial]:
        bad = {b"word1": Trial(refused="no"), b"word2": Trial(9.0, quarantined="dear")}
        return {pattern: bad.get(pattern.expression, Trial(1.0)) for pattern in patterns}

    text = "\n".join(PLAIN.format(number) for number in (1, 2, 3))
    rules = load([RuleSource("a", text)], {}, tries)
    assert [(each.state, each.reason, each.cost) for each in rules.outcomes] == [
        (State.REFUSED, "no", None),
        (State.QUARANTINED, "dear", 9.0),
        (State.LOADED, "", 1.0),
    ]
    assert [signature.sid for signature in rules.signatures] == [3]
    assert [rule.sid for rule in rules.tables().rules] == [3]
    assert rules.signature(1) is None


def test_ten_thousand_bad_rules_leave_five_hundred_good_ones_in_force() -> None:
    bad = ('alert tcp any any -> any any (content:"x{}"; frob; sid:{};)', "alert nonsense {} {}", "((((((( {} {} ;;;;")
    lines = [
        PLAIN.format(number) if number % 21 == 1 else bad[number % 3].format(number, number)
        for number in range(1, 10_501)
    ]
    rules = load([RuleSource("a", "\n".join(lines))], {}, all_well)
    assert rules.counts() == {
        State.LOADED: 500,
        State.REWRITTEN: 0,
        State.REFUSED: 10_000,
        State.QUARANTINED: 0,
    }
    assert [each.line for each in rules.outcomes] == list(range(1, 10_501))
    assert all(len(each.message) < 100 and len(each.reason) < 500 for each in rules.outcomes)
    assert len(rules.tables().rules) == 500


def test_rules_beyond_the_limit_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_RULES", 2)
    sources = [
        RuleSource(name, "\n".join(PLAIN.format(at + number) for number in range(3)))
        for name, at in (("a", 1), ("b", 4))
    ]
    found = load(sources, {}, all_well).outcomes
    assert [(each.source, each.line, each.state) for each in found] == [
        ("a", 1, State.LOADED),
        ("a", 2, State.LOADED),
        ("a", 0, State.REFUSED),
        ("b", 0, State.REFUSED),
    ]
    assert found[3].reason.startswith("3 rules are more than the 2")


def test_equal_patterns_are_searched_once() -> None:
    text = "\n".join(f'alert tcp any any -> any {port} (content:"same"; sid:{port};)' for port in (1, 2, 3))
    tables = load([RuleSource("a", text)], {}, all_well).tables({2: 2})
    assert [pattern.expression for pattern in tables.patterns] == [b"same"]
    assert tables.terms == ((0, 1), (1, 1), (2, 1))
    assert tables.first_term == (0, 3)
    assert [rule.action for rule in tables.rules] == [0, 2, 0]
    assert [tables.port_sets[rule.destination_port] for rule in tables.rules] == [((1, 1),), ((2, 2),), ((3, 3),)]
    assert tables.port_sets[0] == ()


def test_the_reach_is_how_far_any_rule_looks() -> None:
    near = 'alert tcp any any -> any any (flow:to_server; content:"ab"; depth:9; content:"c"; within:4; sid:1;)\n'
    far = 'alert tcp any any -> any any (flow:to_client; content:"ab"; sid:2;)\n'
    alone = "alert tcp any any -> any any (flow:to_client; dsize:3; sid:3;)\n"
    one = load([RuleSource("a", near)], {}, all_well).tables()
    assert one.reach == (13, 1)
    assert one.patterns[0].max_offset == 13
    assert load([RuleSource("a", near + far)], {}, all_well).tables().reach == (13, 0)
    assert load([RuleSource("a", near + alone)], {}, all_well).tables().reach == (13, 0)


def test_only_labels_that_a_rule_can_match_are_watched() -> None:
    text = 'alert http any any -> any any (content:"a"; sid:1;)\n'
    text += 'alert ip any any -> any any (dns.query; content:"a"; sid:2;)'
    rules = load([RuleSource("a", text)], {}, all_well)
    kept = rules.tables().keep_for_app
    assert [app for app in App if kept[app]] == [App.HTTP, App.DNS]
    everything = load([RuleSource("a", PLAIN.format(1))], {}, all_well).tables().keep_for_app
    assert all(everything)


def test_a_rule_with_nothing_to_find_is_bare() -> None:
    text = 'alert tcp any any -> any 23 (sid:1;)\nalert tcp any any -> any any (content:!"a"; sid:2;)\n' + PLAIN.format(
        3
    )
    tables = load([RuleSource("a", text)], {}, all_well).tables()
    assert tables.bare == (0, 1)
    assert [(rule.need, rule.forbid) for rule in tables.rules] == [(0, 0), (0, 1), (1, 0)]


def test_bits_of_a_request_are_marked() -> None:
    text = 'alert http any any -> any any (content:"a"; http.uri; content:"b"; http.host; content:"c"; sid:1;)'
    tables = load([RuleSource("a", text)], {}, all_well).tables()
    assert (tables.rules[0].need, tables.rules[0].request_bits) == (0b111, 0b110)
    assert [(pattern.buffer, pattern.directions) for pattern in tables.patterns] == [
        (Buffer.STREAM, 1),
        (Buffer.HTTP_URI, 1),
        (Buffer.HTTP_HOST, 1),
    ]


def test_the_tables_of_our_own_rules_hold_together() -> None:
    rules = load([RuleSource("own", own_rules())], VARIABLES, all_well)
    tables = rules.tables()
    assert {each.state for each in rules.outcomes} == {State.LOADED}
    assert len(tables.first_term) == len(tables.patterns) + 1
    assert tables.first_term[-1] == len(tables.terms)
    bits = [0] * len(tables.rules)
    for rule, bit in tables.terms:
        bits[rule] |= bit
    assert all(bits[index] == rule.need | rule.forbid for index, rule in enumerate(tables.rules))
    assert all(b"\0" not in pattern.expression for pattern in tables.patterns)
    assert all(0 <= pattern.min_offset <= pattern.max_offset <= NO_OFFSET for pattern in tables.patterns)
    for rule in tables.rules:
        assert max(rule.source, rule.destination) < len(tables.address_sets)
        assert max(rule.source_port, rule.destination_port) < len(tables.port_sets)


def test_sources_are_inline_and_files_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "local.rules").write_bytes(b'alert tcp any any -> any any (content:"\xff\xfe"; sid:2;)\n')
    sniffer = DpiSniffer.model_validate(
        {
            "apiVersion": "sluicegate.io/v1alpha1",
            "kind": "DpiSniffer",
            "metadata": {"name": "edge", "namespace": "shop"},
            "spec": {"signatures": {"inline": PLAIN.format(1), "files": ["local.rules", "missing.rules"]}},
        }
    )
    rules = load(sources_of(sniffer, tmp_path), {}, all_well)
    assert [(each.place, each.state, each.reason) for each in rules.outcomes] == [
        ("shop/edge inline:1", State.LOADED, ""),
        (f"{tmp_path}/local.rules:1", State.LOADED, ""),
        (f"{tmp_path}/missing.rules", State.REFUSED, "cannot be read: No such file or directory"),
    ]
    assert rules.tables().patterns[1].expression == rb"\xff\xfe"
