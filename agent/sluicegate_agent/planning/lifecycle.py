"""The life of a backend: from its first probe to the moment when its last flow is given up. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from sluicegate_agent.datapath.model import BackendState, ServiceId
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.planning.ids import Member

DEFAULT_DRAIN_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration and its checks say about a backend.

    ``health`` is None for a backend without checks. ``reachable`` is False when the node has no way to it.
    """

    weight: int
    health: HealthState | None
    reachable: bool = True


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """States that backends should have; a backend that is not named is free.

    ``drains`` tells when a leaving backend gives up its flows, in the caller's clock; it is handed back to the next
    :func:`advance`, and holds a backend until the kernel shows it free. ``wake_at`` is when the next drain ends, None
    when none is under way.
    """

    states: Mapping[Member, BackendState] = field(default_factory=dict)
    drains: Mapping[Member, float] = field(default_factory=dict)
    wake_at: float | None = None


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
    for member, backend in configured.items():
        state = _configured_state(backend, present.get(member))
        if state is not None:
            states[member] = state
    for member, state in present.items():
        until = drains.get(member)
        if member in configured or (until is None and member.service in abandoned):
            continue
        if until is None:
            until = now + drain_seconds.get(member.service, DEFAULT_DRAIN_SECONDS)
        leaving[member] = until
        if now < until:
            states[member] = BackendState.DOWN if state is BackendState.DOWN else BackendState.DRAINING
    return Lifecycle(states, leaving, min((until for until in leaving.values() if until > now), default=None))


def _configured_state(backend: Configured, present: BackendState | None) -> BackendState | None:
    """None for a backend that nothing leads to and that has no flows to keep."""
    if not backend.reachable:
        return None if present is None else BackendState.DOWN
    if backend.health is HealthState.DOWN:
        return BackendState.DOWN
    if backend.health is HealthState.UNKNOWN and present is BackendState.DOWN:
        return BackendState.DOWN
    return BackendState.ACTIVE if backend.weight > 0 else BackendState.DRAINING
