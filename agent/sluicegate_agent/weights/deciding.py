"""The weight of one member from its factors.

    weight = prior x guard x (1 - errors)^2 x slow start

One loop per weight: where the prior is learned from latency, the guard is 1. Measured factors move within the limits of
:mod:`bounds`; what a backend states counts at once when it is lower.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from sluicegate_agent.weights import bounds, guard, prior, reasons, slow_start
from sluicegate_agent.weights.memory import Remembered, learns
from sluicegate_agent.weights.model import Decision, Member, Pool
from sluicegate_agent.weights.standing import EJECTED, PROBATION, WITHDRAWN
from sluicegate_agent.weights.survey import Survey
from sluicegate_api.checks import WeightSource

FROM_NOTHING: Final = 0.1
"""Where a backend begins that stated a share of 0 and now states more: step limits cannot multiply 0."""

FAILS: Final = 0.25
"""Share of failures from which on a backend's weight may fall fast."""


@dataclass(frozen=True, slots=True)
class Decider:
    """What is the same for all members of a pool in one step.

    ``moves``: measured weights may move, which a step between two ticks does not allow. ``small``: small moves are
    published too. ``states``: weights are what members state; ``measures``: they come from reported load; ``guards``:
    latency lowers them; ``rounded``: they are published as powers of 2^(1/4).
    """

    pool: Pool
    found: Survey
    moves: bool
    small: bool
    states: bool
    measures: bool
    guards: bool
    rounded: bool

    @classmethod
    def of(cls, pool: Pool, found: Survey, *, moves: bool, small: bool) -> Decider:
        """For one step of a pool."""
        states = pool.source is WeightSource.AGENT_CHECK
        return cls(
            pool,
            found,
            moves,
            small,
            states=states,
            measures=pool.source in prior.MEASURED,
            guards=not learns(pool) and not found.overload,
            rounded=not (pool.by_load or states or pool.source is WeightSource.NONE),
        )

    def decide(self, name: Hashable, member: Member, known: Remembered) -> tuple[Remembered, Decision]:
        """What is remembered of one member, and its decision."""
        state = self.found.states[name]
        if member.weight <= 0:
            return self._away(member, known, "", reasons.NO_WEIGHT)
        if state in WITHDRAWN or (state and not self.found.panic):
            # Having been ejected is no reason for slow start: probation begins lower still.
            kept = known if state == EJECTED else known._replace(age=0.0)
            return self._away(member, kept, state, reasons.state(state, known.errors))
        if self.found.panic:
            kept = known._replace(factor=1.0, published=1.0, stated=1.0)
            return kept, self._decision(member, known, 1.0, 1.0, state=state, reason=self.found.panic)
        return self._weigh(member, known, self.found.worth[name])

    def _away(self, member: Member, known: Remembered, state: str, reason: str) -> tuple[Remembered, Decision]:
        kept = known._replace(factor=None, published=None)
        return kept, self._decision(member, known, 0.0, 1.0, state=state, reason=reason)

    def _weigh(self, member: Member, known: Remembered, worth: float) -> tuple[Remembered, Decision]:
        found, pool = self.found, self.pool
        guarded = guard.guard(known.latency, found.reference) if self.guards else 1.0
        floor = bounds.floor_of(member.weight, found.mean)
        if self.states:
            floor = min(floor, worth)
        target = min(max(worth * guarded * known.errors.factor, floor), bounds.MOST)
        base = self._base(known, worth, target, floor)
        begun = slow_start.factor(known.age, pool.slow_start)
        small = self.small or (self.states and worth < known.stated)
        out = bounds.published(base * begun, known.published, rounded=self.rounded, small=small)
        if not member.usable:
            kept = known._replace(factor=None, published=None)
            reason = reasons.NOT_USABLE
        else:
            kept = known._replace(factor=base, published=out, stated=worth)
            reason = reasons.together(
                self._prior_reason(known, worth),
                reasons.slow(known.latency, found.reference, guarded),
                reasons.failing(known.errors),
                reasons.slow_start(begun, known.age, pool.slow_start),
                reasons.steps(base, target),
            )
        state = PROBATION if known.errors.probation else ""
        return kept, self._decision(member, known, out, worth, guarded, begun, state=state, reason=reason)

    def _base(self, known: Remembered, worth: float, target: float, floor: float) -> float:
        """The factor before slow start: limited, except for what is stated and for members that join."""
        previous = known.factor
        if previous is None:
            return floor if known.errors.probation else min(max(worth, floor), bounds.MOST)
        if self.states:
            if target <= 0.0:
                return 0.0
            if previous <= 0.0:
                return min(target, FROM_NOTHING)
            if worth < known.stated:
                previous = min(previous, max(previous * worth / known.stated, target))
        elif self.pool.source is WeightSource.NONE:
            return 1.0
        if not self.moves:
            return previous
        return bounds.limited(previous, target, fast=not self.pool.by_load or known.errors.share > FAILS)

    def _prior_reason(self, known: Remembered, worth: float) -> str:
        if self.states:
            return reasons.stated(known.known, worth, self.pool.stale_after)
        if self.measures:
            return reasons.measured(known.known, worth, self.pool.stale_after)
        return reasons.learned(worth)

    def _decision(  # noqa: PLR0917 - the factors, in the order of the formula
        self,
        member: Member,
        known: Remembered,
        factor: float,
        worth: float,
        guarded: float = 1.0,
        begun: float = 1.0,
        *,
        state: str,
        reason: str,
    ) -> Decision:
        return Decision(
            bounds.thousandths(member.weight, factor),
            member.weight * worth,
            guarded,
            known.errors.share,
            begun,
            state,
            reason,
            self._absent(member, known),
            known.latency,
        )

    def _absent(self, member: Member, known: Remembered) -> tuple[str, ...]:
        """Signals that are missing."""
        if self.pool.source is WeightSource.NONE:
            return ()
        asked = self.states or self.measures
        report = asked and (known.known.at is None or known.known.quiet > self.pool.stale_after)
        passive = member.passive is None or not self.pool.replies_seen
        return ("report",) * report + ("latency", "errors") * passive
