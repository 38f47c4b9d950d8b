"""Which rule takes a flow: the programs' bit vectors against a walk through the rules."""

from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from bench import CLIENT, EGRESS, VIP, Hook
from frames import mac
from marks import ALL_HOOKS, FAMILIES, PROTOCOLS
from pieces import with_header_checksum
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.sniffing.rules import Network, Side, SniffRule
from sluicegate_agent.sniffing.model import NO_RULE, SnifferPlan, SniffState, SniffWhy
from sniff_bench import CLIENT_PORT, PLAN, SniffBench, back, there

pytestmark = pytest.mark.kernel

TCP, UDP, ICMP, ICMPV6, SCTP, OSPF = 6, 17, 1, 58, 132, 89
WITH_PORTS = {TCP: 20, UDP: 8, SCTP: 12}


def side(*networks: str, ports: tuple[tuple[int, int], ...] = ()) -> Side:
    return Side(tuple(ip_network(text) for text in networks), ports)


def rule_of(sniffer: SniffBench, family: int) -> int:
    return sniffer.flow(family).rule


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_the_first_rule_that_fits_takes_a_flow(sniffer: SniffBench, hook: str, family: int, protocol: Protocol) -> None:
    client, server = f"{CLIENT[family]}/{32 if family == 4 else 128}", side(VIP[family])
    rules = (
        SniffRule("other protocol", frozenset({SCTP}), destination=server),
        SniffRule("other way", source=server),
        SniffRule("other port", destination=side(ports=((81, 90), (1, 79)))),
        SniffRule("this one", frozenset({protocol, SCTP}), side(client, ports=((40000, 40000),)), server),
        SniffRule("all"),
    )
    sniffer.tap(replace(PLAN, rules=rules), hook=hook)
    assert sniffer.fates(hook, there(family, protocol), back(family, protocol)) == ["sent", "sent"]
    assert rule_of(sniffer, family) == 3
    assert sniffer.fate(hook, there(family, protocol, port=40001)) == "sent"
    assert sniffer.flow(family, 40001).rule == 4
    assert sniffer.count().rule_flows == (0, 0, 0, 1, 1)
    assert sniffer.count().unmatched == 0


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_a_flow_that_no_rule_takes_is_ignored(sniffer: SniffBench, hook: str, family: int, protocol: Protocol) -> None:
    sniffer.tap(replace(PLAN, rules=(SniffRule("none", destination=side(ports=((81, 81),))),)), hook=hook)
    assert sniffer.fates(hook, there(family, protocol), back(family, protocol)) == ["ignored", "ignored"]
    flow = sniffer.flow(family)
    assert (flow.state, flow.why, flow.rule) == (SniffState.IGNORE, SniffWhy.RULES, NO_RULE)
    assert flow.packets == (1, 1)
    assert (sniffer.count().unmatched, sniffer.count().rule_flows) == (1, (0,))
    assert not sniffer.records()


@ALL_HOOKS
@FAMILIES
def test_a_rule_excludes_what_it_takes(sniffer: SniffBench, hook: str, family: int) -> None:
    rules = (SniffRule("not this", destination=side(VIP[family]), ignore=True), SniffRule("all"))
    sniffer.tap(replace(PLAN, rules=rules), hook=hook)
    assert sniffer.fates(hook, there(family), back(family)) == ["ignored", "ignored"]
    flow = sniffer.flow(family)
    assert (flow.state, flow.why, flow.rule) == (SniffState.IGNORE, SniffWhy.RULES, 0)
    assert sniffer.fate(hook, back(family, port=1)) == "sent"
    assert sniffer.flow(family, 1).rule == 1
    assert sniffer.count().rule_flows == (1, 1)


@ALL_HOOKS
@FAMILIES
def test_a_rule_that_excludes_what_another_took_before_it_excludes_nothing(
    sniffer: SniffBench, hook: str, family: int
) -> None:
    rules = (SniffRule("all"), SniffRule("not this", ignore=True))
    sniffer.tap(replace(PLAN, rules=rules), hook=hook)
    assert sniffer.fate(hook, there(family)) == "sent"


