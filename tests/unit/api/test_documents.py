"""Reading texts: YAML and JSON, several documents, and texts made to break the reader."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_api.documents import Value, parse_documents


def values(text: str) -> list[Value]:
    return [document.value for document in parse_documents(text)]


def reasons(text: str) -> list[str]:
    return [str(problem) for document in parse_documents(text) for problem in document.problems]


def test_documents_are_numbered_and_empty_ones_skipped() -> None:
    text = "# only a comment\n---\n---\na: 1\n---\n\n# nothing\n--- # here\nb: 2\n---\n"
    found = [(document.index, document.line, document.value) for document in parse_documents(text)]
    assert found == [(1, 4, {"a": 1}), (2, 9, {"b": 2})]


def test_a_document_that_cannot_be_read_does_not_hide_the_others() -> None:
    text = "a: 1\n---\nb: [\n---\nc: 3\n"
    assert values(text) == [{"a": 1}, None, {"c": 3}]
    [reason] = reasons(text)
    assert reason.startswith("line 4, column 1: cannot be read")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-01", "2026-01-01"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("12:30", "12:30"),
        ("10.0.0.5", "10.0.0.5"),
        ("80", 80),
        ("0x50", 80),
        ("0120", 80),
        ("-1", -1),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("yes", True),
        ("Off", False),
        ('"yes"', "yes"),
        ("None", "None"),
        ("~", None),
        ("1e3", "1e3"),
        (".inf", ".inf"),
    ],
)
def test_scalars_are_read_as_the_cluster_reads_them(text: str, value: Value) -> None:
    assert values(f"a: {text}") == [{"a": value}]
    assert reasons(f"a: {text}") == []


def test_a_field_given_twice_is_named_with_both_lines() -> None:
    text = "kind: x\nspec:\n  ports:\n  - port: 1\n    port: 2\n  - port: 3\nkind: y\n"
    assert reasons(text) == [
        "spec.ports[0].port: is given twice, in lines 4 and 5",
        "kind: is given twice, in lines 1 and 7",
    ]


def test_a_merged_field_may_be_given_again() -> None:
    assert values("a: &x {b: 1, c: 1}\nd: {<<: *x, b: 2}\n") == [{"a": {"b": 1, "c": 1}, "d": {"b": 2, "c": 1}}]


def test_json_is_read_as_json_with_tabs_and_surrogates() -> None:
    assert values('{\n\t"a": "\\ud83d\\ude00",\n\t"b": "\\/"}') == [{"a": "\N{GRINNING FACE}", "b": "/"}]
    assert reasons('{"a": 1, "a": 2}') == ['the field "a" is given twice in one object']
    assert values("{a: 1}") == [{"a": 1}]


def test_yaml_directives_and_byte_order_marks_are_skipped() -> None:
    assert values("\ufeff%YAML 1.2\n---\na: 1\n") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system [id]", "not understood here"),
        ("a: !!set {b, c}", "not understood here"),
        ("a: !!python/name:os.system x", "not understood here"),
        ("a: !!int x", "not understood here"),
        ("? [a]\n: b", "must be text"),
        ("1: b", "must be text"),
        ("a: *b", "undefined alias"),
        ("&a [*a]", "an alias refers to a value that holds it"),
        ("a: \x00", "cannot be read"),
        ("<<: 5", "must refer to an object"),
        ("[" * 100_000, "nested more than 50 levels"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested more than 50 levels"),
        ("- " * 60 + "a", "nested more than 50 levels"),
    ],
)
def test_what_must_not_be_read_is_refused(text: str, words: str) -> None:
    assert any(words in reason for reason in reasons(text)), reasons(text)


def test_aliases_cannot_make_a_small_text_large() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    [reason] = reasons("\n".join(rows))
    assert "holds more than 200000 values" in reason


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=10), parts, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=10), plain, min_size=1))
def test_json_comes_back_as_it_was(value: Value) -> None:
    assert values(json.dumps(value)) == [value]


@given(st.text(alphabet="ab:-[]{}&*!|>'\"\\#%,? \n\t0~<", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    for document in parse_documents(text):
        assert document.value is not None or document.problems
