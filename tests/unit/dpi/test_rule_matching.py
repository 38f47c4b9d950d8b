"""Rules mean what the language says: expected matches, and the tables against a slow reference."""

from __future__ import annotations

import pytest
import rule_reference
import rule_tables_run
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_cases import CASES
from rule_traffic import Piece, Traffic

from sluicegate_agent.dpi.rules.build import compiled, tables_of
from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.model import Signature
from sluicegate_agent.dpi.rules.options import signature_of
from sluicegate_agent.dpi.rules.places import Places
from sluicegate_agent.dpi.rules.vectorscan import CompileError, NoVectorscanError, library

VARIABLES = Places({"HOME_NET": "[10.0.0.0/8,!10.9.0.0/16]"})


def _vectorscan() -> bool:
    try:
        library()
    except NoVectorscanError:
        return False
    return True


needs_vectorscan = pytest.mark.skipif(not _vectorscan(), reason="libvectorscan5 is not installed")


def read(rule: str) -> Signature:
    return signature_of(rule, VARIABLES)


@pytest.mark.parametrize(("rule", "traffic", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_reference_knows_what_a_rule_means(rule: str, traffic: Traffic, expected: bool) -> None:
    assert rule_reference.alerts(read(rule), traffic) is expected


@needs_vectorscan
@pytest.mark.parametrize(("rule", "traffic", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_tables_find_what_a_rule_means(rule: str, traffic: Traffic, expected: bool) -> None:
    assert rule_tables_run.alerts(tables_of([compiled(read(rule))]), traffic) == ({1} if expected else set())


letters = st.sampled_from(["a", "b", "A"])
words = st.text(letters, min_size=1, max_size=3)
small = st.integers(0, 4)


@st.composite
def contents(draw: st.DrawFn) -> str:
    word = draw(words)
    negated = draw(st.integers(0, 4)) == 0
    parts = [f'content:{"!" if negated else ""}"{word}";']
    parts += ["nocase;"] if draw(st.booleans()) else []
    kind = draw(st.sampled_from(["free", "absolute", "relative", "start", "end"]))
    if kind == "absolute":
        parts += [f"offset:{draw(small)};"] if draw(st.booleans()) else []
        parts += [f"depth:{len(word) + draw(small)};"] if draw(st.booleans()) else []
    elif kind == "relative" and negated:
        word = word[0] if draw(st.booleans()) else word
        parts[0] = f'content:!"{word}";'
        parts += [f"distance:{draw(small)};"] if draw(st.booleans()) else []
        parts.append(f"within:{len(word) + (draw(small) if len(word) == 1 else 0)};")
    elif kind == "relative":
        parts += [f"distance:{draw(small)};"] if draw(st.booleans()) else []
        parts += [f"within:{len(word) + draw(small)};"] if draw(st.booleans()) else []
    elif kind == "start":
        parts.append("startswith;")
    elif kind == "end":
        parts.append("endswith;")
    return " ".join(parts)


expressions = st.sampled_from(["a+b", "^b", "a|b", "[^a]b?", "(?:ab)+", "A.b"])


@st.composite
def regexes(draw: st.DrawFn) -> str:
    expression = draw(expressions)
    flags = draw(st.sampled_from(["", "i", "s", "R", "Ri", "A"]))
    if "R" in flags and "^" in expression[1:]:
        flags = flags.replace("R", "")
    return f'pcre:"/{expression}/{flags}";'


@st.composite
def rules(draw: st.DrawFn) -> str:
    protocol = draw(st.sampled_from(["tcp", "udp", "ip", "tcp-pkt"]))
    matches = draw(st.lists(contents() | regexes(), min_size=1, max_size=4))
    dsize = draw(st.sampled_from(["", "", "", "dsize:<4; ", "dsize:>2; "]))
    flow = draw(st.sampled_from(["", "", "flow:to_server; ", "flow:to_client; "]))
    return f"alert {protocol} any any -> any any ({flow}{dsize}{' '.join(matches)} sid:1;)"


pieces = st.builds(Piece, st.text(st.sampled_from("abAx\n"), max_size=8).map(str.encode), st.sampled_from([0, 0, 0, 1]))
flows = st.builds(Traffic, st.lists(pieces, min_size=1, max_size=4).map(tuple), st.sampled_from([6, 6, 17]))


@needs_vectorscan
@settings(deadline=None)
@given(rules(), st.lists(flows, min_size=1, max_size=5))
def test_the_tables_and_the_reference_agree(rule: str, tried: list[Traffic]) -> None:
    try:
        signature = read(rule)
        tables = tables_of([compiled(signature)])
    except RuleError:
        return
    for traffic in tried:
        try:
            found = rule_tables_run.alerts(tables, traffic)
        except CompileError as error:
            assert any(word in error.message for word in ("never match", "Embedded"))  # noqa: PT017
            return
        assert found == ({1} if rule_reference.alerts(signature, traffic) else set())
