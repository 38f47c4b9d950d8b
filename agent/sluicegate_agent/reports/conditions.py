"""Conditions of a LoadBalancer on this node, each with its reason in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluicegate_agent.planning.attachments import arrival_interfaces
from sluicegate_agent.planning.desired import closed_words
from sluicegate_agent.reports.condition import Condition, ConditionStatus, ConditionType
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.view import BackendView, PortView
from sluicegate_agent.weights.survey import NOTHING_SEEN
from sluicegate_api.common import ObjectKey
from sluicegate_api.loadbalancer import LoadBalancer

_CULPRITS = 3
"""How many culprits a message names."""


def conditions(
    situation: Situation, balancer: LoadBalancer, ports: Sequence[PortView], obstacle: str
) -> tuple[Condition, ...]:
    """All conditions of an accepted object. ``obstacle`` is why its programs are not there, empty when they are."""
    arrivals, interface_problems = arrival_interfaces(balancer, situation.network)
    programmed = _programmed(situation, ports, obstacle)
    if programmed.status is ConditionStatus.TRUE and not situation.attached.keys() & arrivals.keys():
        text = (
            names([*situation.applied.attach_errors.values(), *interface_problems]) or "no interface carries programs"
        )
        programmed = Condition(ConditionType.PROGRAMMED, ConditionStatus.FALSE, "NotAttached", text)
    found = [
        _accepted(situation, balancer.key),
        programmed,
        _ready(programmed, ports),
        _degraded(situation, balancer.key, interface_problems, ports),
    ]
    if balancer.key in situation.configuration.paused:
        found.append(Condition(ConditionType.PAUSED, ConditionStatus.TRUE, "Paused", "spec.paused: later changes wait"))
    return tuple(found)


def refusal(problems: Sequence[str]) -> tuple[Condition, ...]:
    """Conditions of an object of which no version was ever valid."""
    nothing = "no valid version of it was read yet"
    return (
        Condition(ConditionType.ACCEPTED, ConditionStatus.FALSE, "Invalid", names(problems)),
        Condition(ConditionType.PROGRAMMED, ConditionStatus.FALSE, "NotAccepted", nothing),
        Condition(ConditionType.READY, ConditionStatus.FALSE, "NotAccepted", nothing),
    )


def names(culprits: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(culprits) - _CULPRITS
    return "; ".join(culprits[:_CULPRITS]) + (f"; and {more} more" if more > 0 else "")


def backend_name(backend: BackendView) -> str:
    """``address:port``, with brackets around IPv6."""
    host = f"[{backend.address}]" if ":" in backend.address else backend.address
    return f"{host}:{backend.port}"


def unusable(port: PortView) -> Iterator[str]:
    """Configured backends that take no new flows although they should, or fail their checks; each with its reason."""
    for backend in port.backends:
        trouble = "down" if backend.state == "active" and backend.health == "down" else backend.state
        if trouble in {"down", "unreachable"} or (trouble == "draining" and backend.held):
            yield f"{backend_name(backend)} is {trouble}" + (f" ({backend.reason})" if backend.reason else "")


def families_without_backend(port: PortView) -> Iterator[int]:
    """Families in which the port has a VIP, but no backend that takes new flows."""
    return _families_lacking(port, [each for each in port.backends if each.state == "active"])


def _families_without_healthy_backend(port: PortView) -> Iterator[int]:
    healthy = [each for each in port.backends if each.state == "active" and each.health != "down"]
    return _families_lacking(port, healthy)


def _families_lacking(port: PortView, backends: Sequence[BackendView]) -> Iterator[int]:
    for family in (4, 6):
        vips = any(_family(address.address) == family for address in port.addresses)
        if vips and not any(_family(each.address) == family for each in backends):
            yield family


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _accepted(situation: Situation, key: ObjectKey) -> Condition:
    problems = situation.configuration.object_problems.get(key, ())
    if problems:
        text = f"{names(problems)}; what was read before stays in force"
        return Condition(ConditionType.ACCEPTED, ConditionStatus.FALSE, "Invalid", text)
    refused = [refusal.problem.reason for refusal in situation.configuration.claims.refusals if refusal.object == key]
    refused += [
        f"VIP {vip.address}: {reason}"
        for (service, vip), reason in situation.desired.refused.items()
        if service.object == key
    ]
    if refused:
        return Condition(ConditionType.ACCEPTED, ConditionStatus.FALSE, "AddressRefused", names(refused))
    return Condition(ConditionType.ACCEPTED, ConditionStatus.TRUE, "Valid", "the resource is valid")


def _programmed(situation: Situation, ports: Sequence[PortView], obstacle: str) -> Condition:
    def no(reason: str, message: str) -> Condition:
        return Condition(ConditionType.PROGRAMMED, ConditionStatus.FALSE, reason, message)

    if obstacle:
        return no("ProgramsNotLoaded", obstacle)
    waiting = [
        f"{address.address} {port.protocol}/{port.port}: {address.reason}"
        for port in ports
        for address in port.addresses
        if not address.programmed
    ]
    if waiting:
        return no("AddressesMissing", names(waiting))
    if situation.applied.refused:
        return no("KernelRefused", names(situation.applied.refused))
    return Condition(ConditionType.PROGRAMMED, ConditionStatus.TRUE, "Programmed", "the kernel runs this configuration")


def _ready(programmed: Condition, ports: Sequence[PortView]) -> Condition:
    if programmed.status is not ConditionStatus.TRUE:
        return Condition(ConditionType.READY, ConditionStatus.FALSE, "NotProgrammed", programmed.message)
    lacking = [
        f"{port.name} has no usable IPv{family} backend"
        + (f": {names(list(unusable(port)))}" if any(unusable(port)) else "")
        for port in ports
        for family in _families_without_healthy_backend(port)
    ]
    if lacking:
        return Condition(ConditionType.READY, ConditionStatus.FALSE, "NoHealthyBackend", names(lacking))
    return Condition(ConditionType.READY, ConditionStatus.TRUE, "Ready", "every port has a usable backend")


def _degraded(
    situation: Situation, key: ObjectKey, interface_problems: Sequence[str], ports: Sequence[PortView]
) -> Condition:
    panics = [
        f"{service.port} over IPv{service.family}: {panic}"
        for service, panic in situation.desired.panics.items()
        if service.object == key
    ]
    closed = [
        closed_words(each.key.family) for each in situation.desired.services if each.closed and each.key.object == key
    ]
    noted = [
        f"{service.port} over IPv{service.family}: {note}"
        for service, note in situation.pool_notes.items()
        if service.object == key and note != NOTHING_SEEN
    ]
    culprits = [
        *panics,
        *noted,
        *closed,
        *situation.applied.attach_errors.values(),
        *situation.applied.refused,
        *(text for port in ports for text in unusable(port)),
        *interface_problems,
    ]
    if culprits:
        reason = "Panic" if panics or any(": panic: " in text for text in noted) else "Impaired"
        return Condition(ConditionType.DEGRADED, ConditionStatus.TRUE, reason, names(list(dict.fromkeys(culprits))))
    return Condition(ConditionType.DEGRADED, ConditionStatus.FALSE, "Sound", "nothing is wrong")
