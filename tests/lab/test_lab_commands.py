"""Commands against the real agent under load: an operator's word moves traffic, and ``top`` shows it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest

from sluicegate_agent.cli.document import Backend, Status
from sluicegate_agent.lab.agent import backends
from sluicegate_agent.lab.namespace import run
from sluicegate_agent.lab.rig import VIP4, RigOptions
from stage import Build, Stage, gather

pytestmark = pytest.mark.lab


def command(stage: Stage, *arguments: str) -> str:
    program = "from sluicegate_agent.cli.main import main; main()"
    return run([sys.executable, "-c", program, *arguments, "--netns", stage.rig.balancer.name])


def rows(stage: Stage, what: str) -> dict[str, dict[str, Any]]:
    answer = json.loads(command(stage, "top", what, "--once", "-o", "json"))
    return {row["name"]: row for row in answer["rows"]}


def test_a_drained_backend_gets_nothing_new_until_it_is_ready_or_its_time_is_over(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance()
    first = stage.rig.backends[0]
    name = f"{first.address4}:8080"

    def here(status: Status) -> Backend:
        return next(each for each in backends(status) if each.address == str(first.address4))

    def drained(status: Status) -> bool:
        return here(status).override is not None and here(status).state == "draining"

    def active(status: Status) -> bool:
        return all(each.state == "active" and each.override is None for each in backends(status))

    load = stage.load()
    gather(load, 50)
    assert rows(stage, "backends")[name]["newFlowsPerSecond"] > 0
    assert rows(stage, "vips")[f"{VIP4}:80"]["newFlowsPerSecond"] > 0

    said = json.loads(command(stage, "drain", f"web/{first.address4}", "-o", "json"))
    assert said["warnings"] == []
    stage.agent.wait_until("the backend is drained", drained)
    during = rows(stage, "backends")[name]
    assert (during["newFlowsPerSecond"], during["effectiveWeight"]) == (0, 0)
    assert "drained by an operator" in during["reason"]
    load.take()
    assert (4, first.name) not in gather(load, 50).answers

    stage.agent.kill()
    stage.agent.start()
    stage.agent.wait_until("an operator's word outlives the agent", drained)

    command(stage, "ready", f"web/{first.address4}")
    stage.agent.wait_until("the backend is back", active)
    command(stage, "drain", f"web/{first.address4}", "--ttl", "2s")
    stage.agent.wait_until("it is drained again", drained)
    began = time.monotonic()
    stage.agent.wait_until("its time is over", active)
    assert time.monotonic() - began < 30
    tally = load.finish()
    assert not tally.failed, tally
