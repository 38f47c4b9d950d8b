"""Rules on the native engine: the expected matches, the slow reference, and fields of real requests."""

from __future__ import annotations

import pytest
import rule_engine_run
import rule_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from own_rules import VARIABLES, own_rules
from rule_cases import CASES
from rule_traffic import Piece, Traffic, stream
from test_rule_loading import all_well
from test_rule_matching import flows, read, rules

from sluicegate_agent.dpi.engine import PatternError, available
from sluicegate_agent.dpi.rules.build import compiled, tables_of
from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.load import RuleSource, load
from sluicegate_agent.dpi.rules.model import App

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

PAYLOAD_CASES = [case for case in CASES if case[2].app is App.ANY and not any(piece.fields for piece in case[2].pieces)]


@pytest.mark.parametrize(
    ("rule", "traffic", "expected"), [case[1:] for case in PAYLOAD_CASES], ids=[case[0] for case in PAYLOAD_CASES]
)
def test_the_engine_finds_what_a_rule_means(rule: str, traffic: Traffic, expected: bool) -> None:
    assert rule_engine_run.alerts(tables_of([compiled(read(rule))]), traffic) == [{1} if expected else set()]


@settings(deadline=None)
@given(rules(), st.lists(flows, min_size=1, max_size=5))
def test_the_engine_and_the_reference_agree(rule: str, tried: list[Traffic]) -> None:
    # Packets without payload are no packets to the rules that need none of their patterns.
    tried = [Traffic(tuple(each for each in flow.pieces if each.data), flow.l4) for flow in tried]
    try:
        signature = read(rule)
        found = rule_engine_run.alerts(tables_of([compiled(signature)]), *tried)
    except RuleError:
        return
    except PatternError as error:
        assert any(word in str(error) for word in ("never match", "Embedded"))  # noqa: PT017
        return
    assert found == [{1} if rule_reference.alerts(signature, flow) else set() for flow in tried]


REQUEST = (
    b"GET /a/%2e%2e/etc/passwd?x=1%20UNION%20SELECT%202 HTTP/1.1\r\nHost: Files.Example.NET:8080\r\n"
    b"User-Agent:  sqlmap/1.7 \r\nAccept: */*\r\n\r\n"
)


def test_the_header_of_a_request_is_its_lines_without_the_first_and_the_body() -> None:
    rules = [
        'alert http any any -> any any (http.header; content:"Host: Files.Example.NET:8080|0d|"; startswith; sid:1;)',
        'alert http any any -> any any (http.header; content:"Accept: */*|0d 0a|"; endswith; sid:2;)',
        'alert http any any -> any any (content:"GET"; http_header; sid:3;)',
        'alert http any any -> any any (pcre:"/^user-agent:\\s+sqlmap/Him"; sid:4;)',
        'alert http any any -> any any (http.header; content:"body"; sid:5;)',
    ]
    tables = tables_of([compiled(read(rule)) for rule in rules])
    bits = tuple(Piece(REQUEST[at : at + 9]) for at in range(0, len(REQUEST), 9))
    traffic = [stream(REQUEST + b"body"), Traffic(bits), stream(b"GET / HTTP/1.1\r\n\r\n")]
    assert rule_engine_run.alerts(tables, *traffic) == [{1, 2, 4}, {1, 2, 4}, set()]


def test_fields_of_a_real_request_are_found_even_when_it_comes_in_pieces() -> None:
    own = load([RuleSource("own", own_rules())], VARIABLES, all_well)
    names = {signature.sid: signature.message for signature in own.signatures}
    bits = tuple(Piece(REQUEST[at : at + 7]) for at in range(0, len(REQUEST), 7))
    found = rule_engine_run.alerts(
        own.tables(),
        stream(REQUEST, client="203.0.113.9", server="10.0.0.1"),
        Traffic(bits, client="203.0.113.9", server="10.0.0.1"),
        stream(REQUEST, client="10.0.0.1", server="203.0.113.9"),
    )
    assert [{names[sid] for sid in sids} for sids in found] == [
        {"path /etc/passwd", "agent sqlmap", "injection 0"},
        {"path /etc/passwd", "agent sqlmap", "injection 0"},
        {"HTTP to files.example.net"},
    ]
