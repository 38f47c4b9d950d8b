"""What the engine says of a flow: stop and drop, how long they hold, and whom they are about."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bench import ACTIONS, Hook
from marks import ALL_HOOKS, FAMILIES, PROTOCOLS
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_agent.sniffing.model import SniffState, SniffWhy
from sniff_bench import PLAN, Action, SniffBench, back, there

pytestmark = pytest.mark.kernel

GRACE = 2.0
"""SNIFF_GRACE_SECONDS of bpf/sniff_work.h."""
MANY = Budget(1000, 1 << 20, 1000)
ONE = Budget(1, 1 << 20, 1)


def opened(sniffer: SniffBench, hook: str, family: int, budget: Budget = MANY) -> int:
    """A flow of which one packet went up; its id."""
    sniffer.tap(replace(PLAN, budget=budget), hook=hook)
    sniffer.send(hook, there(family))
    return sniffer.flow(family).id


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_a_flow_stops_when_the_engine_has_seen_enough(
    sniffer: SniffBench, hook: str, family: int, protocol: Protocol
) -> None:
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    sniffer.send(hook, there(family, protocol))
    sniffer.say(sniffer.flow(family).id, Action.STOP)
    assert sniffer.fates(hook, back(family, protocol), there(family, protocol)) == ["stopped", "stopped"]
    flow = sniffer.flow(family)
    assert (flow.state, flow.why, flow.sent) == (SniffState.STOP, SniffWhy.VERDICT, 1)
    assert (flow.packets, sniffer.count().stopped_by_verdict) == ((2, 1), 1)


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_a_flow_is_dropped_in_both_directions(sniffer: SniffBench, hook: str, family: int, protocol: Protocol) -> None:
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    sniffer.send(hook, there(family, protocol))
    flow = sniffer.flow(family)
    sniffer.say(flow.id, Action.DROP, 60)
    outcomes = sniffer.send(hook, there(family, protocol), back(family, protocol))
    assert {outcome.reason for outcome in outcomes} == {"sniff_dropped"}
    assert {outcome.action for outcome in outcomes} == ACTIONS[hook]["drop"]
    assert sniffer.fate(hook, there(family, protocol, port=1)) == "sent"
    dropped = sniffer.flow(family)
    assert (dropped.state, dropped.why, dropped.packets) == (SniffState.DROP, SniffWhy.VERDICT, (2, 1))
    count = sniffer.count()
    assert (count.dropped, count.dropped_by_verdict) == (2, 1)


@ALL_HOOKS
@FAMILIES
def test_a_drop_holds_for_its_time_and_then_the_flow_is_looked_at_again(
    sniffer: SniffBench, hook: str, family: int
) -> None:
    flow = opened(sniffer, hook, family)
    sniffer.say(flow, Action.DROP, 60)
    assert sniffer.fate(hook, there(family)) == "dropped"
    assert sniffer.word(flow) == 0, "the word is taken, and holds once"
    sniffer.pass_time(family, 45)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.pass_time(family, 16)
    assert sniffer.fate(hook, there(family)) == "sent"
    after = sniffer.flow(family)
    assert (after.id, after.state, after.why) == (flow, SniffState.SNIFF, SniffWhy.OPEN)


@ALL_HOOKS
@FAMILIES
def test_after_a_drop_a_flow_that_had_its_budget_is_let_through(sniffer: SniffBench, hook: str, family: int) -> None:
    flow = opened(sniffer, hook, family, ONE)
    sniffer.say(flow, Action.DROP, 60)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.pass_time(family, 61)
    assert sniffer.fates(hook, there(family), there(family)) == ["stopped", "stopped"]
    after = sniffer.flow(family)
    assert (after.state, after.why, after.sent) == (SniffState.STOP, SniffWhy.BUDGET, 1)


@ALL_HOOKS
@FAMILIES
def test_a_drop_outlasts_the_silence_of_its_flow(sniffer: SniffBench, hook: str, family: int) -> None:
    """Else whoever is dropped had only to wait for as long as an idle flow lives."""
    sniffer.tap(replace(PLAN, budget=MANY, other_idle_seconds=30), hook=hook)
    sniffer.send(hook, there(family, Protocol.UDP))
    flow = sniffer.flow(family)
    sniffer.say(flow.id, Action.DROP, 600)
    assert sniffer.fate(hook, there(family, Protocol.UDP)) == "dropped"
    sniffer.pass_time(family, 300)
    assert sniffer.fate(hook, there(family, Protocol.UDP)) == "dropped"
    sniffer.pass_time(family, 301)
    assert sniffer.fate(hook, there(family, Protocol.UDP)) == "sent"
    assert sniffer.flow(family).id != flow.id


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("flags", ["FA", "RA"])
def test_a_new_connection_of_the_same_ends_is_dropped_too(
    sniffer: SniffBench, hook: str, family: int, flags: str
) -> None:
    """Else whoever is dropped had only to close, and to begin again."""
    flow = opened(sniffer, hook, family)
    sniffer.say(flow, Action.DROP, 60)
    frames = [there(family, flags=value, payload=b"") for value in (flags, "S", "S")]
    assert sniffer.fates(hook, *frames) == ["dropped"] * 3
    sniffer.pass_time(family, 61)
    assert sniffer.fate(hook, frames[1]) == "sent"
    assert sniffer.flow(family).id != flow


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("stopped_by", ["budget", "verdict", "pressure"])
def test_a_late_verdict_may_still_drop_a_flow_that_was_stopped(
    sniffer: SniffBench, hook: str, family: int, stopped_by: str
) -> None:
    """What asks for it was on its way when the flow was stopped; the fuller the ring, the longer that takes."""
    flow = stop(sniffer, hook, family, stopped_by)
    sniffer.pass_time(family, GRACE / 4)
    sniffer.say(flow, Action.DROP, 60)
    assert sniffer.fates(hook, back(family), there(family)) == ["dropped", "dropped"]
    assert sniffer.flow(family).state is SniffState.DROP


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("stopped_by", ["budget", "verdict", "pressure"])
def test_after_the_grace_time_no_verdict_is_looked_for(
    sniffer: SniffBench, hook: str, family: int, stopped_by: str
) -> None:
    flow = stop(sniffer, hook, family, stopped_by)
    sniffer.pass_time(family, GRACE + 0.1)
    sniffer.say(flow, Action.DROP, 60)
    assert sniffer.fates(hook, back(family), there(family)) == ["stopped", "stopped"]


def stop(sniffer: SniffBench, hook: str, family: int, by: str) -> int:
    """A flow that is stopped; its id."""
    if by == "pressure":
        sniffer.tap(replace(PLAN, budget=Budget(16, 1 << 20, 16), adaptive=True), hook=hook)
        sniffer.send(hook, there(family), there(family))
        flow = sniffer.flow(family).id
        sniffer.fill(hook, family, 36)
        assert sniffer.fate(hook, there(family)) == "stopped"
        assert sniffer.flow(family).why is SniffWhy.PRESSURE
        return flow
    flow = opened(sniffer, hook, family, ONE if by == "budget" else MANY)
    if by == "verdict":
        sniffer.say(flow, Action.STOP)
        assert sniffer.fate(hook, there(family)) == "stopped"
    return flow


@ALL_HOOKS
@FAMILIES
def test_a_drop_is_renewed_and_never_shortened(sniffer: SniffBench, hook: str, family: int) -> None:
    flow = opened(sniffer, hook, family)
    sniffer.say(flow, Action.DROP, 60)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.say(flow, Action.DROP, 10)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.pass_time(family, 50)
    sniffer.say(flow, Action.DROP, 60)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.pass_time(family, 50)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.pass_time(family, 11)
    assert sniffer.fate(hook, there(family)) == "sent"
    assert sniffer.count().dropped_by_verdict == 1


@ALL_HOOKS
@FAMILIES
def test_the_longest_drop_ends_too(sniffer: SniffBench, hook: str, family: int) -> None:
    """2^24 - 1 seconds, the most that a word can say, are more jiffies than a comparison may hold."""
    flow = opened(sniffer, hook, family)
    sniffer.say(flow, Action.DROP, (1 << 24) - 1)
    assert sniffer.fates(hook, there(family), there(family)) == ["dropped", "dropped"]
    sniffer.pass_time(family, (1 << 20) - 100)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.pass_time(family, 200)
    assert sniffer.fate(hook, there(family)) == "sent"


@ALL_HOOKS
@FAMILIES
def test_a_stop_that_waited_for_the_end_of_a_drop_holds(sniffer: SniffBench, hook: str, family: int) -> None:
    flow = opened(sniffer, hook, family)
    sniffer.say(flow, Action.DROP, 60)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.say(flow, Action.STOP)
    assert sniffer.fate(hook, there(family)) == "dropped"
    sniffer.pass_time(family, 61)
    assert sniffer.fate(hook, there(family)) == "stopped"


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("action", Action)
def test_a_word_of_another_generation_says_nothing(sniffer: SniffBench, hook: str, family: int, action: Action) -> None:
    flow = opened(sniffer, hook, family)
    for wrong in (-1, 1):
        sniffer.say(flow + (wrong << 32), action, 60)
        assert sniffer.fate(hook, there(family)) == "sent"
    assert sniffer.word(flow) == (flow >> 32) + 1 << 32 | 60 << 8 | action, "the word of another is left alone"


@ALL_HOOKS
@FAMILIES
def test_an_unknown_action_is_no_verdict(sniffer: SniffBench, hook: str, family: int) -> None:
    flow = opened(sniffer, hook, family)
    for action in (0, 3, 255):
        sniffer.say(flow, action, 60)
        assert sniffer.fate(hook, there(family)) == "sent"


@ALL_HOOKS
@FAMILIES
def test_slots_are_used_in_turn_and_each_time_in_another_generation(
    sniffer: SniffBench, hook: str, family: int
) -> None:
    sniffer.tap(hook=hook)
    cpu, cpus, slots = min(os.sched_getaffinity(0)), possible_cpus(), sniffer.slots
    sniffer.next_id(slots - 2 * cpus + cpu)
    for port in range(1, 5):
        sniffer.send(hook, there(family, port=port))
    ids = sorted(flow.id for flow in sniffer.flows(family))
    step = range(slots - 2 * cpus + cpu, slots + 2 * cpus, cpus)
    assert ids == [(number // slots + 1) << 32 | number % slots for number in step]
    assert [number >> 32 for number in ids] == [1, 1, 2, 2]
    assert [record.flow_id for record in sniffer.records()] == ids


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("action", Action)
def test_another_use_of_its_slot_takes_no_verdict_back(
    sniffer: SniffBench, hook: str, family: int, action: Action
) -> None:
    sniffer.tap(replace(PLAN, budget=MANY), hook=hook)
    sniffer.next_id(min(os.sched_getaffinity(0)))
    sniffer.send(hook, there(family))
    first = sniffer.flow(family)
    sniffer.say(first.id, action, 60)
    decided = {Action.STOP: "stopped", Action.DROP: "dropped"}[action]
    assert sniffer.fate(hook, there(family)) == decided
    sniffer.next_id(sniffer.slots + min(os.sched_getaffinity(0)))
    assert sniffer.fate(hook, there(family, port=2)) == "sent"
    second = sniffer.flow(family, port=2)
    assert (second.slot, second.generation) == (first.slot, first.generation + 1)
    assert sniffer.fates(hook, there(family), there(family, port=2)) == [decided, "sent"]
    sniffer.say(second.id, Action.DROP, 60)
    assert sniffer.fates(hook, there(family), there(family, port=2)) == [decided, "dropped"]
    assert sniffer.fates(hook, there(family), there(family, port=2)) == [decided, "dropped"]


@FAMILIES
def test_hooks_share_a_flow_and_its_verdict(sniffer: SniffBench, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=MANY))
    sniffer.send(Hook.XDP, there(family))
    sniffer.send("tc_egress", back(family))
    flow = sniffer.flow(family)
    assert flow.packets == (1, 1)
    sniffer.say(flow.id, Action.DROP, 60)
    assert sniffer.fate(Hook.XDP, there(family)) == "dropped"
    assert sniffer.fate("tc_egress", back(family)) == "dropped"