@ALL_HOOKS
@FAMILIES
def test_the_answer_to_a_syn_is_matched_as_its_opener_sent_it(sniffer: SniffBench, hook: str, family: int) -> None:
    rules = (
        SniffRule("turned", destination=side(CLIENT[family])),
        SniffRule("as it was", source=side(CLIENT[family], ports=((CLIENT_PORT,) * 2,)), destination=side(VIP[family])),
    )
    sniffer.tap(replace(PLAN, rules=rules), hook=hook)
    sniffer.send(hook, back(family, flags="SA", payload=b""))
    assert rule_of(sniffer, family) == 1
    sniffer.send(hook, back(family, flags="A", port=7))
    assert sniffer.flow(family, 7).rule == 0


@ALL_HOOKS
@FAMILIES
def test_a_flow_keeps_its_rule_when_rules_change(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, rules=(SniffRule("none", frozenset({SCTP})),)), hook=hook)
    assert sniffer.fate(hook, there(family)) == "ignored"
    sniffer.tap(replace(PLAN, rules=(SniffRule("all"),)), hook=hook)
    assert sniffer.fates(hook, there(family), there(family, port=1)) == ["ignored", "sent"]
    sniffer.tap(PLAN, hook=hook)
    assert sniffer.fates(hook, there(family, port=2)) == ["sent"]
    assert sniffer.flow(family, 2).rule == NO_RULE


def test_sniffers_have_rules_of_their_own(sniffer: SniffBench) -> None:
    here = replace(PLAN, rules=(SniffRule("none", frozenset({SCTP})), SniffRule("all")))
    other = SnifferPlan(1, "tests/other", (SniffRule("all", ignore=True),), adaptive=False)
    sniffer.tap(here)
    (tap,) = sniffer.sniffing.taps
    sniffer.sniffing.apply([here, other], [tap, replace(tap, ifindex=sniffer.bench.ifindex["b0"], sniffer=1)])
    for device in ("c0", "b0"):
        sniffer.bench.run(Hook.XDP, there(4), device)
    rules = {flow.ifindex: (flow.rule, flow.state) for flow in sniffer.flows(4)}
    assert rules == {
        sniffer.bench.ifindex["c0"]: (1, SniffState.SNIFF),
        sniffer.bench.ifindex["b0"]: (0, SniffState.IGNORE),
    }


def packet(family: int, protocol: int, ends: tuple[tuple[int, int], tuple[int, int]]) -> bytes:
    """A client's frame with just enough of a transport header; ends are address and port as numbers."""
    (source, sport), (destination, dport) = ends
    width = 4 if family == 4 else 16
    addresses = source.to_bytes(width) + destination.to_bytes(width)
    body = struct.pack("!HH", sport, dport) if protocol in WITH_PORTS else b"data"
    if protocol == TCP:
        body += bytes(8) + b"\x50\x18" + bytes(6)
    elif protocol == UDP:
        body += b"\0\x08\0\0"
    elif protocol == SCTP:
        body += bytes(8)
    if family == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0) + addresses
        head, kind = with_header_checksum(head), b"\x08\x00"
    else:
        head, kind = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + addresses, b"\x86\xdd"
    return mac("02:00:00:00:01:01") + mac("02:00:00:00:01:02") + kind + head + body


def some_network(chance: random.Random, family: int) -> Network:
    """Few of them, so that they hold each other."""
    bits = 32 if family == 4 else 128
    length = chance.choice([0, 8, 9, 12, 16, 20, 24, 25, bits - 1, bits])
    address = chance.getrandbits(bits)
    if chance.random() < 0.9:
        start = (10 << 24) if family == 4 else 0x2001_0DB8 << 96
        address = start | chance.getrandbits(4) << (bits - 12) | chance.getrandbits(3)
    return ip_network((address >> (bits - length) << (bits - length), length))


