"""Between services and the weight controller: what it is told of a service, and what its answer asks of the tables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, cast

from sluicegate_agent.datapath.model import Algorithm, ForwardingMode, Protocol
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.services import Service
from sluicegate_agent.planning.steer import Steer, slow_start_of
from sluicegate_agent.signals.passive import Sight
from sluicegate_agent.wallclock import utc_text
from sluicegate_agent.weights.model import Decision, Member, Override, Pool
from sluicegate_api.checks import WeightSource

ASKED: Final = frozenset({WeightSource.AGENT_CHECK, WeightSource.HTTP, WeightSource.PROMETHEUS})
"""Sources that somebody has to be asked for."""


STEP_SECONDS: Final = 1.0
"""Between two steps of the weight controller, whose constants are made for it; signals have intervals of their own."""


def sight_of(service: Service) -> Sight:
    """What this node sees of the flows of a service."""
    return Sight(
        replies=service.mode is not ForwardingMode.DIRECT_RETURN,
        ends=all(backend.endpoint.protocol is Protocol.TCP for backend in service.backends),
    )


def pool_of(service: Service, members: Mapping[BackendKey, Member]) -> Pool:
    """A service as the controller sees it."""
    return Pool(
        source=service.weights.type,
        members=cast("Mapping[Hashable, Member]", members),
        by_load=service.algorithm is Algorithm.LEAST_LOAD,
        replies_seen=sight_of(service).replies,
        interval=STEP_SECONDS,
        stale_after=float(service.weights.stale_after_seconds),
        slow_start=service.slow_start_seconds,
    )


def steer_of(decision: Decision, configured: int, *, usable: bool, slow_start: bool) -> Steer:
    """What a decision asks of the tables.

    Whoever gets a weight takes flows, whatever was stated: that is how the controller panics. A backend that nothing is
    sent to anyway keeps its configured weight, so that it counts when its service panics; in a service with slow start
    it waits with the weight that it is to begin with.
    """
    if usable and decision.weight:
        return Steer(decision.weight)
    held, down = _STATES.get(decision.state, (usable, False))
    waiting = slow_start_of(configured) if slow_start else 0
    return Steer(None if usable else waiting or None, held, down, _because(decision) if held or down else "")


def overridden(steer: Steer, override: Override) -> Steer:
    """An operator's word outranks all others; a backend that is down stays down."""
    return Steer(steer.weight, held=True, down=steer.down, because=drained_words(override))


def drained_words(override: Override) -> str:
    """Who drained a backend, and until when."""
    who = f" ({override.by})" if override.by else ""
    return f"drained by an operator{who} until {utc_text(override.until)}"


_STATES: Final = {
    "drain": (True, False),
    "maint": (True, True),
    "down": (False, True),
    "ejected": (True, False),
}
"""Held and down by the state that was stated or found."""


def _because(decision: Decision) -> str:
    return decision.reason or decision.state or "its weight is 0"
