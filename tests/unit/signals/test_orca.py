"""Load as JSON: names, bounds, and words for what is not a load."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safe_words import check_words

from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.model import Report
from sluicegate_agent.signals.orca import MOST_PER_SECOND, MOST_UTILIZATION, parse_load

NAMES = ("application_utilization", "cpu_utilization", "rps_fractional", "eps")


@pytest.mark.parametrize(
    ("text", "report"),
    [
        ('{"application_utilization": 0.5}', Report(utilization=0.5)),
        ('{"cpu_utilization": 0.25}', Report(utilization=0.25)),
        ('{"application_utilization": 0.2, "cpu_utilization": 0.9}', Report(utilization=0.9)),
        ('{"application_utilization": 0.9, "cpu_utilization": 0.2}', Report(utilization=0.9)),
        ('{"application_utilization": 1.3, "rps_fractional": 40, "eps": 0}', Report(1.3, 40.0, 0.0)),
        ('{"rps_fractional": 12.5}', Report(rps=12.5)),
        ('{"application_utilization": null, "eps": 2}', Report(eps=2.0)),
        ('{"cpu_utilization": 0, "mem_utilization": 7, "named_metrics": {"a": 1}}', Report(utilization=0.0)),
        ('\n {"eps":1e3}\n ', Report(eps=1000.0)),
    ],
)
def test_what_a_backend_may_report(text: str, report: Report) -> None:
    assert parse_load(text.encode()) == report


REFUSED = {
    "": "the answer is not JSON, it is empty",
    "<html>": 'the answer is not JSON: it begins with "<html>"',
    '{"eps": 1': "is not JSON",
    "\x00" * 9: "is not JSON",
    "[" * 60_000: "is not JSON",
    "[1]": "the answer is a list, not an object",
    "null": "the answer is null, not an object",
    "true": "the answer is true, not an object",
    '"75%"': 'the answer is the text "75%", not an object',
    "0.7": "the answer is a number, not an object",
    "{}": "the answer has none of application_utilization, cpu_utilization, rps_fractional, eps",
    '{"load": 1}': "the answer has none of",
    '{"cpu_utilization": NaN}': "cpu_utilization is not a number (NaN)",
    '{"cpu_utilization": Infinity}': "cpu_utilization is inf, above 10",
    '{"cpu_utilization": -Infinity}': "cpu_utilization is -inf, below 0",
    '{"application_utilization": -0.1}': "application_utilization is -0.1, below 0",
    '{"application_utilization": 75}': "application_utilization is 75, above 10: 1 means full, give no per cent",
    '{"application_utilization": "0.5"}': 'application_utilization is the text "0.5", not a number',
    '{"application_utilization": true}': "application_utilization is true, not a number",
    '{"application_utilization": [0.5]}': "application_utilization is a list, not a number",
    '{"eps": {}}': "eps is an object, not a number",
    '{"rps_fractional": 1e10}': "rps_fractional is 1e+10, above 1e+09",
    '{"rps_fractional": 1' + "0" * 400 + "}": "rps_fractional is inf, above",
    '{"rps_fractional": 1e999}': "rps_fractional is inf, above",
    '{"eps": -1' + "0" * 400 + "}": "eps is -inf, below 0",
    '{"eps": 1' + "0" * 5000 + "}": "is not JSON",
    '{"application_utilization": 0.5, "eps": "many"}': 'eps is the text "many"',
    '{"application_utilization": 0.5, "cpu_utilization": -1}': "cpu_utilization is -1",
}


@pytest.mark.parametrize(("text", "words"), REFUSED.items(), ids=lambda text: text[:50])
def test_what_is_no_load_is_refused_by_the_name_of_the_field(text: str, words: str) -> None:
    with pytest.raises(SignalError) as failure:
        parse_load(text.encode())
    assert words in str(failure.value)


def test_no_number_is_a_negative_zero() -> None:
    report = parse_load(b'{"cpu_utilization": -0.0, "eps": -0}')
    assert (str(report.utilization), str(report.eps)) == ("0.0", "0.0")


numbers = st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=5) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(NAMES), numbers).map(json.dumps).map(str.encode) | st.binary(max_size=300))
def test_whatever_comes_the_report_is_finite_and_in_bounds(body: bytes) -> None:
    try:
        report = parse_load(body)
    except SignalError as failure:
        check_words(failure)
        return
    for value, most in (
        (report.utilization, MOST_UTILIZATION),
        (report.rps, MOST_PER_SECOND),
        (report.eps, MOST_PER_SECOND),
    ):
        assert value is None or (isinstance(value, float) and 0 <= value <= most)
        assert value is None or math.copysign(1, value) == 1
    assert report != Report()
