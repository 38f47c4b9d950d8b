"""The ring of recent lines: bounded, readers at their own pace, what they miss is counted."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.dpi.events.recent import Recent


def numbered(*numbers: int) -> list[bytes]:
    return [b"%04d" % number for number in numbers]


def lines_of(recent: Recent) -> list[bytes]:
    reader = recent.reader()
    found: list[bytes] = []
    while kept := reader.read(10)[0]:
        found += [each.line for each in kept]
    reader.close()
    return found


def test_the_oldest_lines_go() -> None:
    recent = Recent(most_bytes=40)
    for number in range(25):
        recent.add("shop/edge", number + 1, numbered(number))
    assert lines_of(recent) == numbered(*range(15, 25))
    assert recent.state()._asdict() == {"kept": 10, "came": 25, "oldest_ns": 16, "observers": 0, "unread": 0}


def test_short_lines_are_bounded_by_their_number() -> None:
    recent = Recent(most_bytes=1000, most_lines=3)
    recent.add("shop/edge", 1, numbered(*range(10)))
    assert lines_of(recent) == numbered(7, 8, 9)


def test_a_line_larger_than_the_ring_leaves_it_empty() -> None:
    recent = Recent(most_bytes=3)
    recent.add("shop/edge", 1, numbered(1))
    assert recent.state().kept == 0
    reader = recent.reader()
    recent.add("shop/edge", 1, numbered(2))
    assert reader.read() == ([], 1)


def test_readers_are_woken_for_lines_and_for_the_end() -> None:
    recent, woken = Recent(1000), []
    reader = recent.reader(lambda: woken.append(1))
    recent.add("shop/edge", 1, numbered(1))
    recent.close()
    assert len(woken) == 2
    assert recent.closed
    reader.close()
    recent.add("shop/edge", 1, numbered(2))
    assert len(woken) == 2


def test_a_slow_reader_misses_lines_and_is_told() -> None:
    recent = Recent(most_bytes=40)
    reader = recent.reader()
    recent.add("shop/edge", 1, numbered(*range(25)))
    kept, missed = reader.read()
    assert missed == 15
    assert [each.line for each in kept] == numbered(*range(15, 25))
    assert recent.state().unread == 15


@given(st.lists(st.one_of(st.integers(1, 12), st.none()), max_size=60))
def test_what_is_read_and_what_is_missed_is_all_that_came(steps: list[int | None]) -> None:
    """Steps: lines that come, or a read of two lines."""
    recent = Recent(most_bytes=4 * 9)
    reader = recent.reader()
    came, found, missed = 0, [], 0
    for step in [*steps, *[None] * 10]:
        if step is None:
            kept, lost = reader.read(5)
            missed += lost
            found += [json.loads(each.line.lstrip(b"0") or b"0") for each in kept]
            assert found == sorted(set(found))
        else:
            recent.add("shop/edge", came, numbered(*range(came, came + step)))
            came += step
    assert len(found) + missed == came
    assert not found or found[-1] == came - 1
