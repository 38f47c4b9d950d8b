"""Sniff rules: matched once per flow, on its first packet, in the direction of the side that opened it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Side:
    """One end of a flow; empty means any. ``ports`` are ranges, both ends included."""

    networks: tuple[Network, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SniffRule:
    """One entry of ``spec.sniff``. ``protocols`` are IP protocol numbers; empty means any."""

    name: str
    protocols: frozenset[int] = frozenset()
    source: Side = Side()
    destination: Side = Side()
    ignore: bool = False


class _End:
    """A side with its networks as numbers."""

    __slots__ = ("_networks", "_ports")

    def __init__(self, side: Side) -> None:
        self._networks = tuple((n.version, int(n.netmask), int(n.network_address)) for n in side.networks)
        self._ports = side.ports

    def admits(self, family: int, address: int, port: int) -> bool:
        """Whether this end of a flow is meant."""
        return (
            not self._networks
            or any(version == family and address & mask == first for version, mask, first in self._networks)
        ) and (not self._ports or any(low <= port <= high for low, high in self._ports))


class RuleTable:
    """The rules of a sniffer. The first that matches decides; without rules everything is sniffed.

    ``flows`` counts by rule, ``unmatched`` those that no rule takes.
    """

    def __init__(self, rules: Sequence[SniffRule] = ()) -> None:
        self.rules = tuple(rules)
        self._ends = tuple((_End(rule.source), _End(rule.destination)) for rule in self.rules)
        self.flows = [0] * len(self.rules)
        self.unmatched = 0

    def wants(self, protocol: int, source: tuple[bytes, int], destination: tuple[bytes, int]) -> bool:
        """Whether a new flow from ``source`` to ``destination``, each address and port, is to be sniffed. Counts it."""
        if not self.rules:
            return True
        family = 4 if len(source[0]) == 4 else 6
        sender, receiver = int.from_bytes(source[0]), int.from_bytes(destination[0])
        for index, (rule, (from_end, to_end)) in enumerate(zip(self.rules, self._ends, strict=True)):
            if (
                (not rule.protocols or protocol in rule.protocols)
                and from_end.admits(family, sender, source[1])
                and to_end.admits(family, receiver, destination[1])
            ):
                self.flows[index] += 1
                return not rule.ignore
        self.unmatched += 1
        return False
