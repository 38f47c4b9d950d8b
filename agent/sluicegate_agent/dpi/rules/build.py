"""From signatures to the engine's tables: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.model import HTTP_BUFFERS, L4, App, Buffer, Flow, Signature
from sluicegate_agent.dpi.rules.patterns import Term, terms_of
from sluicegate_agent.dpi.rules.sets import Ranges
from sluicegate_agent.dpi.rules.tables import APPS, MAX_DSIZE, MAX_TERMS, NO_OFFSET, Pattern, Rule, RuleTables

_PACKET_PROTOCOLS = (L4.UDP, L4.ICMP)
_NOTHING_BEYOND = 1
"""Reach of a direction that no rule looks at; 0 would be no limit."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one rule searches for. ``variants`` are the same rule for different transports."""

    signature: Signature
    variants: tuple[tuple[L4, tuple[Term, ...]], ...]

    @property
    def patterns(self) -> Iterator[Pattern]:
        """Every pattern of all variants."""
        for _, terms in self.variants:
            for term in terms:
                yield _pattern(term, self.signature.flow.directions)


def compiled(signature: Signature) -> Compiled:
    """The terms of a rule. Raises RuleError when they cannot be expressed."""
    terms = terms_of(signature.matches)
    if len(terms) > MAX_TERMS:
        raise RuleError(f"has {len(terms)} parts that are independent of each other, more than {MAX_TERMS}")
    l4 = signature.header.l4
    fields = {term.buffer for term in terms if not term.buffer.is_payload}
    if fields:
        l4 = L4.UDP if Buffer.DNS_QUERY in fields else L4.TCP
    if signature.per_packet or not any(term.buffer is Buffer.STREAM for term in terms):
        return Compiled(signature, ((l4, terms),))
    by_packet = tuple(replace(term, buffer=Buffer.PACKET) if term.buffer is Buffer.STREAM else term for term in terms)
    if l4 is L4.TCP:
        return Compiled(signature, ((l4, terms),))
    if l4 is not L4.ANY:
        return Compiled(signature, ((l4, by_packet),))
    others = _PACKET_PROTOCOLS if signature.header.app is App.ANY else (L4.UDP,)
    return Compiled(signature, ((L4.TCP, terms), *((other, by_packet) for other in others)))


def tables_of(rules: Iterable[Compiled], actions: Mapping[int, int] | None = None) -> RuleTables:
    """The tables of all rules. ``actions``: by sid, enum sg_action; a rule without one only alerts."""
    draft = _Draft()
    for rule in rules:
        for l4, terms in rule.variants:
            draft.add(rule.signature, l4, terms, (actions or {}).get(rule.signature.sid, 0))
    return draft.tables()


@dataclass
class _Draft:
    rules: list[Rule] = field(default_factory=list)
    terms: dict[Pattern, list[tuple[int, int]]] = field(default_factory=dict)
    addresses: dict[Ranges, int] = field(default_factory=dict)
    ports: dict[Ranges, int] = field(default_factory=dict)

    def add(self, signature: Signature, l4: L4, terms: Sequence[Term], action: int) -> None:
        need = forbid = request = 0
        for position, term in enumerate(terms):
            bit = 1 << position
            need |= 0 if term.negated else bit
            forbid |= bit if term.negated else 0
            request |= bit if term.buffer in HTTP_BUFFERS else 0
            self.terms.setdefault(_pattern(term, signature.flow.directions), []).append((len(self.rules), bit))
        low, high = signature.payload_length or (0, MAX_DSIZE)
        header = signature.header
        self.rules.append(
            Rule(
                sid=signature.sid,
                need=need,
                forbid=forbid,
                request_bits=request,
                source=_number(self.addresses, header.source),
                destination=_number(self.addresses, header.destination),
                source_port=_number(self.ports, header.source_ports),
                destination_port=_number(self.ports, header.destination_ports),
                dsize_low=low,
                dsize_high=high,
                l4=l4,
                app=header.app,
                flags=signature.flow,
                action=action,
            )
        )

    def tables(self) -> RuleTables:
        patterns = tuple(self.terms)
        first = [0]
        for pattern in patterns:
            first.append(first[-1] + len(self.terms[pattern]))
        bare = tuple(index for index, rule in enumerate(self.rules) if not rule.need)
        apps = {rule.app for rule in self.rules}
        return RuleTables(
            patterns=patterns,
            first_term=tuple(first),
            terms=tuple(term for pattern in patterns for term in self.terms[pattern]),
            rules=tuple(self.rules),
            bare=bare,
            address_sets=((), *(_addresses(ranges) for ranges in self.addresses)),
            port_sets=((), *(ranges.pairs for ranges in self.ports)),
            reach=(self._reach(patterns, 1), self._reach(patterns, 2)),
            keep_for_app=tuple(int(App.ANY in apps or app in apps) for app in range(APPS)),
        )

    def _reach(self, patterns: Sequence[Pattern], direction: int) -> int:
        looking = [pattern for pattern in patterns if pattern.directions & direction]
        bare = any(not rule.need and Flow(rule.flags).directions & direction for rule in self.rules)
        if bare or any(pattern.buffer != Buffer.STREAM or pattern.max_offset == NO_OFFSET for pattern in looking):
            return 0
        return max((pattern.max_offset for pattern in looking), default=_NOTHING_BEYOND)


def _pattern(term: Term, directions: int) -> Pattern:
    return Pattern(term.expression, term.flags, term.buffer, directions, term.min_offset, term.max_offset)


def _number(known: dict[Ranges, int], ranges: Ranges) -> int:
    return 0 if ranges.is_everything else known.setdefault(ranges, len(known) + 1)


def _addresses(ranges: Ranges) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((low.to_bytes(16, "big"), high.to_bytes(16, "big")) for low, high in ranges.pairs)
