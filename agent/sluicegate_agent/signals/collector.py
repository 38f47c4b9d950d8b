"""Asks thousands of backends for their load from one event loop and keeps the last readings."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self, cast

from sluicegate_agent.asking.rounds import MOST_AT_ONCE, Rounds
from sluicegate_agent.signals.agent_check import combined
from sluicegate_agent.signals.ask import Answer, Ask, ask
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.model import Reading, Report
from sluicegate_agent.signals.samples import Place
from sluicegate_agent.signals.targets import AgentQuestion, Question, SignalTarget

LONGEST_ANSWER: Final = 1.0
"""Seconds that an answer may take, where the interval is not shorter."""

_BROKEN: Final = SignalError("could not ask: an error of this program, see its log")
_NOTHING: Final = Reading()


@dataclass(slots=True, eq=False)
class _Source:
    """One question, the targets that share it (in the order they came), and its last good answer with its time."""

    interval: float
    keys: dict[Hashable, None] = field(default_factory=dict)
    answer: Answer | None = None
    at: float = 0.0


class SignalCollector:
    """An async context manager: questions are asked while it is open.

    A new question is asked at once, then every ``interval`` as :class:`Rounds` describes; targets with equal questions
    share it and its answer. An answer may take until the interval is over, at most a second. At most ``at_once``
    questions are under way at a time.

    A failed question leaves the last good report and its time as they are and sets ``error``; when a report has become
    too old to be used is for the reader to judge. What an agent stated holds until it states something else.
    """

    def __init__(self, ask: Ask = ask, *, at_once: int = MOST_AT_ONCE, seed: bytes | None = None) -> None:
        self._asks = ask
        self._targets: dict[Hashable, SignalTarget] = {}
        self._sources: dict[Question, _Source] = {}
        self._readings: dict[Hashable, Reading] = {}
        self._changed = asyncio.Event()
        self._rounds: Rounds[Answer | SignalError] = Rounds(
            self._ask, self._hear, broken=_BROKEN, what="asking for a signal", at_once=at_once, seed=seed
        )

    async def __aenter__(self) -> Self:
        await self._rounds.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._rounds.__aexit__(*exception)

    @property
    def readings(self) -> Mapping[Hashable, Reading]:
        """A live view: the last reading of each target; empty readings before the first answer."""
        return MappingProxyType(self._readings)

    async def changed(self) -> None:
        """Return once something that cannot wait for the next tick changed since this returned last.

        That is what a backend states (drain, maint, down, its share or weight), or that a signal failed or came back.
        Measured numbers alone wake nobody.
        """
        await self._changed.wait()
        self._changed.clear()

    def update(self, targets: Mapping[Hashable, SignalTarget]) -> None:
        """Ask for these, and only these, from now on.

        What is known of a target survives an edit that changes neither its question nor the backend. A new target
        begins with what the last answer to its question says of it, if another target shares the question.
        """
        touched: set[Question] = set()
        for key, target in targets.items():
            before = self._targets.get(key)
            if before == target:
                continue
            self._targets[key] = target
            touched.add(target.question)
            if before is None or replace(before, interval=target.interval) != target:
                if before is not None:
                    touched.add(before.question)
                    del self._sources[before.question].keys[key]
                self._join(key, target)
        for key in self._targets.keys() - targets.keys():
            question = self._targets.pop(key).question
            touched.add(question)
            del self._sources[question].keys[key], self._readings[key]
        for question in touched:
            self._settle(question)

    def _join(self, key: Hashable, target: SignalTarget) -> None:
        self._readings[key] = _NOTHING
        source = self._sources.get(target.question)
        if source is None:
            self._sources[target.question] = source = _Source(target.interval)
            self._rounds.add(target.question, target.interval)
        source.keys[key] = None
        if source.answer is not None:
            reading = self._read(key, source, source.answer, self._places(source))
            if not reading.error:
                self._note(key, reading)

    def _settle(self, question: Question) -> None:
        """Bring a question's schedule in line with the targets that are left of it."""
        source = self._sources[question]
        if not source.keys:
            del self._sources[question]
            self._rounds.remove(question)
            return
        interval = min(self._targets[key].interval for key in source.keys)
        if interval != source.interval:
            source.interval = interval
            self._rounds.retime(question, interval)

    async def _ask(self, key: Hashable) -> Answer | SignalError:
        question = cast("Question", key)
        try:
            return await self._asks(question, min(self._sources[question].interval, LONGEST_ANSWER))
        except SignalError as failure:
            return failure

    def _hear(self, key: Hashable, answer: Answer | SignalError) -> None:
        question = cast("Question", key)
        source = self._sources[question]
        if isinstance(answer, SignalError):
            for target in source.keys:
                self._note(target, _failed(self._readings[target], answer))
            return
        if isinstance(question, AgentQuestion) and isinstance(answer, Report) and isinstance(source.answer, Report):
            answer = combined(source.answer, answer)
        source.answer, source.at = answer, asyncio.get_running_loop().time()
        places = self._places(source)
        for target in source.keys:
            self._note(target, self._read(target, source, answer, places))

    def _read(self, key: Hashable, source: _Source, answer: Answer, places: Collection[Place]) -> Reading:
        before, target = self._readings[key], self._targets[key]
        try:
            report = answer if isinstance(answer, Report) else answer.report(target.address, target.port, places)
        except SignalError as failure:
            return _failed(before, failure)
        return Reading(report, source.at, "", before.count + 1)

    def _places(self, source: _Source) -> frozenset[Place]:
        """Where the backends are that share a question."""
        return frozenset((target.address, target.port) for target in map(self._targets.__getitem__, source.keys))

    def _note(self, key: Hashable, reading: Reading) -> None:
        before = self._readings[key]
        self._readings[key] = reading
        if bool(before.error) != bool(reading.error) or _stated(before) != _stated(reading):
            self._changed.set()


def _failed(before: Reading, failure: SignalError) -> Reading:
    return replace(before, error=str(failure), count=0)


def _stated(reading: Reading) -> tuple[object, ...]:
    report = reading.report or Report()
    return report.administrative, report.operational, report.share, report.weight
