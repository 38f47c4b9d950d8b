"""What follows from a verdict: one flow is dropped or let be, and nothing else changes."""

from __future__ import annotations

from functools import partial

import pytest

from sluicegate_agent.cli.document import Sniffer
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.processes import IntruderProcess
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from sluicegate_agent.lab.wire import target
from sniffed import DROP, RULE, SID, Sniffed, attack, requests_until
from stage import MODES, Build, Mode, each_mode, gather

pytestmark = pytest.mark.lab

ANSWERED = 200
UNANSWERED = 10


@each_mode("FullNAT", of=MODES)
def test_an_attack_is_dropped_and_all_others_pass(build: Build, mode: Mode) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=2)))
    stage = sniffed.stage
    sniffed.start("client", mode=mode, rules=RULE, changes=DROP)
    load = stage.load(mode=mode)
    for number, vip in enumerate((VIP4, VIP6), start=1):
        where = target(vip, service_port("TCP", mode))
        innocent = IntruderProcess(stage.rig.client, where)
        intruder = attack(stage.rig.client, where)
        alerts = sniffed.wait_for(
            "the attack was told",
            lambda events, vip=vip: [one for one in events if one.kind == "alert" and one.server[0] == str(vip)],
        )
        alert = [one for one in alerts if one.kind == "alert"][-1]
        assert (alert.signature, alert.action, alert.interface) == (SID, "blocked", "client")
        dropped = partial(_dropped, flows=number)
        sniffed.wait_for_state("the kernel drops the flow", dropped)
        sent, answered = requests_until(intruder, UNANSWERED)
        assert sent >= UNANSWERED
        assert answered == 0, "the attacker is still answered"
        sent, answered = requests_until(innocent, UNANSWERED)
        assert answered >= sent - 1, "another connection of the same client is not answered"
        intruder.finish()
        innocent.finish()
    total = gather(load, ANSWERED)
    total.add(load.finish())
    assert (total.failed, total.broken.total(), total.skipped) == (0, 0, 0), total


def _dropped(edge: Sniffer, flows: int) -> bool:
    return edge.decided_flows.drop == flows


def test_a_rule_without_an_action_only_tells(build: Build) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    sniffed.start("client", rules=RULE)
    intruder = attack(sniffed.stage.rig.client, target(VIP4, 80))
    sniffed.wait_for("the attack was told", lambda events: [one for one in events if one.kind == "alert"])
    sent, answered = requests_until(intruder, UNANSWERED)
    assert answered >= sent - 1
    assert {one.action for one in sniffed.seen if one.kind == "alert"} == {"allowed"}
    assert sniffed.state().dropped == 0
    intruder.finish()


def test_a_dropped_flow_stays_dropped_while_the_agent_is_away_and_when_it_is_back(build: Build) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    stage = sniffed.stage
    sniffed.start("client", rules=RULE, changes=DROP)
    intruder = attack(stage.rig.client, target(VIP4, 80))
    sniffed.wait_for_state("the kernel drops the flow", lambda edge: edge.decided_flows.drop == 1)
    load = stage.load()
    gather(load, 50)
    stage.agent.kill()
    assert requests_until(intruder, UNANSWERED)[1] == 0
    gather(load, 50)
    stage.agent.start()
    sniffed.wait_ready()
    assert requests_until(intruder, UNANSWERED)[1] == 0
    seen = len(sniffed.wait_for("events go on", lambda _: True))
    sniffed.wait_for(
        "the new agent tells of new connections",
        lambda events: [one for one in events[seen:] if one.kind == "http"],
    )
    total = load.finish()
    assert (total.failed, total.broken.total()) == (0, 0), total
    intruder.finish()


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_sniffer_comes_and_goes_while_connections_are_open(build: Build, rounds: int) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=2)))
    stage = sniffed.stage
    stage.balance()
    load = stage.load()
    total = gather(load, 50)
    for _ in range(rounds):
        sniffed.configure("client", rules=RULE, changes=DROP)
        sniffed.wait_ready()
        seen = len(sniffed.seen)
        sniffed.wait_for("requests are told", lambda events, seen=seen: len(events) > seen)
        sniffed.configure()
        stage.agent.wait_until("there is no sniffer", lambda status: not status.sniffers)
        total.add(gather(load, 50))
    total.add(load.finish())
    assert (total.failed, total.broken.total()) == (0, 0), total
