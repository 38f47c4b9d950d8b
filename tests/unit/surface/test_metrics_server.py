"""The endpoint: forms of the answer, errors, and text that a client understands."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_sample import backend, sample, scraped
from prometheus_client.parser import text_string_to_metric_families

from sluicegate_agent.reports.metrics import MetricsServer, Sample
from sluicegate_agent.reports.metrics.catalogue import BACKENDS, DEFINITIONS
from sluicegate_agent.reports.metrics.definition import Kind
from sluicegate_agent.settings import ListenAddress


class Endpoint:
    """Where metrics are served."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    def fetch(self, path: str = "/metrics", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        connection = HTTPConnection(self._host, self._port, timeout=5)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


@contextmanager
def served(make: Callable[[], Sample], host: str = "127.0.0.1") -> Iterator[Endpoint]:
    server = MetricsServer(ListenAddress(host, 0), make, 1000)
    try:
        yield Endpoint(host, server.port)
    finally:
        server.close()


def own_lines(text: bytes) -> list[str]:
    """Those that do not change by themselves."""
    return [line for line in text.decode().splitlines() if line.startswith("sluicegate_")]


def test_text_is_the_same_compressed_or_not() -> None:
    with served(sample) as endpoint:
        status, headers, plain = endpoint.fetch()
        _, packed_headers, packed = endpoint.fetch(**{"Accept-Encoding": "gzip, deflate"})
    assert status == 200
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "Content-Encoding" not in headers
    assert packed_headers["Content-Encoding"] == "gzip"
    assert own_lines(plain) == own_lines(gzip.decompress(packed)) != []


def test_another_path_is_told_where_the_metrics_are() -> None:
    with served(sample) as endpoint:
        assert endpoint.fetch("/")[::2] == (404, b"the metrics are on /metrics\n")
        assert endpoint.fetch("/metrics?scope=all")[0] == 200


def test_a_scrape_that_breaks_is_an_error_and_not_half_a_scrape(caplog: pytest.LogCaptureFixture) -> None:
    broken = [True]

    def make() -> Sample:
        if broken[0]:
            raise RuntimeError("a defect")
        return sample()

    with caplog.at_level(logging.ERROR), served(make) as endpoint:
        status, _, words = endpoint.fetch()
        broken[0] = False
        assert endpoint.fetch()[0] == 200
    assert (status, words) == (500, b"the metrics cannot be made: an error of the agent, see its log\n")
    assert "a scrape broke" in caplog.text


def test_it_listens_on_ipv6_too() -> None:
    with served(sample, "::1") as endpoint:
        assert endpoint.fetch()[0] == 200


def parsed(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What the client library reads from a text."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            found.setdefault(each.name, []).append((dict(each.labels), each.value))
    return found


def test_another_parser_reads_every_metric_with_all_its_labels() -> None:
    found = parsed(scraped(sample()))
    for definition in DEFINITIONS:
        series = found[f"{definition.name}_count" if definition.kind is Kind.HISTOGRAM else definition.name]
        assert all(set(labels) == set(definition.label_names) for labels, _ in series)
    assert sum(len(each) for name, each in found.items() if name.startswith("sluicegate_lb_backend_weight")) == (
        sum(m.definition.series_each for m in BACKENDS if m.definition.name.startswith("sluicegate_lb_backend_weight"))
    )


@given(st.text(max_size=30))
def test_no_text_in_a_label_breaks_a_line(name: str) -> None:
    made = sample(backend(name))
    found = parsed(scraped(made))["sluicegate_lb_backend_weight"]
    assert [labels["backend"] for labels, _ in found] == [f"[{name}]:8080" if ":" in name else f"{name}:8080"]


@pytest.mark.parametrize("value", [0.1, 1e-9, 1e300, float("inf"), float("-inf"), 12345678901234567890])
def test_numbers_come_through_as_they_are(value: float) -> None:
    found = parsed(scraped(sample(backend(effective_weight=value))))["sluicegate_lb_backend_effective_weight"]
    assert found[0][1] == value


def test_a_number_that_is_none_comes_through_as_that() -> None:
    text = scraped(sample(backend(effective_weight=float("nan"))))
    (line,) = [each for each in text.splitlines() if each.startswith("sluicegate_lb_backend_effective_weight{")]
    assert line.endswith(" NaN")