def some_side(chance: random.Random) -> Side:
    ports = []
    networks = [some_network(chance, chance.choice([4, 6])) for _ in range(chance.choice([0, 0, 1, 1, 2, 3]))]
    for _ in range(chance.choice([0, 0, 1, 1, 2])):
        first = chance.choice([chance.randrange(65536), chance.randrange(200)])
        ports.append((first, min(65535, first + chance.choice([0, 0, 1, 7, 1000]))))
    return Side(tuple(networks), tuple(ports))


def some_rules(chance: random.Random, count: int) -> tuple[SniffRule, ...]:
    protocols = [
        frozenset[int](),
        frozenset({TCP}),
        frozenset({UDP}),
        frozenset({TCP, SCTP}),
        frozenset({ICMP, ICMPV6}),
    ]
    return tuple(
        SniffRule(f"r{n}", chance.choice(protocols), some_side(chance), some_side(chance), chance.random() < 0.2)
        for n in range(count)
    )


def first_match(rules: tuple[SniffRule, ...], family: int, protocol: int, ends: tuple[tuple[int, int], ...]) -> int:
    """The definition."""
    kind = ip_address if family == 4 else (lambda number: ip_address(number.to_bytes(16)))

    def admits(end: Side, address: int, port: int) -> bool:
        inside = not end.networks or any(kind(address) in net for net in end.networks if net.version == family)
        return inside and (not end.ports or any(low <= port <= high for low, high in end.ports))

    for index, rule in enumerate(rules):
        fits = not rule.protocols or protocol in rule.protocols
        if fits and admits(rule.source, *ends[0]) and admits(rule.destination, *ends[1]):
            return index
    return NO_RULE


def some_end(chance: random.Random, rules: tuple[SniffRule, ...], which: str, family: int) -> tuple[int, int]:
    """Near the borders of what a rule names, which is where a mistake shows."""
    end: Side = getattr(chance.choice(rules), which)
    bits = 32 if family == 4 else 128
    networks = [net for net in end.networks if net.version == family] or [some_network(chance, family)]
    net = chance.choice(networks)
    first, last = int(net.network_address), int(net.broadcast_address)
    address = chance.choice([first, last, first - 1, last + 1, chance.randint(first, last)]) % (1 << bits)
    low, high = chance.choice(end.ports) if end.ports else (chance.randrange(65536),) * 2
    return address, min(max(chance.choice([low, high, low - 1, high + 1]), 0), 65535)


@pytest.mark.parametrize("hook", [Hook.XDP, EGRESS])
@pytest.mark.parametrize("count", [1, 64, 65, 1000, 1023])
def test_the_right_one_of_many_rules(sniffer: SniffBench, hook: str, count: int) -> None:
    """Random rules, and packets at the borders of their networks and ports; each flow is looked at alone."""
    chance = random.Random(count)  # noqa: S311 - repeatable on purpose
    rules = some_rules(chance, count)
    sniffer.tap(replace(PLAN, rules=rules), hook=hook)
    expected: Counter[int] = Counter()
    for _ in range(400):
        family = chance.choice([4, 6])
        protocol = chance.choice([TCP, TCP, UDP, UDP, SCTP, ICMP if family == 4 else ICMPV6, OSPF])
        ends = (some_end(chance, rules, "source", family), some_end(chance, rules, "destination", family))
        if protocol not in WITH_PORTS:
            ends = ((ends[0][0], 0), (ends[1][0], 0))
        frame = packet(family, protocol, ends)
        sniffer.bench.run(hook, frame)
        (flow,) = sniffer.flows(family)
        index = first_match(rules, family, protocol, ends)
        assert flow.rule == index, (rules[index] if index < NO_RULE else None, ends, protocol)
        wanted = index != NO_RULE and not rules[index].ignore
        assert flow.state is (SniffState.SNIFF if wanted else SniffState.IGNORE)
        expected[index] += 1
        table = sniffer.tables.by_family("sniffs", family)
        for key in list(table.map.keys()):
            table.map.delete(key)
        sniffer.records()
    found = sniffer.count()
    assert found.unmatched == expected[NO_RULE]
    assert found.rule_flows == tuple(expected[index] for index in range(count))
    assert len(expected) > (1 if count == 1 else 10)
