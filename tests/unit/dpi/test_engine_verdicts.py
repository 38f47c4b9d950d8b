"""The words that the engine writes for the kernel: they only grow, and those of a later flow are left alone."""

from __future__ import annotations

import struct

import pytest
from engine_rig import Pattern, Rig, Rule, Rules, Talk, request

from sluicegate_agent.dpi.engine import Action, Engine, Kind, Policy, Reason, available, compile_rules
from sluicegate_agent.dpi.engine_model import MAX_DROP_SECONDS
from sluicegate_agent.dpi.records import flow_id
from sluicegate_agent.dpi.rules.tables import RuleTables

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

FLOW = flow_id(1, 7)


def word(words: bytearray, slot: int = 1) -> tuple[int, int, int]:
    """Generation, seconds, action."""
    (value,) = struct.unpack_from("<Q", words, slot * 8)
    return value >> 32, value >> 8 & 0xFFFFFF, value & 0xFF


def ready(rig: Rig) -> bytearray:
    words = bytearray(8 * 8)
    rig.engine.use_verdicts(words)
    return words


def dropping(*seconds: int) -> tuple[Rules, dict[int, int]]:
    """Rules for "one", "two", ... that drop for so long."""
    rules = Rules()
    for sid, name in zip(range(1, len(seconds) + 1), (b"one", b"two", b"three"), strict=False):
        rules.add(Rule(sid, action=int(Action.DROP)), Pattern(name))
    return rules, dict(enumerate(seconds, 1))


def loaded(rig: Rig, *seconds: int) -> None:
    rules, found = dropping(*seconds)
    tables = RuleTables(
        tuple(rules.patterns),
        tuple(rules.first_term),
        tuple(rules.terms),
        tuple(rules.rules),
        keep_for_app=tuple(rules.keep_for_app),
    )
    rig.engine.load_rules(compile_rules(tables, found))


def test_a_rule_drops_for_its_seconds() -> None:
    with Rig() as rig:
        loaded(rig, 90)
        words = ready(rig)
        Talk(rig).shake().say(b"one")
        rig.run()
        assert word(words) == (7, 90, Action.DROP)


def test_the_longer_of_two_drops_counts() -> None:
    with Rig() as rig:
        loaded(rig, 90, 300)
        words = ready(rig)
        Talk(rig).shake().say(b"one two")
        rig.run()
        assert sorted(rig.alerts()) == [1, 2]
        assert word(words) == (7, 300, Action.DROP)
    with Rig() as rig:
        loaded(rig, 300, 90)
        words = ready(rig)
        Talk(rig).shake().say(b"one two")
        rig.run()
        assert word(words) == (7, 300, Action.DROP)


def test_seconds_beyond_a_words_room_are_the_most_there_is() -> None:
    with Rig() as rig:
        loaded(rig, 1 << 30)
        words = ready(rig)
        Talk(rig).shake().say(b"one")
        rig.run()
        assert word(words) == (7, MAX_DROP_SECONDS, Action.DROP)


def test_risk_drops_for_the_policys_seconds() -> None:
    policy = Policy(
        max_packets=0, payload_packets=0, payload_bytes=0, min_risk=1, risk_action=Action.DROP, drop_seconds=8
    )
    with Rig(classify=True, policy=policy) as rig:
        words = ready(rig)
        talk = Talk(rig).shake().say(request(agent="test/1.0"))
        talk.say(b"HTTP/1.1 200 OK\r\n\r\n", reverse=True)
        rig.run()
        assert word(words) == (7, 8, Action.DROP)


def test_a_drop_from_outside_ends_classification_and_stays() -> None:
    with Rig(classify=True) as rig:
        words = ready(rig)
        talk = Talk(rig).shake().say(request())
        rig.run()
        assert rig.engine.stats()["undecided_now"] == 1
        batch = rig.engine.drop(FLOW, 60, Reason.PROTOCOL, rig.now)
        assert batch.taken == 1
        assert [event.kind for event in batch if event.kind != Kind.STOPPED] == [Kind.GAVE_UP]
        assert word(words) == (7, 60, Action.DROP)
        assert rig.engine.stats()["undecided_now"] == 0
        talk.say(b"HTTP/1.1 200 OK\r\n\r\n", reverse=True)
        assert rig.run() == []
        assert word(words) == (7, 60, Action.DROP)
        rig.engine.drop(FLOW, 10, Reason.PROTOCOL, rig.now)
        assert word(words) == (7, 60, Action.DROP)


def test_a_drop_of_a_flow_that_was_stopped_replaces_the_stop() -> None:
    with Rig(policy=Policy(max_packets=3, payload_packets=0, payload_bytes=0)) as rig:
        words = ready(rig)
        Talk(rig).shake()
        rig.run()
        assert word(words) == (7, 0, Action.STOP)
        rig.engine.drop(FLOW, 60, Reason.RULE, rig.now)
        assert word(words) == (7, 60, Action.DROP)


def test_a_flow_that_the_engine_does_not_know_is_dropped_all_the_same() -> None:
    with Engine() as engine:
        words = bytearray(64)
        engine.use_verdicts(words)
        assert engine.drop(FLOW, 60, Reason.RULE, 0).taken == 0
        assert word(words) == (7, 60, Action.DROP)
        assert engine.stats()["verdicts_drop"] == 1


@pytest.mark.parametrize(
    ("known", "kept"), [(8, True), (71, True), (72, False), (7, False), (6, False), (0, False), (0xFFFFFFFF, False)]
)
def test_the_word_of_a_later_flow_in_the_slot_stays(known: int, kept: bool) -> None:
    with Engine() as engine:
        words = bytearray(64)
        struct.pack_into("<Q", words, 8, known << 32 | Action.STOP)
        engine.use_verdicts(words)
        engine.drop(FLOW, 60, Reason.RULE, 0)
        assert word(words) == ((known, 0, Action.STOP) if kept else (7, 60, Action.DROP))
