"""The lab itself: without it nothing that the other tests say is worth anything."""

from __future__ import annotations

import subprocess

import pytest

from sluicegate_agent.lab.namespace import NETNS_DIRECTORY, LabError
from sluicegate_agent.lab.processes import LoadProcess, module
from sluicegate_agent.lab.rig import RigOptions, rig
from sluicegate_agent.lab.server import HTTP_PORT
from sluicegate_agent.lab.wire import target
from stage import Build, gather

pytestmark = pytest.mark.lab


def test_nothing_is_left_of_a_network_whose_use_failed(build: Build) -> None:
    del build  # for its check of root
    names = []

    def fail() -> None:
        with rig(RigOptions(backends=1)) as built:
            names.extend([built.client.name, built.balancer.name, built.backends[0].namespace.name])
            built.client.spawn(["sleep", "60"])
            raise LabError("on purpose")

    with pytest.raises(LabError, match="on purpose"):
        fail()
    assert len(names) == 3
    assert not [name for name in names if (NETNS_DIRECTORY / name).exists()]


def test_a_load_names_the_backend_that_broke_its_connections_and_how_requests_failed(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    addresses = [host.address4 for host in stage.rig.backends]
    load = LoadProcess(stage.rig.client, [*addresses], port=HTTP_PORT, rate=100, sessions=2)
    healthy = gather(load, 30)
    assert (healthy.failed, healthy.broken.total()) == (0, 0)
    stage.servers[0].kill()
    gather(load, 30)
    broken = gather(load, 30)
    broken.add(load.finish())
    assert {kind for _, kind in broken.failures} == {"refused"}
    assert set(broken.by_backend()) == {"backend-2"}


def test_a_transfer_whose_server_dies_is_not_ok(build: Build) -> None:
    stage = build(RigOptions(backends=1))
    where = target(stage.rig.backends[0].address6, HTTP_PORT)
    command = module("transfer", "download", where, "--bytes", 100_000_000, "--rate", 1_000_000)
    transfer = stage.rig.client.spawn(command, stdout=subprocess.PIPE)
    assert transfer.stdout is not None
    assert transfer.stdout.readline() == "started\n"
    stage.servers[0].kill()
    assert transfer.communicate(timeout=30)[0] in {"reset\n", "closed early\n"}
