"""What the controller remembers of a backend, and how one tick changes it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import inf
from types import MappingProxyType
from typing import Final, NamedTuple

from sluicegate_agent.signals.model import Passive
from sluicegate_agent.weights import bounds, errors, guard, learner, prior
from sluicegate_agent.weights.model import Member, Pool
from sluicegate_agent.weights.ticks import Tick
from sluicegate_api.checks import WeightSource


class Remembered(NamedTuple):
    """One backend.

    ``age`` is how many seconds it has been in use. ``factor`` is its weight before slow start as a part of the
    configured one, None while it takes no part; ``published`` the part that was last given out, ``stated`` the part
    that it asked for then.
    """

    known: prior.Known = prior.UNKNOWN
    latency: float | None = None
    errors: errors.Errors = errors.UNKNOWN
    learned: learner.Learned = learner.UNKNOWN
    usable: bool = False
    since: float | None = None
    age: float = 0.0
    factor: float | None = None
    published: float | None = None
    stated: float = 1.0


NEW: Final = Remembered()


class PoolState(NamedTuple):
    """One pool after a step: when the last tick was, how many there were, and its backends. ``reference`` is the median
    latency, ``scale`` that of capacities, ``busy`` whether most reports told of some load."""

    at: float | None = None
    ticks: int = 0
    members: Mapping[Hashable, Remembered] = MappingProxyType({})
    reference: float | None = None
    scale: prior.Scale = prior.Scale()
    busy: bool = False
    overloaded: bool = False


def before(state: PoolState, name: Hashable, member: Member) -> Remembered:
    """What was remembered of a member. In a pool's first step that is the weight that an agent before left behind."""
    if state.at is not None or not member.published or member.weight <= 0:
        return state.members.get(name, NEW)
    left = member.published / (bounds.THOUSANDTHS * member.weight)
    left = min(max(left, bounds.FLOOR), bounds.MOST)
    return NEW._replace(factor=left, published=left)


def learns(pool: Pool) -> bool:
    """Whether weights are learned from latency: where nothing else tells, not even who configured them.

    Configured weights that differ say what each backend can do. They are the prior then, and the guard alone moves
    them: it gives back at once what a recovered backend can take, where the learner needs ten seconds and more.
    """
    given = {member.weight for member in pool.members.values() if member.weight > 0}
    return pool.source is WeightSource.PASSIVE and pool.by_load and len(given) <= 1


def observed(old: Remembered, member: Member, pool: Pool, time: Tick, before: PoolState) -> Remembered:
    """What is remembered after the tick's samples; weights are decided afterwards."""
    known = old.known
    if pool.source in prior.ASKED:
        known = prior.followed(known, member.reading, member.passive, time, pool.stale_after)
        if known.idle and before.busy and known.at != old.known.at and member.weight > 0:
            known = prior.given_benefit(known, member.weight, before.scale)
    if not member.usable:
        return Remembered(known, learned=old.learned, since=member.usable_since)
    if old.usable and old.since == member.usable_since:
        age = old.age + time.elapsed
    else:
        age = inf if member.usable_since is None else max(0.0, time.now - member.usable_since)
    latency, failed, learned, reference = old.latency, old.errors, old.learned, before.reference
    if time.counts and pool.source is not WeightSource.NONE:
        passive = member.passive if pool.replies_seen else None
        sample, believed = guard.sampled(passive, latency)
        latency = guard.followed(latency, sample, believed, reference, by_load=pool.by_load)
        failures, flows = _failures(passive, member, new_report=known.at != old.known.at)
        failed = errors.followed(failed, failures, flows, time.elapsed)
        if failed.share > learner.FAILING:
            known = prior.without_gain(known, old.known)
        if learns(pool):
            learned = learner.followed(learned, learner.Lesson(latency, sample, believed, reference, failed.share))
    return Remembered(known, latency, failed, learned, True, member.usable_since, age, *old[7:])


def _failures(passive: Passive | None, member: Member, *, new_report: bool) -> tuple[float, float]:
    """Failures and new flows of a tick: what we saw or what the backend reports, whichever is the worse.

    Not their sum: one failure may show in both.
    """
    seen = (float(passive.failures), float(passive.new_flows)) if passive else (0.0, 0.0)
    report = member.reading.report if member.reading and new_report else None
    if report is None or not report.eps or not report.rps:
        return seen
    told = (min(report.eps, report.rps), report.rps)
    return told if told[0] * seen[1] > seen[0] * told[1] or not seen[1] else seen
