"""The life of a backend: from its first probe to the moment when its last flow is given up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from sluicegate_agent.datapath.model import BackendState, ServiceId
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.planning.ids import Member

DEFAULT_DRAIN_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration and its checks say about a backend.

    ``health`` is None for a backend without checks. ``reachable`` is False when the node has no way to it. ``held``
    and ``down`` are those of :class:`~sluicegate_agent.planning.steer.Steer`.
    """

    weight: int
    health: HealthState | None
    reachable: bool = True
    held: bool = False
    down: bool = False


class Panic(NamedTuple):
    """A service of which fewer than half the backends pass their checks: then all of them are used.

    So few would break under the load of all, and when most checks fail at once the fault often lies with the checks.
    ``total`` counts the backends with a weight above 0 and a route, which nobody wants out of use.
    """

    healthy: int
    total: int

    def __str__(self) -> str:
        return f"only {self.healthy} of {self.total} backends pass their checks, fewer than half: all are used"


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """States that backends should have; a backend that is not named is free.

    ``panics`` are the services that use backends whose checks fail, and ``distrusted`` those backends. ``usable`` ones
    would be active if nobody held them back or called them down.
    ``drains`` tells when a leaving backend gives up its flows, in the caller's clock; it is handed back to the next
    :func:`advance`, and holds a backend until the kernel shows it free. ``wake_at`` is when the next drain ends, None
    when none is under way.
    """

    states: Mapping[Member, BackendState] = field(default_factory=dict)
    drains: Mapping[Member, float] = field(default_factory=dict)
    wake_at: float | None = None
    panics: Mapping[ServiceId, Panic] = field(default_factory=dict)
    distrusted: frozenset[Member] = frozenset()
    usable: frozenset[Member] = frozenset()


def advance(
    configured: Mapping[Member, Configured],
    present: Mapping[Member, BackendState],
    drains: Mapping[Member, float],
    now: float,
    *,
    drain_seconds: Mapping[ServiceId, float],
    abandoned: Collection[ServiceId] = (),
) -> Lifecycle:
    """States of all backends, configured or leaving.

    ``present`` are the rows in the kernel that are not free, ``drains`` those of the last call: a leaving backend that
    is not among them starts its ``drain_seconds`` now, also after a restart. ``abandoned`` services have no VIP left,
    so that no packet of an old flow can reach their backends any more: those go at once.
    """
    states: dict[Member, BackendState] = {}
    leaving: dict[Member, float] = {}
    usable: set[Member] = set()
    for member, backend in configured.items():
        state = _configured_state(backend, present.get(member))
        if state is not None:
            states[member] = state
        if _left_alone(backend, state, present.get(member)) is BackendState.ACTIVE:
            usable.add(member)
    panics = _panics(configured, states)
    distrusted = frozenset(
        member
        for member, backend in configured.items()
        if member.service in panics and _eligible(backend) and states[member] is BackendState.DOWN
    )
    states.update(dict.fromkeys(distrusted, BackendState.ACTIVE))
    for member, state in present.items():
        until = drains.get(member)
        if member in configured or (until is None and member.service in abandoned):
            continue
        if until is None:
            until = now + drain_seconds.get(member.service, DEFAULT_DRAIN_SECONDS)
        leaving[member] = until
        if now < until:
            states[member] = BackendState.DOWN if state is BackendState.DOWN else BackendState.DRAINING
    wake_at = min((until for until in leaving.values() if until > now), default=None)
    return Lifecycle(states, leaving, wake_at, panics, distrusted, frozenset(usable))


def _left_alone(backend: Configured, state: BackendState | None, present: BackendState | None) -> BackendState | None:
    """The state that it would have if nobody held it back or called it down."""
    if not (backend.held or backend.down):
        return state
    return _configured_state(replace(backend, held=False, down=False), present)


def _eligible(backend: Configured) -> bool:
    return backend.weight > 0 and backend.reachable and not backend.held


def _panics(configured: Mapping[Member, Configured], states: Mapping[Member, BackendState]) -> dict[ServiceId, Panic]:
    healthy: Counter[ServiceId] = Counter()
    total: Counter[ServiceId] = Counter()
    for member, backend in configured.items():
        if _eligible(backend):
            total[member.service] += 1
            healthy[member.service] += states[member] is BackendState.ACTIVE
    return {service: Panic(healthy[service], count) for service, count in total.items() if 2 * healthy[service] < count}


def _configured_state(backend: Configured, present: BackendState | None) -> BackendState | None:
    """None for a backend that nothing leads to and that has no flows to keep."""
    if not backend.reachable:
        return None if present is None else BackendState.DOWN
    if backend.health is HealthState.DOWN or backend.down:
        return BackendState.DOWN
    if backend.health is HealthState.UNKNOWN and present is BackendState.DOWN:
        return BackendState.DOWN
    return BackendState.ACTIVE if backend.weight > 0 and not backend.held else BackendState.DRAINING
