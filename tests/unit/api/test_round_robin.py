"""Properties of the round-robin table: exact shares, spread evenly, short enough."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import gcd

from hypothesis import given
from hypothesis import strategies as st

from sluicegate_api.roundrobin import LONGEST_TABLE, round_robin_table

weights_of_few = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 50), min_size=1)


def test_equal_backends_take_turns() -> None:
    assert round_robin_table({"a": 100, "b": 100, "c": 100}) == ("a", "b", "c")


def test_light_backends_do_not_meet_beside_a_heavy_one() -> None:
    table = round_robin_table({"a": 600, "b": 100, "c": 100})
    assert len(table) == 8
    assert {"b", "c"} not in [set(pair) for pair in pairwise(table + table[:1])]


def test_without_a_usable_backend_the_table_is_empty() -> None:
    assert round_robin_table({"a": 0}) == ()
    assert round_robin_table({}) == ()


@given(weights_of_few)
def test_shares_are_exactly_the_weights_while_they_fit(weights: dict[str, int]) -> None:
    usable = {name: weight for name, weight in weights.items() if weight > 0}
    divisor = gcd(*usable.values()) if usable else 1
    assert Counter(round_robin_table(weights)) == {name: weight // divisor for name, weight in usable.items()}


@given(weights_of_few)
def test_turns_of_a_backend_are_spread_evenly(weights: dict[str, int]) -> None:
    table = round_robin_table(weights)
    for name, count in Counter(table).items():
        places = [place for place, owner in enumerate(table + table) if owner == name]
        gaps = [after - before for before, after in pairwise(places)]
        # Between two turns every other backend has at most one turn more than its share of the gap.
        others = len(set(table)) - 1
        assert max(gaps) <= len(table) / count + others + 1


@given(st.dictionaries(st.integers(0, 511).map(str), st.integers(1, 1000), min_size=2, max_size=512))
def test_large_weights_are_rounded_into_the_longest_table(weights: dict[str, int]) -> None:
    table = round_robin_table(weights)
    counts = Counter(table)
    assert len(table) <= LONGEST_TABLE
    assert counts.keys() == weights.keys()
    total = sum(weights.values())
    for name, weight in weights.items():
        share = len(table) * weight / total
        assert share * (1 - len(weights) / len(table)) - 1e-6 <= counts[name] < share + 1
