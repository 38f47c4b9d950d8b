"""The programs take flows by the rules that the rules themselves name, whatever they are made of."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from typing import NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from bench import Hook
from frames import from_client
from sluicegate_agent.dpi.sniffing.rules import Network, RuleTable, Side, SniffRule
from sluicegate_agent.sniffing.model import NO_RULE, RULES, SnifferPlan, SniffState
from sniff_bench import NUMBER, SniffBench

pytestmark = pytest.mark.kernel

FLOWS = 24
TCP_NUMBER, UDP_NUMBER, SCTP_NUMBER, ICMP_NUMBER, ICMP6_NUMBER, OSPF_NUMBER = 6, 17, 132, 1, 58, 89
WITH_PORTS = (TCP_NUMBER, UDP_NUMBER, SCTP_NUMBER)
PORTS = (1, 79, 80, 81, 443, 1023, 1024, 32768, 65534, 65535)
BASE = {4: 0x0A010000, 6: 0xFD01 << 112}


class Flow(NamedTuple):
    """A first packet."""

    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int

    @property
    def frame(self) -> bytes:
        """As the client sends it."""
        family = 4 if len(self.source) == 4 else 6
        ends = {"src": str(ip_address(self.source)), "dst": str(ip_address(self.destination))}
        ip = IP(**ends, proto=self.protocol) if family == 4 else IPv6(**ends, nh=self.protocol)
        return bytes(from_client(ip, self._inner() / b"data"))

    def _inner(self) -> Packet:
        ports = {"sport": self.source_port, "dport": self.destination_port}
        inner: Packet = {
            TCP_NUMBER: lambda: TCP(**ports, flags="S"),
            UDP_NUMBER: lambda: UDP(**ports),
            SCTP_NUMBER: lambda: SCTP(**ports),
            ICMP_NUMBER: ICMP,
            ICMP6_NUMBER: ICMPv6EchoRequest,
            OSPF_NUMBER: lambda: Raw(bytes(8)),
        }[self.protocol]()
        return inner


def network(dice: random.Random, family: int) -> Network:
    """One of few, so that they contain each other and flows fall into them."""
    bits = 32 if family == 4 else 128
    length = bits - dice.choice((0, 0, 1, 2, 3, 8, 16, bits))
    return ip_network((BASE[family] + dice.randrange(16), length), strict=False)


def side(dice: random.Random, families: list[int], ports: bool) -> Side:
    ranges = [sorted((dice.choice(PORTS), dice.choice(PORTS))) for _ in range(dice.choice((0, 1, 3)) if ports else 0)]
    networks = [network(dice, dice.choice(families)) for _ in range(dice.choice((0, 1, 3)))]
    return Side(tuple(networks), tuple((low, high) for low, high in ranges))


def rule(dice: random.Random) -> SniffRule:
    ports = dice.random() < 0.7
    some = WITH_PORTS if ports else (*WITH_PORTS, ICMP_NUMBER, ICMP6_NUMBER)
    protocols = frozenset(some if ports else ()) if dice.random() < 0.4 else frozenset({dice.choice(some)})
    families = dice.choice([[4], [6], [4, 6]])
    return SniffRule("r", protocols, side(dice, families, ports), side(dice, families, ports), dice.random() < 0.3)


def flow(dice: random.Random) -> Flow:
    family = dice.choice((4, 6))
    protocol = dice.choice((*WITH_PORTS, *WITH_PORTS, ICMP_NUMBER if family == 4 else ICMP6_NUMBER, OSPF_NUMBER))
    ends = [(BASE[family] + number).to_bytes(4 if family == 4 else 16) for number in dice.sample(range(20), 2)]
    ports = [dice.choice(PORTS) if protocol in WITH_PORTS else 0 for _ in range(2)]
    return Flow(protocol, ends[0], ports[0], ends[1], ports[1])


def expected(table: RuleTable, one: Flow) -> tuple[int, SniffState]:
    """What the rules say: the rule that takes it, and whether it is looked at."""
    table.flows = [0] * len(table.rules)
    wanted = table.wants(one.protocol, one[1:3], one[3:5])
    taken = table.flows.index(1) if 1 in table.flows else NO_RULE
    return taken, SniffState.SNIFF if wanted else SniffState.IGNORE


@pytest.mark.parametrize("hook", list(Hook))
@pytest.mark.parametrize("seed", range(6))
def test_random_rules_take_the_flows_that_they_name(sniffer: SniffBench, hook: str, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - the same rules every time
    rules = tuple(rule(dice) for _ in range(dice.choice((1, 4, 30))))
    sniffer.tap(SnifferPlan(NUMBER, "tests/edge", rules, adaptive=False), hook=hook)
    wanted: dict[Flow, tuple[int, SniffState]] = {}
    for one in (flow(dice) for _ in range(FLOWS)):
        if (one.protocol, {one[1:3], one[3:5]}) in [(key[0], {key[1:3], key[3:5]}) for key in wanted]:
            continue
        wanted[one] = expected(RuleTable(rules), one)
        sniffer.bench.run(hook, one.frame)
    seen = {
        (found.protocol, found.opener, found.other): (found.rule, found.state)
        for family in (4, 6)
        for found in sniffer.flows(family)
    }
    for one, (index, state) in wanted.items():
        ends = [(str(ip_address(address)), port) for address, port in (one[1:3], one[3:5])]
        assert seen[one.protocol, ends[0], ends[1]] == (index, state), (one, rules)
    counters = sniffer.count()
    assert list(counters.rule_flows) == [[i for i, _ in wanted.values()].count(index) for index in range(len(rules))]
    assert counters.unmatched == [index for index, _ in wanted.values()].count(NO_RULE)


def test_a_thousand_rules_are_told_apart_to_the_last(sniffer: SniffBench) -> None:
    rules = tuple(
        SniffRule(f"r{index}", frozenset({UDP_NUMBER}), destination=Side(ports=((2000 + index, 2000 + index),)))
        for index in range(RULES - 1)
    )
    sniffer.tap(SnifferPlan(NUMBER, "tests/edge", rules, adaptive=False))
    for index in (0, 63, 64, 500, 1021, 1022):
        one = Flow(UDP_NUMBER, bytes([10, 1, 0, 2]), 5000, bytes([10, 1, 0, 3]), 2000 + index)
        sniffer.bench.run(Hook.XDP, one.frame)
    assert sorted(found.rule for found in sniffer.flows(4)) == [0, 63, 64, 500, 1021, 1022]
    assert {found.state for found in sniffer.flows(4)} == {SniffState.SNIFF}
