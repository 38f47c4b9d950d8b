"""The programs and their twin in Python, which ``sluicegate replay`` uses, on the same packets, verdicts and times."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6ExtHdrFragment

from bench import CLIENT, VIP, Hook
from frames import from_client, ip_layer, transport
from marks import FAMILIES
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.capture.tunnels import Innermost, innermost
from sluicegate_agent.dpi.records import ENTRY, RECORD, MemoryRing
from sluicegate_agent.dpi.sniffing.flows import Flow
from sluicegate_agent.dpi.sniffing.rules import Side, SniffRule
from sluicegate_agent.dpi.sniffing.sniffer import VERDICT, Budget, Outcome, Sniffer, SniffPolicy
from sluicegate_agent.kernel.clock import hertz
from sluicegate_agent.sniffing.model import SnifferPlan
from sniff_bench import FATES as FATES_THERE
from sniff_bench import NUMBER, PLAN, WORD, Action, Record, SniffBench, back, there

pytestmark = pytest.mark.kernel

PORTS = (40000, 40001, 40002)
FATES = {
    Outcome.SENT: "sent",
    Outcome.STOPPED: "stopped",
    Outcome.DROPPED: "dropped",
    Outcome.IGNORED: "ignored",
    Outcome.FRAGMENT: "fragments",
    Outcome.EMPTY: "empty",
}
STEPS = 150
PASSES, HOLDS = (11, 11, 11, 307, 701), (5, 1003)
"""Seconds that pass, and for which drops hold: no sum of the first is near one of these, or an idle or grace time."""
MOMENT = 0.2
"""Seconds that may pass in the kernel unnoticed."""
SECOND = 1_000_000_000

RULES = (
    SniffRule("not 40001", source=Side(ports=((40001, 40001),)), ignore=True),
    SniffRule("clients", source=Side((ip_network("10.1.0.0/16"), ip_network("fd01::/64")))),
)
PLANS = {
    "plain": replace(PLAN, budget=Budget(4, 3000, 8)),
    "everything": replace(PLAN, budget=Budget(3, 1 << 20, 1000), send_empty=True),
    "rules": replace(PLAN, budget=Budget(100, 1 << 20, 5), rules=RULES),
}


class Twins:
    """Both of them, one clock, and which flow of the one is which of the other."""

    def __init__(self, bench: SniffBench, hook: str, family: int, plan: SnifferPlan) -> None:
        bench.tap(plan, hook=hook)
        self.bench, self.hook, self.family = bench, hook, family
        self.ring = MemoryRing(1 << 20)
        policy = SniffPolicy(plan.rules, plan.budget, number=plan.number, send_empty=plan.send_empty)
        self.twin = Sniffer(policy, self.ring, self._over)
        self.now = SECOND
        self.at = time.monotonic()
        self.names: dict[int, int] = {}
        self.count = bench.count()

    def _over(self, flow: Flow, end: object) -> None:
        """The kernel's table says the same in its own time."""

    def see(self, frame: bytes) -> tuple[str, str]:
        """What became of a frame here and there."""
        self.now += 1000
        self._keep_time(0)
        self.bench.bench.send(self.hook, frame, "c0")
        before, self.count = self.count, self.bench.count()
        (mine,) = [name for name in FATES_THERE if getattr(self.count, name) != getattr(before, name)]
        found = innermost(1, frame)
        if not isinstance(found, Innermost):
            return mine, "unreadable"
        return mine, FATES[self.twin.see(found, self.now, 0, len(frame), frame)]

    def pass_time(self, seconds: int) -> None:
        """For both."""
        self.now += seconds * SECOND
        self._keep_time(seconds)

    def _keep_time(self, seconds: int) -> None:
        """Have the kernel believe that only what the twin knows of has passed."""
        spent = time.monotonic() - self.at
        if seconds or spent > MOMENT:
            table = self.bench.tables.by_family("sniffs", self.family)
            keys, values = self.bench.bench.rows("sniffs", self.family)
            values = values.copy()
            for name in ("last_seen", "until"):
                values[name] -= np.uint32(round((seconds - spent) * hertz()) & WORD)
            for key, value in zip(keys, values, strict=True):
                table.map.update(key.tobytes(), value.tobytes())
            self.at = time.monotonic()

    def say(self, mine: int, action: Action, seconds: int) -> None:
        """A verdict on a flow that both know."""
        twin = self.names[mine]
        self.bench.say(mine, action, seconds)
        VERDICT.pack_into(
            self.twin.verdicts, (twin & 0xFFFFFFFF) * VERDICT.size, twin >> 32 << 32 | seconds << 8 | action
        )

    def same_records(self) -> None:
        """All that waits in both rings says the same."""
        here, there_ = self.bench.records(), self._records()
        assert len(here) == len(there_)
        for mine, other in zip(here, there_, strict=True):
            assert self.names.setdefault(mine.flow_id, other.flow_id) == other.flow_id
            own = {"ts_ns": 0, "ifindex": 0, "flow_id": 0, "size": 0}
            assert replace(mine, **own) == replace(other, **own)

    def _records(self) -> list[Record]:
        found, at = [], 0
        while at < self.ring.produced:
            length, _ = ENTRY.unpack_from(self.ring.memory, at)
            start = at + ENTRY.size
            values = RECORD.unpack_from(self.ring.memory, start)
            found.append(Record(*values, bytes(self.ring.memory[start + RECORD.size : start + length]), length))
            at = start + (length + 7 & ~7)
        self.ring.produced = 0
        return found


