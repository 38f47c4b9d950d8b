"""A stage whose traffic is looked into: sniffers on it, what they tell, and servers with TLS and DNS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clients import Address
from sluicegate_agent.cli.document import Sniffer, Status
from sluicegate_agent.lab.agent import AgentProcess, Mode, backends, load_balancer, programmed
from sluicegate_agent.lab.certificate import make_certificate
from sluicegate_agent.lab.events import EventFile, SniffEvent
from sluicegate_agent.lab.namespace import LabError, Namespace
from sluicegate_agent.lab.processes import IntruderProcess, module
from sluicegate_agent.lab.sniffing import sniffer, sniffer_in
from sluicegate_agent.lab.wire import target
from stage import Stage

SNIFFER = "lab/edge"
SID = 1000001
RULE = f'alert http any any -> any any (msg:"password file"; http.uri; content:"/etc/passwd"; sid:{SID}; rev:1;)\n'
DROP: Mapping[str, object] = {
    "actions": [{"name": "block", "match": {"signatureIds": [SID]}, "action": "Drop", "forSeconds": 300}]
}
SITES = ("shop.example", "www.wikipedia.org")

_POLL_SECONDS = 0.05


@dataclass
class Sniffed:
    """A stage with a sniffer. ``seen`` are all events that were taken from its file so far."""

    stage: Stage
    events: EventFile
    seen: list[SniffEvent] = field(default_factory=list)

    @classmethod
    def on(cls, stage: Stage) -> Sniffed:
        """With events in a file beside the agent's own."""
        return cls(stage, EventFile(stage.agent.config.with_name("eve.json")))

    @property
    def agent(self) -> AgentProcess:
        """The agent."""
        return self.stage.agent

    def start(
        self,
        *interfaces: str,
        balance: bool = True,
        mode: Mode = "FullNAT",
        rules: str = "",
        changes: Mapping[str, object] | None = None,
    ) -> None:
        """Start the agent with a sniffer on these interfaces, and a balancer unless it is to do without one."""
        if balance and mode == "DirectReturn":
            for host in self.stage.rig.backends:
                host.hold_vips()
        self.configure(*interfaces, balance=balance, mode=mode, rules=rules, changes=changes)
        self.agent.start()
        self.wait_ready(balance=balance)

    def configure(
        self,
        *interfaces: str,
        balance: bool = True,
        mode: Mode = "FullNAT",
        rules: str = "",
        changes: Mapping[str, object] | None = None,
    ) -> None:
        """Write the agent's file; without interfaces it has no sniffer."""
        rig = self.stage.rig
        documents = [load_balancer(rig.backends, rig.client_port, mode=mode)] if balance else []
        if interfaces:
            documents.append(sniffer(SNIFFER, interfaces, events=self.events.path, rules=rules, changes=changes))
        self.agent.configure(*documents)

    def wait_ready(self, *, balance: bool = True) -> None:
        """Wait until the sniffer works, and the balancer with all backends if there is one."""

        def ready(status: Status) -> bool:
            edge = sniffer_in(status, SNIFFER)
            balanced = programmed(status) and all(one.health == "up" for one in backends(status))
            return edge is not None and edge.ready and (balanced or not balance)

        self.agent.wait_until("the sniffer works", ready)

    def state(self) -> Sniffer:
        """What the agent says of the sniffer; it must know it."""
        edge = sniffer_in(self.stage.status(), SNIFFER)
        assert edge is not None, self.agent.log_end()
        return edge

    def wait_for_state(self, what: str, holds: Callable[[Sniffer], bool], seconds: float = 30.0) -> Sniffer:
        """Wait until the agent says of the sniffer what it should."""

        def good(status: Status) -> bool:
            edge = sniffer_in(status, SNIFFER)
            return edge is not None and holds(edge)

        self.agent.wait_until(what, good, seconds)
        return self.state()

    def wait_for(
        self, what: str, holds: Callable[[list[SniffEvent]], object], seconds: float = 30.0
    ) -> list[SniffEvent]:
        """Wait until the events so far are as wanted, and give them."""
        deadline = time.monotonic() + seconds
        while True:
            self.seen += self.events.take()
            if holds(self.seen):
                return self.seen
            if time.monotonic() > deadline:
                kinds = [(one.kind, one.interface, one.client, one.server, one.label, one.name) for one in self.seen]
                raise LabError(f"no sign within {seconds:g} s that {what}. Events: {kinds[-20:]}; {self.state()}")
            time.sleep(_POLL_SECONDS)

    def wait_for_flows(
        self, count: int, server_port: int, *, interface: str = "client", seconds: float = 60.0
    ) -> list[SniffEvent]:
        """Wait until that many flows to a port ended on an interface, and give all of them."""

        def ended(events: list[SniffEvent]) -> list[SniffEvent]:
            flows = (one for one in events if one.kind == "flow" and one.interface == interface)
            return [one for one in flows if one.server[1] == server_port]

        return ended(self.wait_for(f"{count} flows ended", lambda events: len(ended(events)) >= count, seconds))


def ask(client: Namespace, address: Address, port: int, *, count: int = 1, path: str = "/client") -> list[str]:
    """Answers over HTTP to requests, each from a new connection: the server's name and whom it saw, or "!KIND"."""
    where = target(address, port)
    answers: list[str] = json.loads(client.run(module("probe", "tcp", where, "--count", count, "--path", path)))
    return answers


def serve_names_and_tls(stage: Stage, directory: Path) -> Path:
    """Start the servers anew with TLS and DNS; gives the certificate."""
    certificate = make_certificate(directory, SITES)
    for one in stage.servers:
        one.kill()
        one.start(certificate=certificate)
    return certificate


def attack(client: Namespace, where: str, *, good: int = 2) -> IntruderProcess:
    """An attacker that has sent its attack, after some requests that were answered."""
    intruder = IntruderProcess(client, where)
    deadline = time.monotonic() + 10
    while intruder.standing().answered < good:
        if time.monotonic() > deadline:
            raise LabError(f"the attacker is not answered even while it behaves: {intruder.standing()}")
        time.sleep(_POLL_SECONDS)
    intruder.attack()
    return intruder


def requests_until(intruder: IntruderProcess, count: int, seconds: float = 20.0) -> tuple[int, int]:
    """Wait until the attacker has sent so many requests more; gives how many of these it sent and how many answers."""
    before = now = intruder.standing()
    deadline = time.monotonic() + seconds
    while now.sent < before.sent + count:
        if time.monotonic() > deadline:
            raise LabError(f"the attacker does not go on: {now}")
        time.sleep(_POLL_SECONDS)
        now = intruder.standing()
    return now.sent - before.sent, now.answered - before.answered
