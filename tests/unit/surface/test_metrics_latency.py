"""From the kernel's histograms to those of a scrape."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.reports.metrics.latency import BOUNDS, distribution
from sluicegate_agent.signals.model import Histogram

BUCKETS = 24
COUNTS = st.lists(st.integers(0, 2**40), min_size=BUCKETS, max_size=BUCKETS).map(tuple)


def bucket_of(microseconds: int) -> int:
    """As bpf/measure.h has it."""
    return min(max(microseconds, 1).bit_length() - 1, BUCKETS - 1)


def histogram_of(times: list[int]) -> Histogram:
    counts = [0] * BUCKETS
    for each in times:
        counts[bucket_of(each)] += 1
    return Histogram(tuple(counts))


@given(COUNTS)
def test_no_time_is_lost_or_made_up(counts: tuple[int, ...]) -> None:
    assert sum(distribution(Histogram(counts)).counts) == sum(counts)


@given(st.lists(st.integers(0, 2**26), max_size=50))
def test_every_bound_counts_the_times_below_it(times: list[int]) -> None:
    found = distribution(histogram_of(times))
    for bound, count in zip(BOUNDS, accumulate(found.counts), strict=False):
        assert count == sum(each < round(bound * 1e6) for each in times)


@given(st.lists(st.integers(1, 2**23 - 1), min_size=1, max_size=50))
def test_the_sum_is_off_by_the_root_of_two_at_most(times: list[int]) -> None:
    true = sum(times) / 1e6
    assert true / 1.42 <= distribution(histogram_of(times)).total <= true * 1.42


def test_times_above_all_bounds_count_with_the_least_that_they_can_be() -> None:
    found = distribution(histogram_of([20_000_000]))
    assert found.counts[-1] == 1
    assert found.total == pytest.approx(2**23 / 1e6)


@given(COUNTS, COUNTS)
def test_the_sum_never_falls_when_counts_grow(before: tuple[int, ...], more: tuple[int, ...]) -> None:
    after = tuple(a + b for a, b in zip(before, more, strict=True))
    assert distribution(Histogram(after)).total >= distribution(Histogram(before)).total


def test_a_histogram_that_was_never_read_is_empty() -> None:
    found = distribution(Histogram())
    assert sum(found.counts) == 0
    assert found.total == 0
