"""What people ask about live sniffing, and are told by the real agent."""

from __future__ import annotations

import json

import pytest

from sluicegate_agent.lab.counters import sniffed_packets
from sluicegate_agent.lab.events import SniffEvent
from sluicegate_agent.lab.rig import VIP4, RigOptions
from sluicegate_agent.lab.wire import target
from sniffed import DROP, RULE, SID, SNIFFER, Sniffed, attack, requests_until
from stage import Build
from test_lab_commands import command

pytestmark = pytest.mark.lab

REQUESTS = 5


def test_status_why_and_observe_tell_of_the_same_attack(build: Build) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    stage = sniffed.stage
    sniffed.start("client", rules=RULE, changes=DROP)
    assert command(stage, "observe", "alerts") == ""
    assert len(stage.ask("tcp", VIP4, REQUESTS)) == REQUESTS
    intruder = attack(stage.rig.client, target(VIP4, 80))
    sniffed.wait_for_state("the kernel drops the flow", lambda edge: edge.decided_flows.drop == 1)
    assert requests_until(intruder, 10)[1] == 0
    sniffed.wait_for_flows(REQUESTS, 80)

    (line,) = command(stage, "observe", "alerts", "-o", "json").splitlines()
    alert = SniffEvent.from_json(line)
    assert (alert.signature, alert.action, alert.server) == (SID, "blocked", (str(VIP4), 80))
    (told,) = command(stage, "observe", "alerts").splitlines()
    assert "password file" in told

    flows = command(stage, "observe", "flows", "--port", "80", "--protocol", "http", "-o", "json").splitlines()
    assert len(flows) == REQUESTS, "the attacker's has not ended"
    assert command(stage, "observe", "flows", "--not", "--port", "80", "--protocol", "http") == ""

    table = command(stage, "status")
    assert "edge" in table
    why = json.loads(command(stage, "why", f"dpi/{SNIFFER}", "-o", "json"))
    assert why["ok"], why
    counted = sniffed_packets(stage.rig.balancer)
    assert counted["dropped"] > 0
    assert counted["sent"] > 0
    intruder.finish()
