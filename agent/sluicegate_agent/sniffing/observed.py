"""From what kernel, workers and outputs say to one state of all sniffers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.dpi.events.hub import HubStats
from sluicegate_agent.sniffing.assignment import Place
from sluicegate_agent.sniffing.kernel import Look
from sluicegate_agent.sniffing.model import Applied, Tap
from sluicegate_agent.sniffing.state import Signatures, SnifferState
from sluicegate_api.common import ObjectKey


@dataclass(frozen=True, slots=True)
class Done:
    """What the kernel does since the last step, and what it refused."""

    applied: Applied = field(default_factory=Applied)
    taps: tuple[Tap, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of one sniffer beside what the kernel counts; ``rules`` are names, in order."""

    place: Place
    rules: tuple[str, ...] = ()
    signatures: Signatures | None = None


def sniffer_states(
    told: Mapping[ObjectKey, Told], done: Done, now: Look, before: Look, hub: HubStats
) -> dict[ObjectKey, SnifferState]:
    """Every sniffer. ``before`` is the look before ``now``."""
    events: dict[int, dict[str, int]] = {}
    for (number, kind), count in hub.events.items():
        events.setdefault(number, {})[kind] = count
    states = {}
    for key, sniffer in told.items():
        number = sniffer.place.number or 0
        state = SnifferState(
            sniffer.place,
            rules=sniffer.rules,
            active={kind: count for (owner, kind), count in now.swept.flows.items() if owner == number},
            signatures=sniffer.signatures,
            output=hub.outputs.get(number),
            events=events.get(number, {}),
            refused=_refused(done.applied, number, sniffer.place),
        )
        counters = now.counters.get(number)
        states[key] = state if counters is None else state.counted(counters, before.counters.get(number))
    return states


def sniffed(places: Mapping[ObjectKey, Place], done: Done) -> dict[InterfaceIndex, ObjectKey]:
    """Whose sniffer is at which interface, as the kernel has it."""
    owners = {place.number: key for key, place in places.items()}
    return {InterfaceIndex(tap.ifindex): owners[tap.sniffer] for tap in done.taps if tap.sniffer in owners}


def seen_since(now: Look, before: Look) -> int:
    """Packets that came by between two looks, at sniffers that both have."""
    return sum(
        max(counters.packets - before.counters[number].packets, 0)
        for number, counters in now.counters.items()
        if number in before.counters
    )


def _refused(applied: Applied, number: int, place: Place) -> tuple[str, ...]:
    plan = applied.refused_plans.get(number, "")
    taps = [text for ifindex, text in applied.refused_taps.items() if ifindex in place.interfaces]
    return tuple(filter(None, (plan, *taps)))
