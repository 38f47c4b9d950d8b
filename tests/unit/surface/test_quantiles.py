"""Quantiles of histograms by powers of two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.reports.quantiles import bucket_end, quantile, since
from sluicegate_agent.signals.model import Histogram


def test_nothing_measured_has_no_quantile() -> None:
    assert quantile(Histogram(), 0.5) is None
    assert quantile(Histogram((0,) * 24), 0.99) is None


def test_the_median_lies_within_its_bucket() -> None:
    histogram = Histogram((0, 0, 10, 10, 0))
    assert quantile(histogram, 0.5) == pytest.approx(8e-6)
    assert quantile(histogram, 1.0) == pytest.approx(16e-6) == bucket_end(3)
    assert 8e-6 < (quantile(histogram, 0.75) or 0) < 16e-6


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=24), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_larger_share_never_takes_less_time(counts: list[int], one: float, two: float) -> None:
    found = [quantile(Histogram(tuple(counts)), share) for share in sorted((one, two))]
    if sum(counts):
        assert found[0] is not None
        assert found[1] is not None
        assert 0 < found[0] <= found[1] <= bucket_end(len(counts) - 1)


def test_what_came_between_two_readings() -> None:
    assert since(Histogram((1, 2)), Histogram((4, 2))) == Histogram((3, 0))
    assert since(Histogram((5, 2)), Histogram((1, 2))) == Histogram((1, 2)), "it began anew"
    assert since(Histogram(), Histogram((1,))) == Histogram((1,))
