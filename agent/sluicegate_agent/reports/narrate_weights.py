"""What happened to weights, signals and overrides, as lines for the log: one per change, and never too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.planning.pools import drained_words
from sluicegate_agent.planning.steer import THOUSANDTHS
from sluicegate_agent.reports.narrate import backend_name, service_name
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.weights.model import Override

FACTOR: Final = 1.5
"""A weight is told when it moved by this since it was told last."""
BURST: Final = 20
PER_SECOND: Final = 1.0
"""So many lines at once, and so many in the long run. What finds no room is told as soon as there is some, if it still
holds then."""

_Line = tuple[str, Callable[[], None]]
"""Words, and what to remember once they are written."""


class WeightNarrator:
    """Remembers what it told."""

    def __init__(self) -> None:
        self._weights: dict[BackendKey, int] = {}
        self._errors: dict[BackendKey, str] = {}
        self._notes: dict[ServiceKey, str] = {}
        self._overrides: dict[BackendKey, Override] = {}
        self._room = float(BURST)
        self._at: float | None = None

    def lines(self, situation: Situation, now: float) -> Iterator[str]:
        """What is to be told now; ``now`` is any clock that only goes forward, in seconds."""
        if self._at is not None:
            self._room = min(float(BURST), self._room + PER_SECOND * (now - self._at))
        self._at = now
        self._forget(situation)
        for words, remember in self._changes(situation):
            if self._room < 1.0:
                return
            self._room -= 1.0
            remember()
            yield words

    def _forget(self, situation: Situation) -> None:
        """What is not configured any more, or not steered."""
        for told in (self._weights, self._errors):
            for key in told.keys() - (situation.decisions.keys() | situation.readings.keys()):
                del told[key]
        for service in self._notes.keys() - {each.service for each in situation.decisions}:
            del self._notes[service]

    def _changes(self, situation: Situation) -> Iterator[_Line]:
        yield from self._override_changes(situation)
        yield from self._note_changes(situation)
        yield from self._signal_changes(situation)
        yield from self._weight_changes(situation)

    def _override_changes(self, situation: Situation) -> Iterator[_Line]:
        for key, override in situation.overrides.items():
            if self._overrides.get(key) != override:
                yield (
                    f"{backend_name(key)}: {drained_words(override)}",
                    partial(self._overrides.__setitem__, key, override),
                )
        for key in list(self._overrides):
            if key not in situation.overrides:
                yield (
                    f"{backend_name(key)}: not drained by an operator any more",
                    partial(self._overrides.__delitem__, key),
                )

    def _note_changes(self, situation: Situation) -> Iterator[_Line]:
        for key in dict.fromkeys((*situation.pool_notes, *self._notes)):
            note = situation.pool_notes.get(key, "")
            before = self._notes.get(key, "")
            if note != before:
                words = note or f"no more: {before}"
                yield f"{service_name(key)}: {words}", partial(self._notes.__setitem__, key, note)

    def _signal_changes(self, situation: Situation) -> Iterator[_Line]:
        moved: dict[tuple[ServiceKey, str], list[BackendKey]] = {}
        for key, reading in situation.readings.items():
            if bool(reading.error) != bool(self._errors.get(key, "")):
                moved.setdefault((key.service, reading.error), []).append(key)
        for (service, error), keys in moved.items():
            who = backend_name(keys[0]) if len(keys) == 1 else f"{service_name(service)}, {len(keys)} backends"
            words = f"{who}: no signal: {error}" if error else f"{who}: the signal is back"
            yield words, partial(self._errors.update, dict.fromkeys(keys, error))

    def _weight_changes(self, situation: Situation) -> Iterator[_Line]:
        for key, decision in situation.decisions.items():
            told = self._weights.get(key)
            if told is None:
                # Where it begins is no news, unless something is wrong with it already.
                self._weights[key] = decision.weight
            elif decision.weight and told and not told / FACTOR < decision.weight < told * FACTOR:
                words = f"weight {told / THOUSANDTHS:.4g} -> {decision.weight / THOUSANDTHS:.4g} ({decision.reason})"
                yield (
                    f"{backend_name(key)}: {words}",
                    partial(self._weights.__setitem__, key, decision.weight),
                )
            elif decision.weight and not told:
                self._weights[key] = decision.weight
