"""A network, servers and the real agent for one test; everything is removed after it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from sluicegate_agent.lab.agent import AgentProcess
from sluicegate_agent.lab.processes import servers
from sluicegate_agent.lab.rig import RigOptions, rig
from stage import Build, Stage


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Makes a network with running servers, and an agent that is not started yet."""
    if os.geteuid() != 0:
        pytest.skip("namespaces and programs in the kernel need root")
    with ExitStack() as stack:

        def make(options: RigOptions, environment: Mapping[str, str]) -> Stage:
            built = stack.enter_context(rig(options))
            agent = AgentProcess(built.balancer, tmp_path, environment)
            stack.callback(agent.remove)
            return Stage(built, stack.enter_context(servers(built.backends)), agent)

        yield Build(make)