def some_frame(chance: random.Random, family: int) -> bytes:
    """Most of them TCP of a few connections."""
    side = chance.choice([there, there, back])
    port = chance.choice(PORTS)
    payload = bytes(chance.choice([0, 0, 0, 1, 40, 600, 1400]))
    kind = chance.random()
    if kind < 0.75:
        flags = chance.choice(["S", "SA", "A", "A", "A", "PA", "PA", "PA", "FA", "FPA", "R", "RA"])
        return side(family, Protocol.TCP, flags, payload, port=port)
    if kind < 0.92:
        return side(family, Protocol.UDP, payload=payload, port=port)
    if kind < 0.96 and family == 4:
        return bytes(from_client(IP(src=CLIENT[4], dst=VIP[4]) / ICMP(type=chance.choice([0, 8])) / payload))
    fragment = IP(src=CLIENT[4], dst=VIP[4], flags="MF") if family == 4 else ip_layer(6, CLIENT[6], VIP[6])
    layers = [fragment] if family == 4 else [fragment / IPv6ExtHdrFragment(m=1, id=7)]
    return bytes(from_client(*layers, transport(Protocol.UDP, "", port, 53) / bytes(64)))


def walk(twins: Twins, chance: random.Random) -> Sequence[str]:
    """Random steps; what became of the frames."""
    fates = []
    for _ in range(STEPS):
        what = chance.random()
        if what < 0.08 and twins.names:
            latest = list(twins.names)[-len(PORTS) :]
            drop = chance.random() < 0.5
            twins.say(chance.choice(latest), Action.DROP if drop else Action.STOP, chance.choice(HOLDS) * drop)
        elif what < 0.13:
            twins.pass_time(chance.choice(PASSES))
        frame = some_frame(chance, twins.family)
        mine, other = twins.see(frame)
        assert mine == other, (mine, other, frame.hex())
        twins.same_records()
        fates.append(mine)
    return fates


@FAMILIES
@pytest.mark.parametrize("hook", Hook)
@pytest.mark.parametrize("plan", PLANS)
def test_both_decide_the_same_on_random_traffic(sniffer: SniffBench, hook: str, family: int, plan: str) -> None:
    chance = random.Random(f"{plan} {family}")  # noqa: S311  # the same on every run
    seen = set(walk(Twins(sniffer, hook, family, PLANS[plan]), chance))
    wanted = {"sent", "stopped", "dropped", "fragments"} | ({"ignored"} if plan == "rules" else set())
    assert seen >= wanted | (set() if plan == "everything" else {"empty"})
    assert sniffer.count(NUMBER).lost == 0
