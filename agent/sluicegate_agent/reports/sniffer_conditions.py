"""Conditions of a DpiSniffer on this node, each with its reason in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate_agent.dpi.live.model import RunState
from sluicegate_agent.reports.condition import Condition, ConditionStatus, ConditionType
from sluicegate_agent.reports.conditions import names
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.sniffing.state import SnifferState
from sluicegate_api.detection import Depth
from sluicegate_api.dpisniffer import DpiSniffer

NOT_YET = "it is not in the kernel yet"


def sniffer_conditions(situation: Situation, sniffer: DpiSniffer, obstacle: str) -> tuple[Condition, ...]:
    """All conditions of an accepted sniffer. ``obstacle`` is why its programs are not there, empty when they are."""
    programmed = _programmed(situation, sniffer, obstacle)
    ready = _ready(situation, programmed)
    found = [_accepted(situation, sniffer), programmed, ready, _degraded(situation, sniffer, ready)]
    if sniffer.key in situation.configuration.sniffers.paused:
        found.append(Condition(ConditionType.PAUSED, ConditionStatus.TRUE, "Paused", "spec.paused: later changes wait"))
    return tuple(found)


def sniffed_names(situation: Situation, sniffer: DpiSniffer) -> list[str]:
    """Interfaces that the kernel sniffs for it."""
    links = situation.network.links
    return [
        links[ifindex].name
        for ifindex, key in situation.sniffing.sniffed.items()
        if key == sniffer.key and ifindex in links
    ]


def _accepted(situation: Situation, sniffer: DpiSniffer) -> Condition:
    problems = situation.configuration.sniffers.problems.get(sniffer.key, ())
    if problems:
        text = f"{names(problems)}; what was read before stays in force"
        return Condition(ConditionType.ACCEPTED, ConditionStatus.FALSE, "Invalid", text)
    return Condition(ConditionType.ACCEPTED, ConditionStatus.TRUE, "Valid", "the resource is valid")


def _programmed(situation: Situation, sniffer: DpiSniffer, obstacle: str) -> Condition:
    def no(reason: str, message: str) -> Condition:
        return Condition(ConditionType.PROGRAMMED, ConditionStatus.FALSE, reason, message)

    state = situation.sniffing.sniffers.get(sniffer.key)
    if obstacle or state is None:
        return no("ProgramsNotLoaded", obstacle or NOT_YET)
    if state.place.number is None or not state.place.interfaces:
        taken = state.place.lost or state.place.number is None
        return no("InterfaceTaken" if taken else "NotAttached", names(state.place.problems))
    if state.refused or situation.sniffing.refused:
        return no("KernelRefused", names([*filter(None, (situation.sniffing.refused,)), *state.refused]))
    sniffed = sniffed_names(situation, sniffer)
    if not sniffed:
        errors = [text for index, text in situation.applied.attach_errors.items() if index in state.place.interfaces]
        return no("NotAttached", names(errors) if errors else NOT_YET)
    text = f"the kernel sniffs at {', '.join(sniffed)}"
    return Condition(ConditionType.PROGRAMMED, ConditionStatus.TRUE, "Programmed", text)


def _ready(situation: Situation, programmed: Condition) -> Condition:
    if not programmed.holds:
        return Condition(ConditionType.READY, ConditionStatus.FALSE, "NotProgrammed", programmed.message)
    away = situation.sniffing.engine_away
    if away:
        text = f"the engine is away, so traffic passes and nothing is looked into: {away}"
        return Condition(ConditionType.READY, ConditionStatus.FALSE, "EngineAway", text)
    return Condition(ConditionType.READY, ConditionStatus.TRUE, "Ready", "the engine looks at what comes up")


def _degraded(situation: Situation, sniffer: DpiSniffer, ready: Condition) -> Condition:
    state = situation.sniffing.sniffers.get(sniffer.key)
    culprits = list(_culprits(situation, sniffer, state)) if state is not None else []
    if not culprits:
        return Condition(ConditionType.DEGRADED, ConditionStatus.FALSE, "Sound", "nothing is wrong")
    reason = "Losing" if ready.holds and state is not None and state.losing else "Impaired"
    return Condition(ConditionType.DEGRADED, ConditionStatus.TRUE, reason, names(list(dict.fromkeys(culprits))))


def _culprits(situation: Situation, sniffer: DpiSniffer, state: SnifferState) -> Iterator[str]:
    sniffing = situation.sniffing
    if state.losing:
        yield f"{state.losing} records were lost in the last second, because the rings were full"
    yield from filter(None, (sniffing.refused,))
    yield from state.refused
    yield from state.place.problems
    yield from (text for ifindex, text in situation.applied.attach_errors.items() if ifindex in state.place.interfaces)
    if sniffing.engine_problem:
        yield sniffing.engine_problem
    for worker in sniffing.workers:
        if worker.state in {RunState.RESTARTING, RunState.FAILED}:
            yield f"worker {worker.number} is {worker.state}" + (f": {worker.reason}" if worker.reason else "")
        if problem := worker.problems.get(state.place.number or 0):
            yield f"signatures: {problem}"
    if sniffer.spec.classify.depth is not Depth.OFF and sniffing.no_classification:
        yield f"classification is off: {sniffing.no_classification}"
    if state.signatures is not None and state.signatures.error:
        yield f"signatures: {state.signatures.error}"
    if state.output is not None and state.output.problem:
        yield state.output.problem
