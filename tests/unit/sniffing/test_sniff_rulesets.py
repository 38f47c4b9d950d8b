"""The kernel's sets of rules decide as the rules do."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_worlds import Flow, flows, match, rule_lists

from sluicegate_agent.dpi.sniffing.rules import RuleTable, Side, SniffRule
from sluicegate_agent.sniffing.model import NO_RULE
from sluicegate_agent.sniffing.rulesets import NetPrefix, PortPrefix, RuleSide, compile_rules


@settings(deadline=None)
@given(rule_lists, st.lists(flows, min_size=1, max_size=25))
def test_sets_take_the_flows_that_the_rules_take(rules: list[SniffRule], some: list[Flow]) -> None:
    compiled = compile_rules(rules)
    for flow in some:
        protocol, source, source_port, destination, destination_port = flow
        table = RuleTable(rules)
        wanted = table.wants(protocol, (source, source_port), (destination, destination_port))
        index, ignored = match(compiled, flow)
        if rules:
            assert wanted == (index is not None and not ignored)
        assert table.flows == [int(number == index) for number in range(len(rules))]


@given(rule_lists)
def test_every_side_has_a_default_so_that_a_lookup_always_hits(rules: list[SniffRule]) -> None:
    compiled = compile_rules(rules)
    for side in RuleSide:
        assert PortPrefix(side, 0, 0) in compiled.ports
        assert {family for family in (4, 6) if NetPrefix(family, side, 0, 0) in compiled.nets} == {4, 6}


def test_the_first_rule_of_many_wins_wherever_it_stands() -> None:
    inner, outer = ip_network("10.1.0.0/16"), ip_network("10.0.0.0/8")
    rules = [SniffRule(f"r{i}", destination=Side((ip_network(f"192.0.{i % 256}.0/24"),))) for i in range(900)]
    rules += [SniffRule("in", destination=Side((inner,)), ignore=True), SniffRule("out", destination=Side((outer,)))]
    compiled = compile_rules(rules)
    ends = (6, bytes(4), 1)
    assert match(compiled, (*ends, bytes([10, 1, 2, 3]), 2)) == (900, True)
    assert match(compiled, (*ends, bytes([10, 2, 2, 3]), 2)) == (901, False)
    assert match(compiled, (*ends, bytes([11, 2, 2, 3]), 2)) == (None, False)
    assert match(compiled, (*ends, bytes([192, 0, 7, 3]), 2)) == (7, False)


def test_a_thousand_port_rules_need_no_more_prefixes_than_their_borders() -> None:
    rules = [SniffRule(f"r{port}", destination=Side(ports=((port, port),))) for port in range(1000, 2000)]
    compiled = compile_rules(rules)
    assert len(compiled.ports) == 1000 + len(RuleSide)
    assert len(compiled.sets()) == 1000 + 2  # any port, and of no rule


def test_a_range_is_cut_into_the_fewest_prefixes() -> None:
    compiled = compile_rules([SniffRule("high", destination=Side(ports=((1024, 65535),)))])
    lengths = sorted(prefix.length for prefix in compiled.ports if prefix.side is RuleSide.DESTINATION)
    assert lengths == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "ranges",
    [
        ((80, 80), (82, 82)),
        ((80, 81), (82, 90)),
        ((80, 90), (85, 87), (89, 95)),
        ((0, 65535),),
        ((0, 0), (65535, 65535)),
        ((0, 80), (82, 65535)),
    ],
)
def test_every_port_of_a_rule_and_no_other_is_taken(ranges: tuple[tuple[int, int], ...]) -> None:
    compiled = compile_rules(
        [SniffRule("r", destination=Side(ports=ranges)), SniffRule("s", source=Side(ports=ranges))]
    )
    for port in (*range(70, 100), 0, 1, 65534, 65535):
        inside = any(first <= port <= last for first, last in ranges)
        assert match(compiled, (6, bytes(4), 70, bytes(4), port))[0] == (0 if inside else _source_70(ranges))


def _source_70(ranges: tuple[tuple[int, int], ...]) -> int | None:
    return 1 if any(first <= 70 <= last for first, last in ranges) else None


def test_more_rules_than_bits_are_refused() -> None:
    assert compile_rules([SniffRule("r")] * NO_RULE).protocols[0].bit_length() == NO_RULE
    with pytest.raises(ValueError, match="1024 sniff rules; a sniffer can have 1023"):
        compile_rules([SniffRule("r")] * (NO_RULE + 1))


def test_a_protocol_without_a_set_of_its_own_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"sniff\[0\] \(tunnel\) asks for IP protocol 47"):
        compile_rules([SniffRule("tunnel", protocols=frozenset({47}))])
