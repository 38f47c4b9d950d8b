"""One long connection each way outlives several agents."""

from __future__ import annotations

import subprocess

import pytest

from sluicegate_agent.lab.processes import module
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from sluicegate_agent.lab.wire import target
from stage import Build

pytestmark = pytest.mark.lab

MEGABYTE = 1024 * 1024
KILLS = 3


@pytest.mark.parametrize(
    "size",
    [pytest.param(64 * MEGABYTE, id="64MB"), pytest.param(1024 * MEGABYTE, id="1GB", marks=pytest.mark.slow)],
)
def test_a_large_transfer_arrives_unchanged_through_three_kills_of_the_agent(build: Build, size: int) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance()
    # So slow that it is under way through all kills; then it is let go at full speed.
    transfers = [
        stage.rig.client.spawn(
            module("transfer", direction, target(vip, 80), "--bytes", size, "--rate", size / 120),
            stdout=subprocess.PIPE,
        )
        for direction, vip in (("download", VIP4), ("upload", VIP6))
    ]
    for transfer in transfers:
        assert transfer.stdout is not None
        assert transfer.stdout.readline() == "started\n"
    for _ in range(KILLS):
        stage.agent.kill()
        stage.agent.start()
        stage.agent.wait_ready(stage.rig.backends)
    for transfer in transfers:
        assert transfer.poll() is None, "the transfer was over before the agent's last start"
    results = [transfer.communicate(timeout=500)[0] for transfer in transfers]
    assert results == ["ok\n", "ok\n"]
