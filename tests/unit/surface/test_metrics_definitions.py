"""Definitions keep to what Prometheus asks for, and readers to their definitions."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from metrics_sample import sample, scraped

from sluicegate_agent.reports.metrics import node, sniffing, traffic
from sluicegate_agent.reports.metrics.catalogue import BACKENDS, DEFINITIONS
from sluicegate_agent.reports.metrics.definition import Definition, Distribution, Kind, Metric

SAMPLE = sample()
READ: list[tuple[Metric[Any], Sequence[Any]]] = [
    *((metric, list(SAMPLE.balancers())) for metric in traffic.BALANCERS),
    *((metric, list(SAMPLE.ports())) for metric in traffic.PORTS),
    *((metric, list(SAMPLE.backends())) for metric in BACKENDS),
    *((metric, list(SAMPLE.sniffers())) for metric in sniffing.SNIFFERS),
    *((metric, list(SAMPLE.workers())) for metric in sniffing.WORKERS),
    *((metric, [SAMPLE]) for metric in node.METRICS),
]
NAMES = [definition.name for definition in DEFINITIONS]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=NAMES)
def test_names_follow_the_rules_of_prometheus(definition: Definition) -> None:
    assert re.fullmatch(r"sluicegate_[a-z_]+[a-z]", definition.name)
    assert definition.name.endswith("_total") == (definition.kind is Kind.COUNTER)
    if definition.unit:
        assert definition.name.removesuffix("_total").endswith(f"_{definition.unit}")
    assert not definition.name.endswith(("_bucket", "_count", "_sum"))
    assert definition.meaning.endswith(".")
    assert (definition.kind is Kind.HISTOGRAM) == bool(definition.bounds)


def test_no_name_is_used_twice() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


@pytest.mark.parametrize(("metric", "rows"), READ, ids=NAMES)
def test_every_metric_has_values_that_fit_its_definition(metric: Metric[Any], rows: Sequence[Any]) -> None:
    definition = metric.definition
    for row in rows:
        points = list(metric.read(row))
        assert points
        assert len({labels for labels, _ in points}) == len(points)
        for labels, value in points:
            assert len(labels) == len(definition.labels)
            for label, given in zip(definition.labels, labels, strict=True):
                assert not label.values or given in label.values
            assert isinstance(value, Distribution) == (definition.kind is Kind.HISTOGRAM)
            if isinstance(value, Distribution):
                assert len(value.counts) == len(definition.bounds) + 1


def test_a_scrape_holds_every_metric_with_its_help_and_labels() -> None:
    text = scraped(SAMPLE)
    for definition in DEFINITIONS:
        assert f"# TYPE {definition.name} {definition.kind}" in text
        assert f"# HELP {definition.name} " in text
        suffix = "_bucket" if definition.kind is Kind.HISTOGRAM else ""
        line = next(line for line in text.splitlines() if re.match(rf"{definition.name}{suffix}[ {{]", line))
        assert set(re.findall(r'(\w+)="', line)) == {*definition.label_names} | ({"le"} if suffix else set())


def test_a_backend_has_no_more_series_than_its_metrics_say() -> None:
    lines = [line for line in scraped(SAMPLE).splitlines() if 'backend="' in line]
    allowed = sum(metric.definition.series_each for metric in BACKENDS)
    assert len(lines) <= allowed
    assert len(lines) == len(set(lines))
    # Everything is known of this backend, so only values that exclude one another are missing: none are.
    assert len(lines) == allowed


def test_no_label_can_hold_what_clients_choose() -> None:
    for definition in DEFINITIONS:
        assert not {"client", "source_address", "flow", "reason_text", "message"} & set(definition.label_names)
