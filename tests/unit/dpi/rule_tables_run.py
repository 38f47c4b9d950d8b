"""The engine's work on rule tables in a few lines: Vectorscan finds patterns, bits and conditions decide."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack

from rule_traffic import TO_CLIENT, TO_SERVER, Piece, Traffic

from sluicegate_agent.dpi.rules.model import Buffer, Flow
from sluicegate_agent.dpi.rules.tables import Pattern, Rule, RuleTables
from sluicegate_agent.dpi.rules.vectorscan import Database

_FIELDS = [buffer for buffer in Buffer if not buffer.is_payload]


def alerts(tables: RuleTables, traffic: Traffic) -> set[int]:
    """The sids that match in a flow."""
    with ExitStack() as databases:
        return _Run(tables, traffic, databases).found


class _Run:
    def __init__(self, tables: RuleTables, traffic: Traffic, databases: ExitStack) -> None:
        self.tables, self.traffic = tables, traffic
        self.found: set[int] = set()
        self.seen: dict[tuple[int, int], int] = defaultdict(int)
        self.fields: set[Buffer] = set()
        streams = {way: self._stream(way, databases) for way in (TO_SERVER, TO_CLIENT)}
        for number, piece in enumerate(traffic.pieces):
            bits: dict[int, int] = defaultdict(int)
            self.fields |= set(piece.fields)
            self._note(streams[piece.direction][number], piece.direction)
            for buffer, data in piece.fields.items():
                self._note(self._block(buffer, piece.direction, data, databases), piece.direction)
            for pattern in self._block(Buffer.PACKET, piece.direction, piece.data, databases):
                for rule, bit in self._terms(pattern):
                    bits[rule] |= bit
            self._evaluate(piece, bits)
        for way in (TO_SERVER, TO_CLIENT):
            self._note(streams[way][-1], way)
            if streams[way][-1]:
                self._evaluate(Piece(b"", way), {}, over=True)

    def _patterns(self, buffer: Buffer, way: int) -> list[int]:
        return [
            index
            for index, pattern in enumerate(self.tables.patterns)
            if pattern.buffer == buffer and pattern.directions >> way & 1
        ]

    def _stream(self, way: int, databases: ExitStack) -> list[list[int]]:
        """Patterns found by each piece of the flow, and by its end."""
        chosen = self._patterns(Buffer.STREAM, way) if self.traffic.l4 == 6 else []
        pieces = [piece.data if piece.direction == way else b"" for piece in self.traffic.pieces]
        if not chosen:
            return [[] for _ in range(len(pieces) + 1)]
        database = databases.enter_context(Database([self.tables.patterns[each] for each in chosen], stream=True))
        return [[chosen[number] for number, _ in found] for found in database.matches(pieces)]

    def _block(self, buffer: Buffer, way: int, data: bytes, databases: ExitStack) -> list[int]:
        chosen = self._patterns(buffer, way)
        if not chosen:
            return []
        database = databases.enter_context(Database([self.tables.patterns[each] for each in chosen], stream=True))
        return [chosen[number] for found in database.matches([data]) for number, _ in found]

    def _terms(self, pattern: int) -> tuple[tuple[int, int], ...]:
        return self.tables.terms[self.tables.first_term[pattern] : self.tables.first_term[pattern + 1]]

    def _note(self, patterns: list[int], way: int) -> None:
        for pattern in patterns:
            for rule, bit in self._terms(pattern):
                self.seen[rule, way] |= bit

    def _evaluate(self, piece: Piece, bits: dict[int, int], *, over: bool = False) -> None:
        for index, rule in enumerate(self.tables.rules):
            seen = self.seen[index, piece.direction] | bits.get(index, 0)
            held = seen & rule.need == rule.need and not seen & rule.forbid
            # What ended with the stream is no packet: rules of packets and lengths are not tried again.
            by_packet = over and (rule.dsize_high < 65535 or rule.dsize_low or self._of_packets(index))
            if held and not by_packet and self._fields_seen(index) and self._conditions(rule, piece):
                self.found.add(rule.sid)

    def _patterns_of(self, index: int) -> list[Pattern]:
        return [
            pattern
            for number, pattern in enumerate(self.tables.patterns)
            if any(rule == index for rule, _ in self._terms(number))
        ]

    def _of_packets(self, index: int) -> bool:
        return any(pattern.buffer == Buffer.PACKET for pattern in self._patterns_of(index))

    def _fields_seen(self, index: int) -> bool:
        return all(pattern.buffer in self.fields for pattern in self._patterns_of(index) if pattern.buffer in _FIELDS)

    def _conditions(self, rule: Rule, piece: Piece) -> bool:
        wanted = Flow(rule.flags) & (Flow.TO_SERVER | Flow.TO_CLIENT)
        if wanted and not wanted & (Flow.TO_SERVER, Flow.TO_CLIENT)[piece.direction]:
            return False
        if rule.l4 not in {0, self.traffic.l4} or rule.app not in {0, self.traffic.app}:
            return False
        if not rule.dsize_low <= len(piece.data) <= rule.dsize_high:
            return False
        ways = [self.traffic.ends(piece.direction)]
        if rule.flags & Flow.BOTH_WAYS:
            ways.append(self.traffic.ends(1 - piece.direction))
        return any(self._ends_fit(rule, *way) for way in ways)

    def _ends_fit(self, rule: Rule, source: int, source_port: int, destination: int, destination_port: int) -> bool:
        return (
            self._address_in(rule.source, source)
            and self._port_in(rule.source_port, source_port)
            and self._address_in(rule.destination, destination)
            and self._port_in(rule.destination_port, destination_port)
        )

    def _address_in(self, number: int, address: int) -> bool:
        wanted = address.to_bytes(16, "big")
        return not number or any(low <= wanted <= high for low, high in self.tables.address_sets[number])

    def _port_in(self, number: int, port: int) -> bool:
        return not number or any(low <= port <= high for low, high in self.tables.port_sets[number])
