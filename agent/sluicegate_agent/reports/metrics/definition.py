"""What a metric is: data that both the scrape and the reference are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Generic, TypeVar

S = TypeVar("S")
"""What a metric is read from: the whole sample, or one of the things in it."""


class Kind(StrEnum):
    """Types of Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """``values`` are all that there can ever be; empty when they come from the configuration or the machine."""

    name: str
    meaning: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """What a metric has one of: its labels, and ``each`` in words, such as "backend"; empty for the agent itself."""

    each: str = ""
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """``name`` is as it stands in a query, less the suffixes of a histogram.

    ``labels`` come after those of the scope. ``unit`` is a base unit, or empty for a number of things. ``bounds`` are
    the buckets of a histogram without +Inf. ``series`` says how many there are where labels depend on one another.
    """

    name: str
    kind: Kind
    meaning: str
    scope: Scope = Scope()
    labels: tuple[Label, ...] = ()
    unit: str = ""
    bounds: tuple[float, ...] = ()
    series: str = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        """All labels, in the order of their values."""
        return tuple(label.name for label in (*self.scope.labels, *self.labels))

    @property
    def series_each(self) -> int:
        """How many series one thing of the scope has at most; labels with open values count as one."""
        choices = prod(max(1, len(label.values)) for label in self.labels)
        return choices * (len(self.bounds) + 3 if self.kind is Kind.HISTOGRAM else 1)  # +Inf, count, sum

    @property
    def open_labels(self) -> tuple[Label, ...]:
        """Labels whose values only the configuration or the machine bounds."""
        return tuple(label for label in self.labels if not label.values)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of a histogram: ``counts`` per bucket, one more than there are bounds, and the sum of what was counted."""

    counts: Sequence[int]
    total: float


Point = tuple[tuple[str, ...], float | Distribution]
"""Values of the labels that come after those of the scope, and the value."""


@dataclass(frozen=True, slots=True)
class Metric(Generic[S]):
    """A definition and where its values are read. What ``read`` leaves out has no series."""

    definition: Definition
    read: Callable[[S], Iterable[Point]]


def single(read: Callable[[S], float | Distribution | None]) -> Callable[[S], Iterable[Point]]:
    """Reader of a metric with the labels of its scope alone; None has no series."""

    def points(source: S) -> Iterable[Point]:
        value = read(source)
        return () if value is None else (((), value),)

    return points


def one_of(label: Label, read: Callable[[S], str | None]) -> Callable[[S], Iterable[Point]]:
    """Reader of a state: 1 for the value of ``label`` that holds and 0 for the others; None has no series."""

    def points(source: S) -> Iterable[Point]:
        present = read(source)
        return () if present is None else [((value,), float(value == present)) for value in label.values]

    return points
