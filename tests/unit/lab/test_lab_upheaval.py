"""The script of the soak test never asks for what must break connections."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.lab.upheaval import FEWEST_BACKENDS, Move, Presence, Situation, after, possible

BACKENDS = ("one", "two", "three", "four")


@given(st.integers())
def test_some_backend_can_always_take_connections(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    now = Situation(dict.fromkeys(BACKENDS, 100))
    for _ in range(50):
        now = after(now, chance.choice(possible(now, BACKENDS)), BACKENDS, chance)
        assert len(now.weights) >= FEWEST_BACKENDS
        assert any(now.weights.values())


@given(st.integers())
def test_every_kind_of_move_happens(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    now, seen = Situation(dict.fromkeys(BACKENDS, 100)), set()
    for _ in range(1000):
        move = chance.choice(possible(now, BACKENDS))
        seen.add(move)
        now = after(now, move, BACKENDS, chance)
    assert seen == set(Move)


def test_a_backend_is_excused_until_its_absence_is_long_past() -> None:
    presence = Presence()
    presence.note(100.0, BACKENDS, {"one": 1, "two": 1, "three": 1})
    presence.note(103.0, BACKENDS, dict.fromkeys(BACKENDS, 1))
    assert presence.excused(104.0) == {"four"}
    assert presence.excused(106.0) == frozenset()
