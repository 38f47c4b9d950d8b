"""Values of variables of signatures: what can be read, what cannot, and why."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_api.variables import cycles, fault, references


@pytest.mark.parametrize(
    "value",
    [
        "any",
        "10.0.0.0/8",
        "10.0.0.1",
        "10.0.0.1/8",
        "fd00::/8",
        "::",
        "10.0.0.1-10.0.0.9",
        "![10.0.0.0/8]",
        "[10.0.0.0/8, !10.9.0.0/16, [fd00::/8, !$DMZ]]",
        "$HOME_NET",
        "!$HOME_NET",
        "! $HOME_NET",
        "80",
        "80:90",
        "1024:",
        ":1024",
        "[80,443,8000:8999,!8080]",
        "[$HTTP_PORTS,8443]",
        "[[[[[[[[80]]]]]]]]",
    ],
)
def test_what_suricata_takes_for_addresses_or_ports_can_be_read(value: str) -> None:
    assert fault(value) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "ends where"),
        ("!", "ends where"),
        ("[", "ends where"),
        ("[]", 'has "]", which is no address'),
        ("[80", 'without its "]"'),
        ("[80,", "ends where"),
        ("[80,]", 'has "]"'),
        ("[80 443]", 'has "443" where "," or "]" is expected'),
        ("80,443", 'has "," after its end: put lists in brackets'),
        ("80]", 'has "]" after its end'),
        ("[80,10.0.0.1]", "mixes addresses and ports"),
        ("[80,[!10.0.0.1]]", "mixes addresses and ports"),
        ("70000", 'has "70000"'),
        ("90:80", 'has "90:80"'),
        (":", 'has ":"'),
        ("10.0.0.0/33", 'has "10.0.0.0/33"'),
        ("10.0.0.9-10.0.0.1", "which is no address"),
        ("10.0.0.9-fd00::1", "which is no address"),
        ("$", 'has "$"'),
        ("$1", 'has "$1"'),
        ("example.com", 'has "example.com"'),
        ("[[[[[[[[[80]]]]]]]]]", "more than 8 deep"),
    ],
)
def test_what_cannot_be_read_is_named(value: str, words: str) -> None:
    assert words in (fault(value) or "")


def test_references_are_names_without_their_sign() -> None:
    assert references("[$A,!$B_2,10.0.0.0/8]") == {"A", "B_2"}


def test_only_variables_on_a_circle_lead_back_to_themselves() -> None:
    found = cycles({"A": "$B", "B": "[$C,$D]", "C": "!$A", "D": "any", "E": "$A", "F": "$NOT_HERE"})
    assert [violation.location for violation in found] == [("A",), ("B",), ("C",)]


@given(st.text(alphabet="[]!,$ :.-/A1", max_size=30))
def test_no_value_breaks_the_reader(value: str) -> None:
    assert fault(value) != ""
