"""Rules from texts to tables: each is loaded, rewritten, refused or quarantined, and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sluicegate_agent.dpi.rules.build import Compiled, compiled, tables_of
from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.model import L4, Regex, Signature
from sluicegate_agent.dpi.rules.options import signature_of
from sluicegate_agent.dpi.rules.places import Places, shortened
from sluicegate_agent.dpi.rules.syntax import RuleText, rules_of
from sluicegate_agent.dpi.rules.tables import RuleTables
from sluicegate_agent.dpi.rules.trial import ChildTries, Trial, Tries

MAX_RULES = 50_000
"""Rules of one sniffer; those beyond are refused together."""


class State(StrEnum):
    """What became of a rule."""

    LOADED = "loaded"
    REWRITTEN = "rewritten"
    REFUSED = "refused"
    QUARANTINED = "quarantined"

    @property
    def in_force(self) -> bool:
        """Whether the engine checks it."""
        return self in {State.LOADED, State.REWRITTEN}


@dataclass(frozen=True, slots=True)
class RuleSource:
    """A text of rules and where it is from, such as a file's path. ``error``: why it could not be read."""

    name: str
    text: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one rule, with its place; ``cost`` is that of its dearest pattern, times a plain content's.

    ``reason`` says how it was rewritten, or why it is not in force, about ``keyword`` at ``column`` when known.
    ``line`` is 0 for a whole source.
    """

    source: str
    line: int
    state: State
    reason: str = ""
    sid: int | None = None
    rev: int | None = None
    message: str = ""
    keyword: str = ""
    column: int = 0
    cost: float | None = None

    @property
    def place(self) -> str:
        """Source and line, and column when it is known."""
        return ":".join(str(part) for part in (self.source, self.line, self.column) if part)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules of one sniffer: what became of each, and those in force, by sid."""

    outcomes: tuple[Outcome, ...] = ()
    rules: Mapping[int, Compiled] | None = None

    @property
    def signatures(self) -> Iterator[Signature]:
        """Those in force; an alert carries their sid."""
        return (rule.signature for rule in (self.rules or {}).values())

    def signature(self, sid: int) -> Signature | None:
        """The rule of an alert."""
        found = (self.rules or {}).get(sid)
        return found.signature if found else None

    def tables(self, actions: Mapping[int, int] | None = None) -> RuleTables:
        """For the engine; ``actions``: enum sg_action by sid, alert only for the others."""
        return tables_of((self.rules or {}).values(), actions)

    def counts(self) -> Mapping[State, int]:
        """How many rules are in each state."""
        found = Counter(outcome.state for outcome in self.outcomes)
        return {state: found[state] for state in State}


def load(
    sources: Sequence[RuleSource], variables: Mapping[str, str] | None = None, tries: Tries | None = None
) -> RuleSet:
    """Read, compile and try all rules. Bad rules cost no more than good ones and stop none of the others.

    Raises nothing for bad rules; NoVectorscanError when the default ``tries`` finds no Vectorscan.
    """
    places = Places(variables or {})
    outcomes: list[Outcome] = []
    rules: dict[int, Compiled] = {}
    waiting: dict[int, int] = {}
    for source, rule in _texts(sources, outcomes):
        try:
            signature = signature_of(rule.text, places)
            known = rules.get(signature.sid)
            if known is not None:
                first = outcomes[waiting[signature.sid]]
                raise RuleError(f"sid {signature.sid} is already that of {first.place}", keyword="sid")
            rules[signature.sid] = compiled(signature)
        except RuleError as error:
            outcomes.append(
                Outcome(
                    source,
                    rule.line,
                    State.REFUSED,
                    error.message,
                    message=shortened(rule.text),
                    keyword=error.keyword,
                    column=error.column,
                )
            )
            continue
        waiting[signature.sid] = len(outcomes)
        outcomes.append(_accepted(source, rule.line, rules[signature.sid]))
    _try_all(rules, outcomes, waiting, tries or ChildTries())
    return RuleSet(tuple(outcomes), rules)


def _texts(sources: Sequence[RuleSource], outcomes: list[Outcome]) -> Iterator[tuple[str, RuleText]]:
    """Rules up to the limit; what cannot be read becomes an outcome."""
    count = 0
    for source in sources:
        if source.error:
            outcomes.append(Outcome(source.name, 0, State.REFUSED, source.error))
        beyond = 0
        for rule in rules_of(source.text):
            count += 1
            if count > MAX_RULES:
                beyond += 1
                continue
            yield source.name, rule
        if beyond:
            reason = f"{beyond} rules are more than the {MAX_RULES} that one sniffer may have; use fewer"
            outcomes.append(Outcome(source.name, 0, State.REFUSED, reason))


def _accepted(source: str, line: int, rule: Compiled) -> Outcome:
    signature = rule.signature
    notes = list(dict.fromkeys(signature.notes))
    if len(rule.variants) > 1:
        names = ", ".join("the stream of TCP" if l4 is L4.TCP else f"packets of {l4.name}" for l4, _ in rule.variants)
        notes.append(f"one rule each for {names}")
    return Outcome(
        source,
        line,
        State.REWRITTEN if notes else State.LOADED,
        "; ".join(notes),
        sid=signature.sid,
        rev=signature.rev,
        message=signature.message,
    )


def _try_all(rules: dict[int, Compiled], outcomes: list[Outcome], waiting: Mapping[int, int], tries: Tries) -> None:
    """Time every pattern, and take out the rules of bad ones."""
    trials = tries(pattern for rule in rules.values() for pattern in rule.patterns)
    for sid, rule in list(rules.items()):
        found = [trials.get(pattern, Trial()) for pattern in rule.patterns]
        cost = max((trial.cost for trial in found if trial.cost is not None), default=None)
        bad = next((trial for trial in found if trial.refused or trial.quarantined), None)
        place = waiting[sid]
        outcomes[place] = replace(outcomes[place], cost=cost)
        if bad is not None:
            state = State.REFUSED if bad.refused else State.QUARANTINED
            outcomes[place] = replace(
                outcomes[place], state=state, reason=bad.refused or bad.quarantined, keyword=_keyword(rule)
            )
            del rules[sid]


def _keyword(rule: Compiled) -> str:
    return "pcre" if any(isinstance(match, Regex) for match in rule.signature.matches) else "content"
