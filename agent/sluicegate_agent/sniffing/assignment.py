"""Who sniffs where: a number for every sniffer, and one sniffer for every interface. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.planning.attachments import sniffed_interfaces
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer

MOST_SNIFFERS: Final = 63
"""SNIFFERS of bpf/sniff_types.h, less number 0, which is nobody's."""

TAPS: Final = 4096
"""TAPS of bpf/sniff_types.h: two interfaces whose indices leave the same remainder cannot both be sniffed."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a sniffer gets of what it wants.

    ``number`` is None when none is free. ``interfaces`` gives the reason for each; ``problems`` are what it does not
    get, ``lost`` the interfaces among them that are there.
    """

    number: int | None = None
    interfaces: Mapping[InterfaceIndex, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    lost: Mapping[InterfaceIndex, str] = field(default_factory=dict)


def assign(
    sniffers: Iterable[DpiSniffer], snapshot: NetworkSnapshot, numbers: Mapping[ObjectKey, int]
) -> dict[ObjectKey, Place]:
    """The place of every sniffer. ``numbers`` are those of before: who has one keeps it.

    An interface that two of them want goes to the first by namespace and name: so all nodes agree, and restarts.
    """
    wanted = {each.key: each for each in sorted(sniffers, key=lambda each: (each.key.namespace, each.key.name))}
    numbered = _numbered(wanted, numbers)
    owners: dict[InterfaceIndex, ObjectKey] = {}
    slots: dict[int, InterfaceIndex] = {}
    places: dict[ObjectKey, Place] = {}
    for key, sniffer in wanted.items():
        if key not in numbered:
            places[key] = Place(problems=(f"a node runs at most {MOST_SNIFFERS} sniffers, and this one is beyond",))
            continue
        chosen, problems = sniffed_interfaces(sniffer, snapshot)
        held, lost = {}, {}
        for ifindex, reason in chosen.items():
            name = snapshot.links[ifindex].name
            other = slots.setdefault(ifindex % TAPS, ifindex)
            if ifindex in owners:
                lost[ifindex] = _taken(name, owners[ifindex], key)
            elif other != ifindex:
                lost[ifindex] = (
                    f"interface {name} (index {ifindex}) and {snapshot.links[other].name} (index {other}) cannot both "
                    f"be sniffed: their indices differ by a multiple of {TAPS}; create one of them anew"
                )
            else:
                owners[ifindex] = key
                held[ifindex] = reason
        places[key] = Place(numbered[key], held, (*problems, *lost.values()), lost)
    return places


def _numbered(wanted: Iterable[ObjectKey], before: Mapping[ObjectKey, int]) -> dict[ObjectKey, int]:
    """Numbers that were given out last come last: flows of a sniffer that went may still have its number."""
    numbers = {key: before[key] for key in wanted if 1 <= before.get(key, 0) <= MOST_SNIFFERS}
    last = max(before.values(), default=0)
    order = [1 + (last + step) % MOST_SNIFFERS for step in range(MOST_SNIFFERS)]
    free = iter([number for number in order if number not in numbers.values()])
    for key in wanted:
        if key not in numbers and (number := next(free, None)) is not None:
            numbers[key] = number
    return numbers


def _taken(name: str, owner: ObjectKey, asking: ObjectKey) -> str:
    """Names of other namespaces are not told."""
    who = str(owner) if owner.namespace == asking.namespace else "a sniffer of another namespace"
    return f"interface {name} is sniffed by {who}: one sniffer per interface"
