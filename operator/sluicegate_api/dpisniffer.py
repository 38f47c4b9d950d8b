"""The DpiSniffer resource: traffic whose beginnings an engine looks into, and what follows from what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from sluicegate_api.cel import cel, distinct_given, validations
from sluicegate_api.common import ApiModel, LabelSelector, ObjectKey, ObjectMeta, Violation, repeated
from sluicegate_api.detection import (
    Action,
    ActionType,
    Classify,
    ConfigMapKey,
    Depth,
    Match,
    Signatures,
)
from sluicegate_api.export import EveExport, EveType, Export, PcapExport
from sluicegate_api.sniffing import Attach, Budget, PortRange, Side, SniffProtocol, SniffRule
from sluicegate_api.variables import Variables, cycles

__all__ = [
    "Action",
    "ActionType",
    "Attach",
    "Budget",
    "Classify",
    "ConfigMapKey",
    "Depth",
    "DpiSniffer",
    "DpiSnifferSpec",
    "EveExport",
    "EveType",
    "Export",
    "Match",
    "PcapExport",
    "PortRange",
    "Side",
    "Signatures",
    "SniffProtocol",
    "SniffRule",
]

MAX_RULES = 1000
MAX_ACTIONS = 64

# Rules that never match, and circles of variables, are left to the operator: they would cost the API server too much.
SPEC_RULES = (
    cel(
        "!has(self.classify) || !has(self.classify.depth) || self.classify.depth != 'Off' || !has(self.actions)"
        " || self.actions.all(a, !(has(a.match.protocols) || has(a.match.categories) || has(a.match.minRisk)))",
        "protocols, categories and minRisk of an action need classification, and classify.depth is Off",
    ),
    cel(
        "!has(self.actions) || self.actions.all(a, !has(a.match.signatureIds))"
        " || (has(self.signatures) && (has(self.signatures.inline)"
        " || (has(self.signatures.configMapRefs) && size(self.signatures.configMapRefs) > 0)))",
        "signatureIds of an action need signatures",
    ),
)


class DpiSnifferSpec(ApiModel):
    """What a sniffer shall do. An empty one classifies all traffic of the interfaces with a default route."""

    model_config = ConfigDict(json_schema_extra=validations(*SPEC_RULES))

    paused: Annotated[bool, Field(strict=True)] = False
    """While true, nodes keep what they have and changes wait."""
    node_selector: LabelSelector | None = None
    """Nodes that sniff; default all."""
    attach: Attach = Attach()
    """Where; default interfaces that hold a default route."""
    sniff: (
        Annotated[
            tuple[SniffRule, ...],
            Field(
                min_length=1,
                max_length=MAX_RULES,
                json_schema_extra=validations(
                    distinct_given("name", "two rules have the same name"),
                    cel("self.exists(r, !has(r.ignore) || !r.ignore)", "at least one rule without ignore is needed"),
                ),
            ),
        ]
        | None
    ) = None
    """Which flows, by rules of which the first that matches counts; what none matches is left alone. Default
    everything."""
    budget: Budget = Budget()
    """How much of each flow goes up to the engine."""
    classify: Classify = Classify()
    """How flows are told apart; default Lean."""
    signatures: Signatures = Signatures()
    """Rules that are looked for; default none."""
    variables: Variables | None = None
    """Values of the variables in signatures, such as HOME_NET: "[10.0.0.0/8]" or HTTP_PORTS: "[80,8080]"."""
    actions: (
        Annotated[
            tuple[Action, ...],
            Field(
                min_length=1,
                max_length=MAX_ACTIONS,
                json_schema_extra=validations(distinct_given("name", "two actions have the same name")),
            ),
        ]
        | None
    ) = None
    """What follows from a match; default only an event for every matching signature."""
    export: Export = Export()
    """Where events and captured packets are written."""

    @property
    def effective_rules(self) -> tuple[SniffRule, ...]:
        """The rules, first match first; one that takes everything when none is given."""
        return (SniffRule(),) if self.sniff is None else self.sniff

    def violations(self) -> Iterator[Violation]:
        """Everything that fits field by field, and not together."""
        yield from self._rule_violations()
        yield from self._action_violations()
        for violation in cycles(self.variables or {}):
            yield Violation(("variables", *violation.location), violation.reason)

    def _rule_violations(self) -> Iterator[Violation]:
        rules = self.sniff or ()
        yield from _repeated_names("sniff", [rule.name for rule in rules])
        everything = SniffRule().condition
        conditions = [rule.condition for rule in rules]
        catch_all = conditions.index(everything) if everything in conditions else len(rules)
        for index in range(catch_all + 1, len(rules)):
            yield Violation(
                ("sniff", index),
                f"never matches: sniff[{catch_all}] takes everything that comes to it",
                reads=(("sniff", catch_all),),
            )
        for index, first, _ in repeated(conditions[: catch_all + 1]):
            yield Violation(
                ("sniff", index),
                f"never matches: sniff[{first}] has the same conditions",
                reads=(("sniff", index), ("sniff", first)),
            )
        if rules and all(rule.ignore for rule in rules):
            yield Violation(
                ("sniff",), "takes nothing: add a rule without ignore, {} for all the rest", reads=(("sniff",),)
            )

    def _action_violations(self) -> Iterator[Violation]:
        actions = self.actions or ()
        yield from _repeated_names("actions", [action.name for action in actions])
        for index, action in enumerate(actions):
            if self.classify.depth is Depth.OFF:
                for name in action.match.needs_classification:
                    yield Violation(
                        ("actions", index, "match", name),
                        "needs classification, but classify.depth is Off",
                        reads=(("classify", "depth"),),
                    )
            if action.match.signature_ids is not None and not self.signatures.given:
                yield Violation(
                    ("actions", index, "match", "signatureIds"),
                    "needs rules, but signatures names none",
                    reads=(("signatures",),),
                )


class DpiSniffer(ApiModel):
    """Traffic whose beginnings an engine looks into, and what follows from what it finds."""

    api_version: Literal["sluicegate.io/v1alpha1"] = "sluicegate.io/v1alpha1"
    kind: Literal["DpiSniffer"] = "DpiSniffer"
    metadata: ObjectMeta
    spec: DpiSnifferSpec
    """What the sniffer shall do."""

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return self.metadata.key


def _repeated_names(field: str, names: list[str | None]) -> Iterator[Violation]:
    given = [(index, name) for index, name in enumerate(names) if name is not None]
    for index, first, name in repeated(name for _, name in given):
        yield Violation((field, given[index][0], "name"), f'"{name}" is already the name of {field}[{given[first][0]}]')
