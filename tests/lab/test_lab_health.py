"""HTTP health checks against servers that behave badly, and what happens when hardly anybody is healthy."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients import ask_name
from sluicegate_agent.cli.document import Status
from sluicegate_agent.lab.agent import backends, programmed
from sluicegate_agent.lab.rig import VIP4, RigOptions
from sluicegate_agent.lab.server import HTTP_PORT, Health
from stage import Build, Stage

pytestmark = pytest.mark.lab

CHECK = {
    "type": "HTTP",
    "port": HTTP_PORT,
    "path": "/healthz",
    "host": "web.example",
    "expectedStatuses": [200],
    "intervalSeconds": 1,
    "timeoutSeconds": 1,
    "rise": 1,
    "fall": 2,
}
BAD = (Health.FAILING, Health.SILENT, Health.ENDLESS_HEADER)


def health_of(status: Status, stage: Stage, index: int) -> list[tuple[str, str]]:
    host = stage.rig.backends[index]
    addresses = {str(host.address4), str(host.address6)}
    return [(backend.health, backend.reason) for backend in backends(status) if backend.address in addresses]


def test_a_health_page_that_fails_hangs_or_never_ends_takes_its_backend_out(build: Build) -> None:
    stage = build(RigOptions(backends=7))
    for server, health in zip(stage.servers, BAD, strict=False):
        server.kill()
        server.start(health=health)
    good = stage.rig.backends[len(BAD) :]
    stage.configure(stage.rig.backends, changes={"healthCheck": CHECK})
    stage.agent.start()
    stage.agent.wait_ready(good)
    status = stage.status()
    told = [health_of(status, stage, index) for index in range(len(BAD))]
    assert all(health == "down" and reason for found in told for health, reason in found), told
    assert "500" in told[0][0][1], told[0]
    assert {ask_name(stage.rig.client, VIP4, 80) for _ in range(60)} == {host.name for host in good}


def test_a_body_that_never_ends_costs_the_agent_nothing(build: Build) -> None:
    stage = build(RigOptions(backends=3))
    stage.servers[0].kill()
    stage.servers[0].start(health=Health.ENDLESS_BODY)
    stage.configure(stage.rig.backends, changes={"healthCheck": CHECK})
    stage.agent.start()
    stage.agent.wait_until(
        "every backend was checked",
        lambda status: programmed(status) and all(backend.health != "unknown" for backend in backends(status)),
    )
    assert {ask_name(stage.rig.client, VIP4, 80) for _ in range(40)} >= {"backend-2", "backend-3"}
    descriptors = Path(f"/proc/{stage.agent.pid}/fd")
    assert len([*descriptors.iterdir()]) < 200


def test_all_backends_are_used_when_fewer_than_half_are_healthy_and_the_status_says_so(build: Build) -> None:
    stage = build(RigOptions(backends=5))
    stage.balance()
    for server in stage.servers[:2]:
        server.kill()
    stage.agent.wait_ready(stage.rig.backends[2:])
    assert {ask_name(stage.rig.client, VIP4, 80) for _ in range(60)} == {host.name for host in stage.rig.backends[2:]}

    # Those that fail from here on can still answer: only their health pages say otherwise.
    for server in stage.servers[:2]:
        server.start()
    stage.agent.wait_ready(stage.rig.backends)
    for server in stage.servers[:3]:
        server.kill()
        server.start(health=Health.FAILING)
    stage.configure(stage.rig.backends, changes={"healthCheck": CHECK})
    stage.agent.wait_until(
        "three of five are down",
        lambda status: sum(backend.health == "down" for backend in backends(status)) == 6,
    )
    stage.agent.wait_until(
        "panic is told",
        lambda status: any("panic" in f"{c.reason} {c.message}".lower() for c in status.loadbalancers[0].conditions),
    )
    assert {ask_name(stage.rig.client, VIP4, 80) for _ in range(80)} == {host.name for host in stage.rig.backends}
