"""Random changes under load: ``make soak`` for minutes, here for some seconds.

SLUICEGATE_SOAK_SECONDS is how long each mode is under change. SLUICEGATE_SOAK_SEED repeats a run's changes, though not
its timing.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections import Counter

import pytest

from clients import ask_name
from sluicegate_agent.cli.document import Status
from sluicegate_agent.lab.agent import backends, load_balancer, programmed, service_port
from sluicegate_agent.lab.counters import drops
from sluicegate_agent.lab.rig import VIP4, RigOptions
from sluicegate_agent.lab.server import HTTP_PORT
from sluicegate_agent.lab.tally import Tally
from sluicegate_agent.lab.upheaval import Move, Presence, Situation, after, possible
from stage import MODES, Build, Mode, Stage

pytestmark = [pytest.mark.lab, pytest.mark.timeout(0)]

SECONDS = float(os.environ.get("SLUICEGATE_SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SLUICEGATE_SOAK_SEED", "0")) or secrets.randbits(32)
DRAIN_SECONDS = 3

# What the end of a drained connection may cost: its last packets find neither the flow nor the backend.
ALLOWED_DROPS = {"backend_gone", "no_flow"}


@pytest.mark.parametrize("mode", [MODES[0], *(pytest.param(mode, marks=pytest.mark.slow) for mode in MODES[1:])])
def test_no_connection_to_a_configured_backend_breaks_under_random_changes(
    build: Build, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = build(RigOptions(backends=5))
    soak = Soak(stage, mode, random.Random(SEED))  # noqa: S311
    with capsys.disabled():
        print(f"\n  soak of {mode}: {SECONDS:g} s, SLUICEGATE_SOAK_SEED={SEED}")
        try:
            soak.run(SECONDS)
        finally:
            print(f"  {soak.summary()}")
    assert not soak.complaints, "\n".join(soak.complaints)


class Soak:
    """One mode's run."""

    def __init__(self, stage: Stage, mode: Mode, chance: random.Random) -> None:
        self._stage = stage
        self._mode = mode
        self._chance = chance
        self._names = tuple(host.name for host in stage.rig.backends)
        self._now = Situation(dict.fromkeys(self._names, 100))
        self._presence = Presence()
        self._total = Tally()
        self._moves: Counter[Move] = Counter()
        self._drops: Counter[str] = Counter()
        self.complaints: list[str] = []

    def run(self, seconds: float) -> None:
        """Change things at random for so long, then see that everything settles."""
        if self._mode == "DirectReturn":
            for host in self._stage.rig.backends:
                host.hold_vips()
        self._configure()
        self._stage.agent.start()
        self._settle()
        load = self._stage.load(mode=self._mode, rate=100, sessions=20)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.complaints:
            self._step()
            pause = time.monotonic() + self._chance.uniform(0.1, 1.5)
            while time.monotonic() < pause:
                time.sleep(0.05)
                self._judge(load.take())
        if not self._now.agent_runs:
            self._stage.agent.start()
        self._settle()
        self._judge(load.finish())
        self._drops = drops(self._stage.agent.packets())
        if others := set(self._drops) - ALLOWED_DROPS:
            self.complaints.append(f"packets were dropped for {', '.join(sorted(others))}: {dict(self._drops)}")
        if not self._total.exchanges or not self._total.answered:
            self.complaints.append(f"there was no load: {self._total}")

    def summary(self) -> str:
        """One line of figures."""
        moves = ", ".join(f"{move.value} {count}x" for move, count in self._moves.most_common())
        return (
            f"{self._total.answered} requests, {self._total.failed} failed; {self._total.exchanges} exchanges on long "
            f"connections, broken {dict(self._total.broken)}; dropped {dict(self._drops)}; {moves}"
        )

    def _step(self) -> None:
        before = self._now
        move = self._chance.choice(possible(before, self._names))
        self._moves[move] += 1
        self._now = after(before, move, self._names, self._chance)
        self._presence.note(time.monotonic(), self._names, before.weights)
        if move is Move.KILL_AGENT:
            self._stage.agent.kill()
        elif move is Move.START_AGENT:
            self._stage.agent.start()
        else:
            self._configure()

    def _judge(self, tally: Tally) -> None:
        """Take note of what ended; complain about what nothing excuses."""
        now = time.monotonic()
        self._presence.note(now, self._names, self._now.weights)
        self._total.add(tally)
        if tally.failed:
            self.complaints.append(f"requests failed: {dict(tally.failures)}")
        if wrong := set(tally.broken) - self._presence.excused(now):
            self.complaints.append(f"connections broke to configured backends: {', '.join(sorted(wrong))}")

    def _settle(self) -> None:
        """Wait until what is configured is what is, then ask once on each port."""

        ports = len(self._ports())
        usable = [host for host in self._stage.rig.backends if self._now.weights.get(host.name)]
        wanted = Counter({str(address): ports for host in usable for address in (host.address4, host.address6)})

        def settled(status: Status) -> bool:
            active = Counter(backend.address for backend in backends(status) if backend.state == "active")
            return programmed(status) and active == wanted

        self._stage.agent.wait_until("all is as configured", settled)
        for port in self._ports():
            try:
                if not ask_name(self._stage.rig.client, VIP4, port):
                    self.complaints.append(f"port {port} does not answer")
            except OSError as error:
                self.complaints.append(f"port {port}: {error}")

    def _ports(self) -> tuple[int, ...]:
        """Direct return cannot translate ports, so there is only the servers' own."""
        extra = () if self._mode == "DirectReturn" else sorted(self._now.ports)
        return service_port("TCP", self._mode), *extra

    def _configure(self) -> None:
        hosts = [host for host in self._stage.rig.backends if host.name in self._now.weights]
        static = [
            {"address": str(address), "weight": self._now.weights[host.name]}
            for host in hosts
            for address in (host.address4, host.address6)
        ]
        changes = {
            "ports": [{"protocol": "TCP", "port": port, "targetPort": HTTP_PORT} for port in self._ports()],
            "algorithm": self._now.algorithm,
            "backends": {"static": static},
            "drainSeconds": DRAIN_SECONDS,
        }
        self._stage.agent.configure(load_balancer(hosts, self._stage.rig.client_port, mode=self._mode, changes=changes))
