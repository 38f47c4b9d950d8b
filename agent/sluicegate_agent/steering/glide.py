"""From the weights that an agent before left in the kernel to those that this one decides on, without a jump. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sluicegate_agent.datapath.model import Backend, BackendState
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.pools import ASKED
from sluicegate_agent.weights.bounds import DOWN, UP
from sluicegate_agent.weights.model import Decision, Member
from sluicegate_api.checks import WeightSource

KEPT: Final = "as it was before the agent started: nobody has said anything yet"
_MOVING: Final = "on from the weight before the agent started"


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick of a pool: where its weights come from, whether time passed since the last one, and whether backends
    that said nothing yet may still do so."""

    source: WeightSource
    whole: bool
    patient: bool


class Glide:
    """What is left of the weights before; nothing after a few ticks."""

    def __init__(self) -> None:
        self._begun: set[BackendKey] = set()
        self._last: dict[BackendKey, int] = {}
        self._drained: set[BackendKey] = set()

    def begin(self, key: BackendKey, found: Backend | None) -> None:
        """A backend is decided on; ``found`` is its row when this agent first saw it."""
        if key in self._begun:
            return
        self._begun.add(key)
        if found is None or not found.weight:
            return
        if found.state is BackendState.ACTIVE:
            self._last[key] = found.weight
        elif found.state is BackendState.DRAINING:
            self._drained.add(key)

    def keep_only(self, keys: Mapping[BackendKey, object]) -> None:
        """Forget the backends that are not named."""
        self._begun &= keys.keys()
        self._drained &= keys.keys()
        self._last = {key: weight for key, weight in self._last.items() if key in keys}

    def soften(self, key: BackendKey, member: Member, decision: Decision, moment: Moment) -> Decision:
        """The decision to carry out now: the weight moves within the limits of a tick, from where it was.

        A backend that is to be asked and has not answered yet keeps its weight, or stays drained. What one states to
        be less counts at once, as do states that keep it away.
        """
        silent = moment.source in ASKED and (member.reading is None or member.reading.report is None)
        if key in self._drained:
            if silent and moment.patient and member.weight:
                return replace(decision, weight=0, state="drain", reason=KEPT)
            self._drained.discard(key)
        last = self._last.get(key)
        if last is None:
            return decision
        states_less = moment.source is WeightSource.AGENT_CHECK and not silent and decision.weight < last
        if not decision.weight or not member.usable or states_less:
            del self._last[key]
            return decision
        if silent and moment.patient:
            return replace(decision, weight=last, reason=KEPT)
        weight = round(min(max(decision.weight, last * DOWN), last * UP)) if moment.whole else last
        if weight == decision.weight:
            del self._last[key]
            return decision
        self._last[key] = weight
        return replace(decision, weight=weight, reason=f"{decision.reason}; {_MOVING}")
