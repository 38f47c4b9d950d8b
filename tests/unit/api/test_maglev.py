"""Properties of the Maglev table: balance, minimal disruption, weights, and the same table on every node."""

from __future__ import annotations

import random
from collections import Counter
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_api.maglev import LARGE_TABLE, SMALL_TABLE, maglev_table, table_size

SIZE = 1009
names = st.integers(0, 65535).map(lambda number: f"10.7.{number >> 8}.{number & 255}:80")
pools = st.dictionaries(names, st.integers(0, 1000), min_size=1, max_size=60)
usable_pools = st.dictionaries(names, st.integers(1, 1000), min_size=2, max_size=60)


@given(pools)
def test_every_slot_has_a_backend_that_has_a_weight(weights: dict[str, int]) -> None:
    table = maglev_table(weights, SIZE)
    usable = {name for name, weight in weights.items() if weight > 0}
    assert len(table) == (SIZE if usable else 0)
    assert set(table) == usable


@given(usable_pools)
def test_shares_follow_the_weights(weights: dict[str, int]) -> None:
    counts = Counter(maglev_table(weights, SIZE))
    total = sum(weights.values())
    for name, weight in weights.items():
        share = SIZE * weight / total
        # Nobody is more than a slot above its share; what the smallest are given beyond theirs is missing elsewhere.
        assert share * (1 - len(weights) / SIZE) - 1e-6 <= counts[name] < share + 1


@given(st.sets(names, min_size=1, max_size=100), st.integers(1, 1000))
def test_equal_weights_differ_by_one_slot_at_most(backends: set[str], weight: int) -> None:
    counts = Counter(maglev_table(dict.fromkeys(backends, weight), SIZE)).values()
    assert max(counts) - min(counts) <= 1


@given(usable_pools, st.integers(2, 9), st.randoms(use_true_random=False))
def test_neither_order_nor_scale_nor_idle_backends_change_the_table(
    weights: dict[str, int], scale: int, order: random.Random
) -> None:
    items = [(name, weight * scale) for name, weight in weights.items()]
    items.append(("192.0.2.1:80", 0))
    order.shuffle(items)
    assert maglev_table(dict(items), SIZE) == maglev_table(weights, SIZE)


@given(st.sets(names, min_size=5, max_size=20), st.data())
def test_a_backend_that_leaves_moves_few_slots_of_the_others(backends: set[str], data: st.DataObject) -> None:
    size = SMALL_TABLE
    gone = data.draw(st.sampled_from(sorted(backends)))
    before = maglev_table(dict.fromkeys(backends, 100), size)
    after = maglev_table(dict.fromkeys(backends - {gone}, 100), size)
    moved = sum(old not in {gone, new} for old, new in zip(before, after, strict=True))
    assert moved / size < 0.03


@given(st.sets(names, min_size=5, max_size=20), st.data())
def test_a_smaller_weight_moves_little_more_than_it_gives_up(backends: set[str], data: st.DataObject) -> None:
    size = SMALL_TABLE
    slower = data.draw(st.sampled_from(sorted(backends)))
    weights = dict.fromkeys(backends, 100)
    before = maglev_table(weights, size)
    after = maglev_table({**weights, slower: 20}, size)
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    given_up = Counter(before)[slower] - Counter(after)[slower]
    assert given_up <= moved <= given_up + 0.03 * size


def test_disruption_stays_small_at_the_largest_pools() -> None:
    for count, bound in ((100, 0.05), (512, 0.02)):
        backends = [f"10.1.{n >> 8}.{n & 255}:80" for n in range(count)]
        size = table_size(count)
        before = maglev_table(dict.fromkeys(backends, 1), size)
        after = maglev_table(dict.fromkeys(backends[1:], 1), size)
        moved = sum(old not in {backends[0], new} for old, new in zip(before, after, strict=True))
        assert moved / size < bound


def test_the_table_is_the_same_in_every_version() -> None:
    # Nodes of different versions share VIPs: a change of this value breaks flows that move between them.
    weights = {"10.0.0.5:8080": 100, "10.0.0.6:8081": 50, "[2001:db8::5]:8080": 1000}
    digest = sha256("\n".join(maglev_table(weights, SMALL_TABLE)).encode()).hexdigest()
    assert digest == "7094c32051da56ddb02383cf6f9aef0400ce0d48ab00e7c6f411e2c947c2e732"


def test_sizes_grow_with_the_pool() -> None:
    assert [table_size(count) for count in (1, 100, 101, 512)] == [SMALL_TABLE, SMALL_TABLE, LARGE_TABLE, LARGE_TABLE]


def test_tables_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="prime"):
        maglev_table({"10.0.0.5:80": 1}, 4096)
    with pytest.raises(ValueError, match="do not fit"):
        maglev_table({"a": 1, "b": 1, "c": 1}, 2)
