"""What a lab test plays on: a network, servers and the real agent."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from clients import Address
from sluicegate_agent.cli.document import Status
from sluicegate_agent.lab.agent import MODES, AgentProcess, Mode, load_balancer, service_port
from sluicegate_agent.lab.namespace import LabError
from sluicegate_agent.lab.processes import BackendServer, LoadProcess, module
from sluicegate_agent.lab.rig import VIP4, VIP6, BackendHost, Rig, RigOptions
from sluicegate_agent.lab.tally import Tally
from sluicegate_agent.lab.wire import target

__all__ = ["MODES", "NAT_MODES", "Build", "Mode", "Stage", "each_mode", "gather"]

NAT_MODES: tuple[Mode, ...] = ("FullNAT", "DNAT")


def each_mode(*quick: Mode, of: Sequence[Mode] = MODES) -> pytest.MarkDecorator:
    """Run a test in each mode: in these always, in the others with the slow tests."""
    slow = {mode: () if mode in quick else (pytest.mark.slow,) for mode in of}
    return pytest.mark.parametrize("mode", [pytest.param(mode, marks=marks) for mode, marks in slow.items()])


@dataclass(frozen=True, slots=True)
class Stage:
    """What a test plays on."""

    rig: Rig
    servers: tuple[BackendServer, ...]
    agent: AgentProcess

    def balance(
        self,
        *,
        mode: Mode = "FullNAT",
        hosts: tuple[BackendHost, ...] | None = None,
        udp: bool = False,
        changes: Mapping[str, object] | None = None,
    ) -> None:
        """Start the agent with both VIPs in front of these hosts (all by default) and wait until it works."""
        hosts = self.rig.backends if hosts is None else hosts
        if mode == "DirectReturn":
            for host in self.rig.backends:
                host.hold_vips()
        self.configure(hosts, mode=mode, udp=udp, changes=changes)
        self.agent.start()
        self.agent.wait_ready(hosts)

    def configure(
        self,
        hosts: tuple[BackendHost, ...],
        *,
        mode: Mode = "FullNAT",
        udp: bool = False,
        changes: Mapping[str, object] | None = None,
    ) -> None:
        """Write the agent's file: HTTP always, the echo over UDP if asked for, both with these changes to the spec."""
        documents = [load_balancer(hosts, self.rig.client_port, mode=mode, changes=changes)]
        if udp:
            documents.append(
                load_balancer(hosts, self.rig.client_port, mode=mode, protocol="UDP", name="echo", changes=changes)
            )
        self.agent.configure(*documents)

    def ask(self, protocol: str, vip: Address, count: int = 1, *, mode: Mode = "FullNAT") -> list[str]:
        """Answers to ``count`` single requests to a VIP, each "NAME CLIENT …" or "!KIND" when it failed."""
        where = target(vip, service_port("TCP" if protocol == "tcp" else "UDP", mode))
        output = self.rig.client.run(module("probe", protocol, where, "--count", count), seconds=60)
        answers: list[str] = json.loads(output)
        return answers

    def load(self, *, rate: float = 150.0, sessions: int = 12, mode: Mode = "FullNAT") -> LoadProcess:
        """Start a load on both VIPs."""
        return LoadProcess(self.rig.client, [VIP4, VIP6], port=service_port("TCP", mode), rate=rate, sessions=sessions)

    def transfer(
        self, direction: Literal["download", "upload"], vip: Address, size: int, rate: float, *, mode: Mode = "FullNAT"
    ) -> subprocess.Popen[str]:
        """Start a transfer of ``size`` bytes, held at ``rate`` per second until its standard input is closed."""
        where = target(vip, service_port("TCP", mode))
        command = module("transfer", direction, where, "--bytes", size, "--rate", rate)
        return self.rig.client.spawn(command, stdout=subprocess.PIPE)

    def client_address(self, vip: Address) -> Address:
        """The client's address in a VIP's family."""
        return self.rig.client4 if vip.version == 4 else self.rig.client6

    def status(self) -> Status:
        """What the agent says; it must answer."""
        status = self.agent.status()
        assert status is not None, self.agent.log_end()
        return status

    def modes_of_interfaces(self) -> dict[str, str]:
        """ "xdp" or "tc" by interface."""
        return {interface.name: interface.mode for interface in self.status().interfaces}


def gather(load: LoadProcess, answers: int, *, seconds: float = 30.0) -> Tally:
    """Let a load go on until this many more requests were answered."""
    total = load.take()
    deadline = time.monotonic() + seconds
    while total.answered < answers:
        if time.monotonic() > deadline:
            raise LabError(f"only {total.answered} of {answers} requests were answered within {seconds:g} s: {total}")
        time.sleep(0.05)
        total.add(load.take())
    return total


class Build:
    """The fixture ``build``: makes a network with running servers, and an agent that is not started yet."""

    def __init__(self, make: Callable[[RigOptions, Mapping[str, str]], Stage]) -> None:
        self._make = make

    def __call__(self, options: RigOptions, **environment: str) -> Stage:
        """``environment`` holds settings of the agent, as ``SLUICEGATE_NAME="value"``."""
        return self._make(options, environment)
