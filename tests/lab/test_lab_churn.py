"""Backends and the agent come and go under load."""

from __future__ import annotations

import pytest

from sluicegate_agent.lab.rig import RigOptions
from stage import Build, Mode, each_mode, gather

pytestmark = pytest.mark.lab


@each_mode("FullNAT", "DNAT")
def test_no_connection_breaks_and_no_request_fails_while_the_agent_is_killed_and_started_again(
    build: Build, mode: Mode
) -> None:
    stage = build(RigOptions(backends=3))
    stage.balance(mode=mode)
    load = stage.load(mode=mode)
    total = gather(load, 150)
    for _ in range(3):
        stage.agent.kill()
        total.add(gather(load, 150))
        stage.agent.start()
        stage.agent.wait_ready(stage.rig.backends)
        total.add(gather(load, 150))
    total.add(load.finish())
    assert (total.failed, total.broken.total(), total.skipped) == (0, 0, 0), total
    assert set(total.by_backend()) == {host.name for host in stage.rig.backends}


@each_mode("FullNAT")
def test_no_connection_to_a_living_backend_breaks_while_others_leave_join_and_die(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=4))
    one, two, three, four = stage.rig.backends
    stage.balance(mode=mode)
    load = stage.load(mode=mode)
    total = gather(load, 150)
    for hosts in ((one, three, four), (one, two, four), (one, two, three, four)):
        stage.configure(hosts, mode=mode)
        stage.agent.wait_ready(hosts)
        total.add(gather(load, 150))
    assert (total.failed, total.broken.total()) == (0, 0), total

    stage.servers[3].kill()
    stage.agent.wait_ready((one, two, three))
    dying = load.take()
    dying.add(gather(load, 60))  # what ended before the agent noticed may be reported a moment later
    assert set(dying.broken) <= {four.name}, dying
    assert {kind for _, kind in dying.failures} <= {"refused", "reset", "closed early"}, dying

    after = gather(load, 300)
    after.add(load.finish())
    assert (after.failed, after.broken.total()) == (0, 0), after
    assert set(after.by_backend()) == {one.name, two.name, three.name}


def test_a_backend_that_recovers_takes_traffic_again(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance()
    stage.servers[0].kill()
    stage.agent.wait_ready(stage.rig.backends[1:])
    stage.servers[0].start()
    stage.agent.wait_ready(stage.rig.backends)
    load = stage.load(sessions=0)
    assert set(gather(load, 100).by_backend()) == {"backend-1", "backend-2"}
    assert load.finish().failed == 0
