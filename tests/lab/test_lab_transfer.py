"""Large transfers, verified by their hashes: in every mode, and on connections that outlive several agents."""

from __future__ import annotations

import pytest

from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from stage import MODES, Build, Mode, each_mode

pytestmark = pytest.mark.lab

MEGABYTE = 1024 * 1024
KILLS = 3


@each_mode(*MODES)
def test_large_transfers_arrive_unchanged_both_ways_over_both_families(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance(mode=mode)
    transfers = [
        stage.transfer(direction, vip, 32 * MEGABYTE, 1e9, mode=mode)
        for vip in (VIP4, VIP6)
        for direction in ("download", "upload")
    ]
    assert [transfer.communicate(timeout=100)[0] for transfer in transfers] == ["started\nok\n"] * len(transfers)


@pytest.mark.parametrize(
    ("mode", "size"),
    [
        pytest.param("FullNAT", 64 * MEGABYTE, id="FullNAT-64MB"),
        *(pytest.param(mode, 1024 * MEGABYTE, id=f"{mode}-1GB", marks=pytest.mark.slow) for mode in MODES),
    ],
)
def test_a_large_transfer_arrives_unchanged_through_three_kills_of_the_agent(
    build: Build, mode: Mode, size: int
) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance(mode=mode)
    # So slow that it is under way through all kills; then it is let go at full speed.
    transfers = [
        stage.transfer("download", VIP4, size, size / 120, mode=mode),
        stage.transfer("upload", VIP6, size, size / 120, mode=mode),
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
    assert [transfer.communicate(timeout=500)[0] for transfer in transfers] == ["ok\n", "ok\n"]
