"""The weight controller: one step per pool and tick, from signals to weights with their reasons.

:func:`advance` is the whole of it: what was remembered and what is seen now give decisions and what to remember. The
modules beside it hold one rule each.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable

from sluicegate_agent.weights import bounds
from sluicegate_agent.weights.deciding import Decider
from sluicegate_agent.weights.memory import PoolState, Remembered, before, observed
from sluicegate_agent.weights.model import Decision, Pool, PoolDecision
from sluicegate_agent.weights.survey import note, survey
from sluicegate_agent.weights.ticks import tick


class Controller:
    """Remembers what it knows of each pool between its steps; reads no clock and asks nobody."""

    def __init__(self) -> None:
        self._states: dict[Hashable, PoolState] = {}

    def step(self, key: Hashable, pool: Pool, now: float) -> PoolDecision:
        """Decide for all members of one pool. Call it once per ``pool.interval``.

        ``now`` is the clock of ``usable_since`` and ``Reading.at``, in seconds. A step that comes less than half an
        interval after the last one takes no samples, but applies what members state, what is configured, and who
        comes and goes.
        """
        self._states[key], decision = advance(self._states.get(key, PoolState()), pool, now)
        return decision

    def keep_only(self, keys: Collection[Hashable]) -> None:
        """Forget the pools that are not named."""
        self._states = {key: state for key, state in self._states.items() if key in keys}


def advance(state: PoolState, pool: Pool, now: float) -> tuple[PoolState, PoolDecision]:
    """One step of one pool: what is remembered after it, and what is decided. Pure."""
    time = tick(state.at, pool.interval, now)
    seen = {
        name: observed(before(state, name, member), member, pool, time, state) for name, member in pool.members.items()
    }
    found = survey(pool, seen, state)
    small = time.counts and state.ticks % bounds.SMALL_EVERY == 0
    decider = Decider.of(pool, found, moves=time.counts, small=small)
    decisions: dict[Hashable, Decision] = {}
    kept: dict[Hashable, Remembered] = {}
    for name, member in pool.members.items():
        kept[name], decisions[name] = decider.decide(name, member, seen[name])
    after = PoolState(
        at=now if time.counts else state.at,
        ticks=state.ticks + time.counts,
        members=kept,
        reference=found.reference,
        scale=found.scale,
        busy=found.busy,
        overloaded=bool(found.overload),
    )
    return after, PoolDecision(decisions, note(pool, found, kept))
