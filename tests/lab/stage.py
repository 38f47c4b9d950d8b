"""What a lab test plays on: a network, servers and the real agent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from sluicegate_agent.lab.agent import AgentProcess, load_balancer
from sluicegate_agent.lab.namespace import LabError
from sluicegate_agent.lab.processes import BackendServer, LoadProcess, module
from sluicegate_agent.lab.rig import VIP4, VIP6, BackendHost, Rig, RigOptions
from sluicegate_agent.lab.tally import Tally
from sluicegate_agent.lab.wire import target

Mode = Literal["FullNAT", "DNAT"]
MODES: tuple[Mode, ...] = ("FullNAT", "DNAT")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a test plays on."""

    rig: Rig
    servers: tuple[BackendServer, ...]
    agent: AgentProcess

    def balance(
        self, *, mode: Mode = "FullNAT", hosts: tuple[BackendHost, ...] | None = None, udp: bool = False
    ) -> None:
        """Start the agent with both VIPs in front of these hosts (all by default) and wait until it works.

        TCP port 80 always, UDP port 7 if asked for.
        """
        hosts = self.rig.backends if hosts is None else hosts
        self.configure(hosts, mode=mode, udp=udp)
        self.agent.start()
        self.agent.wait_ready(hosts)

    def configure(self, hosts: tuple[BackendHost, ...], *, mode: Mode = "FullNAT", udp: bool = False) -> None:
        """Write the agent's file."""
        documents = [load_balancer(hosts, self.rig.client_port, mode=mode)]
        if udp:
            documents.append(load_balancer(hosts, self.rig.client_port, mode=mode, protocol="UDP", name="echo"))
        self.agent.configure(*documents)

    def ask(self, protocol: str, vip: IPv4Address | IPv6Address, count: int = 1) -> list[str]:
        """Answers to ``count`` single requests to a VIP, each "NAME CLIENT …" or "!KIND" when it failed."""
        where = target(vip, 80 if protocol == "tcp" else 7)
        output = self.rig.client.run(module("probe", protocol, where, "--count", count), seconds=60)
        answers: list[str] = json.loads(output)
        return answers

    def load(self, *, rate: float = 150.0, sessions: int = 12) -> LoadProcess:
        """Start a load on both VIPs."""
        return LoadProcess(self.rig.client, [VIP4, VIP6], rate=rate, sessions=sessions)


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


Build = Callable[[RigOptions], Stage]
"""The fixture ``build``: makes a network with running servers, and an agent that is not started yet."""
