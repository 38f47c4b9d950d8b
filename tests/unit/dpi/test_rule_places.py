"""Addresses and ports of rules, with lists, negation and variables."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.places import Places
from sluicegate_agent.dpi.rules.sets import Ranges, address_number

VARIABLES = {
    "HOME": "[10.0.0.0/8,192.168.0.0/16]",
    "OUTSIDE": "!$HOME",
    "WEB": "[80,8000:8080]",
    "CIRCLE": "[$ROUND]",
    "ROUND": "!$CIRCLE",
}
PLACES = Places(VARIABLES)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("any", "0.0.0.0 255.255.255.255 ::1", ""),
        ("10.0.0.1", "10.0.0.1", "10.0.0.2 ::a00:1"),
        ("10.0.0.9/24", "10.0.0.0 10.0.0.255", "10.0.1.0"),
        ("10.0.0.0/255.255.0.0", "10.0.9.9", "10.1.0.0"),
        ("10.0.0.5-10.0.0.7", "10.0.0.5 10.0.0.7", "10.0.0.4 10.0.0.8"),
        ("!10.0.0.0/8", "11.0.0.0 2001:db8::1", "10.9.9.9"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("[10.0.0.0/8, 2001:db8::1]", "10.1.1.1 2001:db8::1", "11.1.1.1 2001:db8::2"),
        ("[10.0.0.0/8,!10.9.0.0/16]", "10.8.0.0", "10.9.1.1 11.0.0.0"),
        ("[!10.0.0.0/8,!11.0.0.0/8]", "12.0.0.0 ::1", "10.0.0.1 11.0.0.1"),
        ("![10.0.0.0/8,![10.9.0.0/16]]", "10.9.0.1 12.0.0.0", "10.8.0.0"),
        ("$HOME", "192.168.7.7", "192.169.0.0"),
        ("$OUTSIDE", "192.169.0.0", "192.168.7.7"),
        ("[$HOME,!10.1.0.0/16]", "10.2.0.0", "10.1.0.0"),
    ],
)
def test_addresses(text: str, inside: str, outside: str) -> None:
    found = PLACES.addresses(text)
    assert [each for each in inside.split() if address_number(ip_address(each)) not in found] == []
    assert [each for each in outside.split() if address_number(ip_address(each)) in found] == []


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("any", [(0, 65535)]),
        ("80", [(80, 80)]),
        ("1024:", [(1024, 65535)]),
        (":1023", [(0, 1023)]),
        ("[80,81,443]", [(80, 81), (443, 443)]),
        ("!80", [(0, 79), (81, 65535)]),
        ("[1:100,!50:60]", [(1, 49), (61, 100)]),
        ("$WEB", [(80, 80), (8000, 8080)]),
        ("[$WEB,!8001:]", [(80, 80), (8000, 8000)]),
    ],
)
def test_ports(text: str, pairs: list[tuple[int, int]]) -> None:
    assert list(PLACES.ports(text).pairs) == pairs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[80", "no closing bracket"),
        ("[80,,81]", "empty entry"),
        ("[80]]", "closes a bracket"),
        ("99999", "no range of ports"),
        ("90:80", "no range of ports"),
        (":", "is no port"),
        ("http", "is no port"),
        ("!any", "leaves no port"),
        ("$NONE", "$NONE has no value"),
        ("$CIRCLE", "defined by itself"),
        ("!" * 40 + "80", "nest deeper than 16"),
        ("[" * 40 + "80" + "]" * 40, "nest deeper than 16"),
    ],
)
def test_bad_ports_are_named(text: str, words: str) -> None:
    with pytest.raises(RuleError, match=words.replace("$", r"\$")):
        PLACES.ports(text)


pairs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted).map(tuple), max_size=6)


@settings(deadline=None)
@given(pairs, pairs)
def test_sets_behave_as_sets(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    left, right = Ranges.of(first, 40), Ranges.of(second, 40)
    members = {number for number in range(41) if any(low <= number <= high for low, high in first)}
    others = {number for number in range(41) if any(low <= number <= high for low, high in second)}
    assert {number for number in range(41) if number in left} == members
    assert {number for number in range(41) if number in left - right} == members - others
    assert {number for number in range(41) if number in left | right} == members | others
    assert ~~left == left
    assert all(high + 1 < low for (_, high), (low, _) in zip(left.pairs, left.pairs[1:], strict=False))
