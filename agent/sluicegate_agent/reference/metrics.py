"""metrics.md: from the definitions that a scrape is made from."""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate_agent.reference.markdown import code, codes, literally, table
from sluicegate_agent.reference.markdown import page as whole
from sluicegate_agent.reports.metrics.catalogue import DEFINITIONS
from sluicegate_agent.reports.metrics.definition import Definition, Kind, Label
from sluicegate_agent.reports.metrics.scopes import BACKEND, SCOPES
from sluicegate_agent.settings import AgentSettings

_INTRODUCTION = """
The agent serves them on `http://127.0.0.1:9431/metrics` (`--metrics ADDR` to move it), in the text format of
Prometheus; every scrape reads the kernel's counters. Names, labels and units are an API: they may grow, not change. The
metrics of the Python client for the process itself (`process_*`, `python_*`) come on top.

The last column is how many series there are: of *n* things of a scope each has so many at most. No label ever holds an
address of a client, a flow or a text for people.
"""

_MOST = AgentSettings.model_fields["metrics_backends"].default

_BACKENDS = f"""
A backend that leaves takes its series with it once it has drained. The first {_MOST:,} backends in the order of the
configuration have series; SLUICEGATE_METRICS_BACKENDS changes the number, and `sluicegate_metrics_backends_left_out`
tells how many have none. A backend has {{series}} series at most, when dynamic weights are in use. A scrape costs the
agent about 0.1 s of CPU time and 0.4 MB (compressed) per 1,000 backends.

A counter starts again at 0 with the kernel's maps, and when a backend leaves and comes back; those of health checks
also when the agent starts.
"""

_HISTOGRAMS = """
`sluicegate_lb_backend_latency_seconds` comes from histograms in the kernel: powers of two of a microsecond, of one flow
in eight, put together below 64 µs and above 4.2 s. So a quantile is known within a factor of two, and the sum is an
estimate: each time counts as the geometric mean of its bucket. The 99th percentile of the last five minutes:

```promql
histogram_quantile(0.99, sum by (backend, le) (
  rate(sluicegate_lb_backend_latency_seconds_bucket{source="first_response"}[5m])))
```
"""


def page() -> str:
    """The text."""
    parts = []
    for scope in SCOPES:
        metrics = [each for each in DEFINITIONS if each.scope == scope]
        parts.append(f"## Per {scope.each}" if scope.each else "## Per node")
        if scope.labels:
            parts.append(f"Labels of all of them: {codes(label.name for label in scope.labels)}.")
        if scope == BACKEND:
            parts.append(_BACKENDS.format(series=sum(each.series_each for each in metrics)))
        parts.append(table(("name", "type", "further labels", "unit", "meaning", "series"), map(_row, metrics)))
    labels = table(("label", "of", "values"), _labels())
    return whole("Metrics", _INTRODUCTION, *parts, "## Histograms", _HISTOGRAMS, "## Labels", labels)


def _row(each: Definition) -> tuple[str, ...]:
    labels = codes(label.name for label in each.labels)
    return code(each.name), each.kind, labels, each.unit, literally(each.meaning), _series(each)


def _series(each: Definition) -> str:
    count = str(each.series_each)
    if each.series:
        return each.series
    if each.open_labels:
        return f"{count} per {' and '.join(label.name for label in each.open_labels)}"
    if each.kind is Kind.HISTOGRAM:
        choices = each.series_each // (len(each.bounds) + 3)
        return f"{count} ({f'{choices} x ' if choices > 1 else ''}{len(each.bounds) + 1} buckets, sum, count)"
    return count


def _labels() -> Iterator[tuple[str, str, str]]:
    for scope in SCOPES[1:]:
        for label in scope.labels:
            if not any(label in outer.labels for outer in SCOPES[: SCOPES.index(scope)]):
                yield code(label.name), "all metrics per " + scope.each, _values(label)
    seen: dict[Label, list[str]] = {}
    for each in DEFINITIONS:
        for label in each.labels:
            seen.setdefault(label, []).append(code(each.name))
    for label, names in seen.items():
        yield code(label.name), ", ".join(names), _values(label)


def _values(label: Label) -> str:
    """What it says, and its values unless that names them."""
    unnamed = [value for value in label.values if value not in label.meaning]
    return label.meaning + (f": {codes(label.values)}" if unnamed else "")
