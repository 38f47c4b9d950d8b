"""What one tick says about a pool as a whole, before its backends are decided on one by one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import fsum
from typing import Final, NamedTuple

from sluicegate_agent.weights import guard, learner, prior, reasons
from sluicegate_agent.weights.memory import PoolState, Remembered, learns
from sluicegate_agent.weights.model import Pool
from sluicegate_agent.weights.standing import EJECTED, WITHDRAWN, health, stated
from sluicegate_api.checks import WeightSource


class Survey(NamedTuple):
    """A pool at one tick.

    ``states`` is what keeps each backend away, as in Decision.state; ``worth`` is the prior of each that has a weight,
    as a factor of it. ``reference`` is the median latency, ``scale`` that of capacities, ``busy`` whether most reports
    told of some load, ``mean`` the mean configured weight of those that take part. ``panic`` and ``overload`` say so in
    words, or are empty.
    """

    states: Mapping[Hashable, str]
    worth: Mapping[Hashable, float]
    reference: float | None
    scale: prior.Scale
    busy: bool
    mean: float
    panic: str
    overload: str


def survey(pool: Pool, members: Mapping[Hashable, Remembered], before: PoolState) -> Survey:
    """Look at the whole pool."""
    states = {
        name: stated(member) or (EJECTED if members[name].errors.ejected else "")
        for name, member in pool.members.items()
    }
    taking = [
        (name, member.weight, members[name])
        for name, member in pool.members.items()
        if member.weight > 0 and member.usable and not states[name]
    ]
    scale = prior.Scale()
    if pool.source in prior.MEASURED:
        scale = prior.scale((known.known.capacity, weight) for _, weight, known in taking)
    worth = _worth(pool, members, taking, scale)
    asks = pool.source is WeightSource.AGENT_CHECK
    well = health(
        (member.weight, member.usable and not states[name], asks and worth[name] <= 0.0)
        for name, member in pool.members.items()
        if member.weight > 0 and states[name] not in WITHDRAWN
    )
    measured = [(known.latency, weight * worth[name]) for name, weight, known in taking if known.latency is not None]
    reference = guard.median(measured)
    total = sum(weight for _, weight, _ in taking)
    overload = ""
    if not learns(pool):
        slow = [weight for latency, weight in measured if guard.clearly_slow(latency, reference)]
        if guard.overloaded(slow, fsum(weight * worth[name] for name, weight, _ in taking), was=before.overloaded):
            overload = reasons.overload(len(slow), len(taking))
    return Survey(
        states=states,
        worth=worth,
        reference=before.reference if reference is None else reference,
        scale=scale,
        busy=2 * sum(weight for _, weight, known in taking if known.known.idle) < total,
        mean=total / len(taking) if taking else 1.0,
        panic=str(well) if well.panic else "",
        overload=overload,
    )


def _worth(
    pool: Pool,
    members: Mapping[Hashable, Remembered],
    taking: Sequence[tuple[Hashable, int, Remembered]],
    scale: prior.Scale,
) -> dict[Hashable, float]:
    """The priors of all members with a weight, as factors of it; their scale is made by those that take part."""
    weights = {name: member.weight for name, member in pool.members.items() if member.weight > 0}
    stale = pool.stale_after
    if pool.source is WeightSource.AGENT_CHECK:
        return {
            name: prior.faded(members[name].known.stated(weight), members[name].known.quiet, stale)
            for name, weight in weights.items()
        }
    if pool.source in prior.MEASURED:
        return {name: prior.measured(members[name].known, weight, scale, stale) for name, weight in weights.items()}
    if learns(pool):
        mean = learner.mean((known.learned.factor, weight) for _, weight, known in taking)
        return {name: members[name].learned.factor / mean for name in weights}
    return dict.fromkeys(weights, 1.0)


NOTHING_SEEN: Final = "replies do not pass through this node (DirectReturn): no latencies and no failures"
_LOST: Final = "no backend reports: every weight is at or going back to its configured one"


def note(pool: Pool, found: Survey, members: Mapping[Hashable, Remembered]) -> str:
    """What holds for the pool as a whole, in words; empty when all is well."""
    parts = [found.panic, found.overload]
    if pool.source in prior.ASKED and members:
        heard = [each for each in members.values() if each.known.at is not None]
        if not any(each.known.quiet <= pool.stale_after for each in heard):
            parts.append(_LOST)
    if pool.source is not WeightSource.NONE and not pool.replies_seen:
        parts.append(NOTHING_SEEN)
    return "; ".join(part for part in parts if part)
