"""From sniff rules to what the kernel matches by: for each field of a first packet, prefixes that name a set of rules.

A set is a number whose bit i stands for rule i. A packet's source network, destination network, source port,
destination port and protocol each name one; the lowest bit that all five share is the first rule that takes the flow.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from sluicegate_agent.dpi.capture.headers import ICMP, ICMPV6, SCTP, TCP, UDP
from sluicegate_agent.dpi.sniffing.rules import Network, Side, SniffRule
from sluicegate_agent.sniffing.model import NO_RULE

PROTOCOLS: Final = (TCP, UDP, SCTP, ICMP, ICMPV6)
"""``enum sniff_protocol``, less the last one, which is every other protocol."""

_PORTS = 1 << 16
_PORT_BITS = 16
_BITS = {4: 32, 6: 128}


class RuleSide(IntEnum):
    """``enum sniff_side``."""

    SOURCE = 0
    DESTINATION = 1


@dataclass(frozen=True, slots=True)
class NetPrefix:
    """Addresses whose first ``length`` bits are those of ``address``."""

    family: int
    side: RuleSide
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class PortPrefix:
    """Ports whose first ``length`` of 16 bits are those of ``port``."""

    side: RuleSide
    port: int
    length: int


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """Sets by prefix: the longest one that fits counts. Every side and family has the prefix of length 0.

    ``protocols`` in the order of `PROTOCOLS`, and then of all others; ``ignored`` are the rules that exclude flows.
    """

    nets: dict[NetPrefix, int] = field(default_factory=dict)
    ports: dict[PortPrefix, int] = field(default_factory=dict)
    protocols: tuple[int, ...] = (0,) * (len(PROTOCOLS) + 1)
    ignored: int = 0

    def sets(self) -> frozenset[int]:
        """All sets that are named, each once."""
        return frozenset({*self.nets.values(), *self.ports.values(), *self.protocols, self.ignored})


def compile_rules(rules: Sequence[SniffRule]) -> CompiledRules:
    """Raises ValueError for more rules than a set has bits, and for a protocol that no rule can be told apart by."""
    if len(rules) > NO_RULE:
        raise ValueError(f"{len(rules)} sniff rules; a sniffer can have {NO_RULE}")
    for index, rule in enumerate(rules):
        if unknown := sorted(rule.protocols - set(PROTOCOLS)):
            raise ValueError(f"sniff[{index}] ({rule.name}) asks for IP protocol {unknown[0]}, which no set stands for")
    nets: dict[NetPrefix, int] = {}
    ports: dict[PortPrefix, int] = {}
    for side in RuleSide:
        ends = [rule.source if side is RuleSide.SOURCE else rule.destination for rule in rules]
        for family in _BITS:
            nets.update(_nets(family, side, ends))
        ports.update(_ports(side, ends))
    protocols = tuple(
        _mask(index for index, rule in enumerate(rules) if not rule.protocols or protocol in rule.protocols)
        for protocol in (*PROTOCOLS, None)
    )
    return CompiledRules(nets, ports, protocols, _mask(index for index, rule in enumerate(rules) if rule.ignore))


def _mask(indices: Iterable[int]) -> int:
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


def _nets(family: int, side: RuleSide, ends: Sequence[Side]) -> Iterator[tuple[NetPrefix, int]]:
    """Each network that a rule names, with all rules that have it or one around it."""
    anything = _mask(index for index, end in enumerate(ends) if not end.networks)
    own: dict[tuple[int, int], int] = {(0, 0): anything}
    for index, end in enumerate(ends):
        for network in end.networks:
            if network.version == family:
                place = _place(network)
                own[place] = own.get(place, 0) | 1 << index
    around: list[tuple[int, int, int]] = []  # networks that hold the present one, the smallest last, with their sets
    for (address, length), mask in sorted(own.items()):  # a network comes before those inside it
        while around and not _holds(around[-1], address, _BITS[family]):
            around.pop()
        inherited = around[-1][2] if around else 0
        around.append((address, length, inherited | mask))
        if length == 0 or inherited | mask != inherited:
            yield NetPrefix(family, side, address, length), inherited | mask


def _place(network: Network) -> tuple[int, int]:
    return int(network.network_address), network.prefixlen


def _holds(outer: tuple[int, int, int], address: int, bits: int) -> bool:
    first, length, _ = outer
    return (address ^ first) >> (bits - length) == 0


def _ports(side: RuleSide, ends: Sequence[Side]) -> Iterator[tuple[PortPrefix, int]]:
    """The ports cut at the borders of all ranges; pieces that only rules for any port take are left to the default."""
    anything = _mask(index for index, end in enumerate(ends) if not end.ports)
    yield PortPrefix(side, 0, 0), anything
    changes: dict[int, int] = {}  # port -> rules whose range begins or ends there
    for index, end in enumerate(ends):
        for first, last in _joined(end.ports):
            for border in (first, last + 1):
                changes[border] = changes.get(border, 0) ^ 1 << index
    borders = sorted(border for border, changed in changes.items() if changed)
    mask = anything
    for first, following in zip(borders, [*borders[1:], _PORTS], strict=False):
        mask ^= changes[first]
        if mask != anything:
            for port, length in _port_prefixes(first, following):
                if length:
                    yield PortPrefix(side, port, length), mask
                else:  # one piece is all there is: it is the default
                    yield PortPrefix(side, 0, 0), mask


def _joined(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same ports in ranges that do not overlap or touch."""
    present: tuple[int, int] | None = None
    for first, last in sorted(ranges):
        if present is None or first > present[1] + 1:
            if present is not None:
                yield present
            present = first, last
        else:
            present = present[0], max(present[1], last)
    if present is not None:
        yield present


def _port_prefixes(first: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest prefixes that make up the ports from ``first`` to before ``end``: port and length in bits."""
    while first < end:
        size = first & -first or _PORTS
        while size > end - first:
            size //= 2
        yield first, _PORT_BITS + 1 - size.bit_length()
        first += size
