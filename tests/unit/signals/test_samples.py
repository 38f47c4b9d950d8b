"""Results of PromQL queries: which sample is which backend's, and words for what is none."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safe_words import check_words

from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.orca import MOST_UTILIZATION
from sluicegate_agent.signals.samples import parse_place, parse_samples

HERE = ip_address("10.0.0.5")
SIX = ip_address("fd00::5")


def answer(*samples: tuple[dict[str, str], object]) -> bytes:
    """What Prometheus answers for a query with these labels and values."""
    result = [{"metric": labels, "value": [1700000000.123, value]} for labels, value in samples]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def utilization(*samples: tuple[dict[str, str], object], port: int = 80, others: set[Any] | None = None) -> float:
    report = parse_samples(200, answer(*samples)).report(HERE, port, others or set())
    assert report.utilization is not None
    return report.utilization


@pytest.mark.parametrize(
    "labels",
    [
        {"instance": "10.0.0.5:80"},
        {"instance": "10.0.0.5"},
        {"instance": "10.0.0.5:9100", "job": "node"},
        {"address": "10.0.0.5"},
        {"ip": "10.0.0.5:80"},
        {"pod_ip": "10.0.0.5"},
        {"instance": "web-1:9100", "pod_ip": "10.0.0.5"},
        {"instance": "", "ip": "10.0.0.5"},
    ],
    ids=str,
)
def test_a_sample_is_found_by_any_label_that_holds_the_address(labels: dict[str, str]) -> None:
    others = ({"instance": "10.0.0.6:80"}, "0.9"), ({"job": "up"}, "0.8")
    assert utilization((labels, "0.25"), *others) == 0.25


def test_the_first_label_with_an_address_decides() -> None:
    both = {"instance": "10.0.0.6:80", "pod_ip": "10.0.0.5"}
    assert utilization((both, "0.9"), ({"instance": "10.0.0.5"}, "0.25")) == 0.25


def test_the_sample_of_the_own_port_goes_before_others_of_the_address() -> None:
    samples = ({"instance": "10.0.0.5:80"}, "0.1"), ({"instance": "10.0.0.5:81"}, "0.2")
    assert utilization(*samples) == 0.1
    assert utilization(*samples, port=81) == 0.2


def test_the_sample_of_another_backend_at_the_address_is_not_taken() -> None:
    sample = {"instance": "10.0.0.5:81"}, "0.2"
    assert utilization(sample) == 0.2
    with pytest.raises(SignalError, match=r"no sample for 10\.0\.0\.5:80 among 1"):
        utilization(sample, others={(HERE, 80), (HERE, 81)})


def test_addresses_of_version_six_are_compared_as_addresses() -> None:
    samples = parse_samples(200, answer(({"instance": "[FD00:0::5]:9100"}, "0.5")))
    assert samples.report(SIX, 80).utilization == 0.5


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.5:80", (HERE, 80)),
        ("10.0.0.5", (HERE, None)),
        ("[fd00::5]:80", (SIX, 80)),
        ("[fd00::5]", (SIX, None)),
        ("fd00::5", (SIX, None)),
        ("10.0.0.5:http", None),
        ("10.0.0.5:", None),
        (":80", None),
        ("", None),
        ("web:80", None),
        ("[10.0.0.5]:80", None),
        ("[fd00::5", None),
        ("http://10.0.0.5:80/metrics", None),
        ("10.0.0.5:80\n", None),
    ],
)
def test_places_as_labels_hold_them(text: str, place: object) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ((), "no sample for 10.0.0.5:80: the query's result is empty"),
        ((({"job": "web"}, "1"),), "none of its 1 has an address in one of the labels instance, address, ip, pod_ip"),
        ((({"instance": "10.0.0.6"}, "1"),), "no sample for 10.0.0.5:80 among 1"),
        (
            (({"instance": "10.0.0.5:1"}, "1"), ({"instance": "10.0.0.5:2"}, "1")),
            '2 samples for 10.0.0.5:80 (instance="10.0.0.5:1", instance="10.0.0.5:2"): let the query give one',
        ),
        ((({"ip": "10.0.0.5", "cpu": str(n)}, "1") for n in range(9)), 'ip="10.0.0.5", ...): let the query'),
        ((({"ip": "10.0.0.5"}, "NaN"),), "the sample for 10.0.0.5:80 is not a number (NaN)"),
        ((({"ip": "10.0.0.5"}, "+Inf"),), "the sample for 10.0.0.5:80 is inf, above 10"),
        ((({"ip": "10.0.0.5"}, "-Inf"),), "is -inf, below 0"),
        ((({"ip": "10.0.0.5"}, "-0.5"),), "is -0.5, below 0"),
        ((({"ip": "10.0.0.5"}, "75"),), "is 75, above 10: 1 means full, give no per cent"),
        ((({"ip": "10.0.0.5"}, "much"),), 'is "much", not a number'),
        ((({"ip": "10.0.0.5"}, 0.5),), "is a number, not a number as text"),
        ((({"ip": "10.0.0.5"}, None),), "is null, not a number as text"),
    ],
)
def test_what_is_wrong_with_one_backend_is_said_with_its_place(samples: Any, words: str) -> None:
    with pytest.raises(SignalError) as failure:
        utilization(*samples)
    assert words in str(failure.value)


def test_a_bad_sample_of_one_backend_does_not_harm_another() -> None:
    assert utilization(({"ip": "10.0.0.6"}, "NaN"), ({"ip": "10.0.0.5"}, "0.5")) == 0.5


def failed(sort: str, words: str) -> bytes:
    return json.dumps({"status": "error", "errorType": sort, "error": words}).encode()


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, failed("bad_data", "1:3: parse error: unclosed"), "the query failed: bad_data: 1:3: parse error"),
        (503, failed("timeout", "query timed out"), "the query failed: timeout: query timed out"),
        (200, failed("internal", "\x1b[31m" + "x" * 999), r"internal: \x1b[31mxxx"),
        (503, b"upstream connect error", "status 503, expected 200"),
        (302, b"", "status 302, expected 200"),
        (401, b"", "wants credentials, which are not supported here yet"),
        (200, b"<html>", 'is not JSON: it begins with "<html>"'),
        (200, b"[]", 'is not one of Prometheus: "[]"'),
        (200, b'{"status":"success"}', "is not one of Prometheus"),
        (200, b'{"data":{"resultType":"vector","result":[]}}', "is not one of Prometheus"),
        (200, b'{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}', "is a scalar, not an instant"),
        (200, b'{"status":"success","data":{"resultType":"matrix","result":[]}}', "is a matrix, not an instant"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":{}}}', "is an object, not a list"),
        (200, b'{"status":"success","data":{"resultType":"vector","result":[1]}}', "holds a number where a sample"),
        (
            200,
            b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}',
            "holds an object where a sample",
        ),
        (
            200,
            b'{"status":"success","data":{"resultType":"vector","result":[{"metric":[],"value":[1,"2"]}]}}',
            "holds an object where a sample",
        ),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(status: int, body: bytes, words: str) -> None:
    with pytest.raises(SignalError) as failure:
        parse_samples(status, body)
    assert words in str(failure.value)
    check_words(failure.value)


places = st.sampled_from(["10.0.0.5", "10.0.0.5:80", "10.0.0.5:81", "fd00::5", "web", ""]) | st.text(max_size=5)
values = st.floats(allow_nan=True).map(str) | st.sampled_from(["+Inf", "NaN", "1e999", "0x1", "1_0"]) | st.text()
labels = st.dictionaries(st.sampled_from(["instance", "address", "ip", "job"]), places | st.none())
junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=9), parts, max_size=3),
    max_leaves=8,
)
result = st.lists(
    st.fixed_dictionaries({"metric": labels | junk, "value": st.tuples(st.floats(), values | junk)}) | junk, max_size=4
)
documents = st.fixed_dictionaries(
    {"status": st.sampled_from(["success", "error"]) | junk},
    optional={
        "data": st.fixed_dictionaries({"resultType": st.sampled_from(["vector", "scalar"]) | junk, "result": result}),
        "error": junk,
        "errorType": junk,
    },
)


@given(st.sampled_from([200, 400, 401, 503]), documents.map(json.dumps).map(str.encode) | st.binary(max_size=99))
def test_whatever_comes_the_report_is_finite_and_in_bounds(status: int, body: bytes) -> None:
    try:
        found = parse_samples(status, body).report(HERE, 80, {(HERE, 81)}).utilization
    except SignalError as failure:
        check_words(failure)
        return
    assert found is not None
    assert 0 <= found <= MOST_UTILIZATION
