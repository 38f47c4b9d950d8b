"""What a sniffer looks for in the traffic, and what follows when it finds it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from sluicegate_api.cel import cel, validations
from sluicegate_api.common import PATTERN_WORDS, ApiModel, DnsLabel, DnsSubdomain, Violation, repeated
from sluicegate_api.paths import FilePath

CONFIG_MAP_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
LABEL_OF_ENGINE_PATTERN = r"^[!-~]([ -~]*[!-~])?$"
PATTERN_WORDS[CONFIG_MAP_KEY_PATTERN] = 'must consist of letters, digits, "-", "_" and "."'
PATTERN_WORDS[LABEL_OF_ENGINE_PATTERN] = "must consist of ASCII letters, digits and signs, without spaces around them"

DEFAULT_ACTION_SECONDS = 60
"""Of ``forSeconds``."""

EngineLabel = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=LABEL_OF_ENGINE_PATTERN)]
SignatureId = Annotated[int, Field(strict=True, ge=1, le=4_294_967_295)]


class Depth(StrEnum):
    """How closely flows are classified."""

    OFF = "Off"
    LEAN = "Lean"
    FULL = "Full"


class Classify(ApiModel):
    """How flows are told apart by what they carry."""

    depth: Depth = Depth.LEAN
    """"Off" (in quotes: YAML reads it as false otherwise): signatures only. Lean (default): protocol, SNI, JA4, HTTP
    host, risks. Full: adds entropy, a hint of the operating system, and guesses from a flow's first packet."""


class ConfigMapKey(ApiModel):
    """A key of a ConfigMap of the same namespace."""

    name: DnsSubdomain
    """The ConfigMap's name."""
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=CONFIG_MAP_KEY_PATTERN)]
    """The key whose text holds the rules."""


class Signatures(ApiModel):
    """Rules in a documented subset of Suricata's language, from all that is given."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.files) || size(self.files) == 0",
                "files are read outside a cluster only: use configMapRefs",
            )
        )
    )

    inline: Annotated[str, StringConstraints(min_length=1, max_length=196_608)] | None = None
    """Rules as text, one a line."""
    config_map_refs: (
        Annotated[
            tuple[ConfigMapKey, ...],
            Field(
                max_length=16,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "key"]},
            ),
        ]
        | None
    ) = None
    """Rules in ConfigMaps of the same namespace; each needs the label sluicegate.io/rules=true."""
    files: (
        Annotated[tuple[FilePath, ...], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})]
        | None
    ) = None
    """Outside a cluster only: files of rules. A relative path begins at the folder of the file that names it."""

    @property
    def given(self) -> bool:
        """Whether any rules are named."""
        return bool(self.inline or self.config_map_refs or self.files)

    def violations(self) -> Iterator[Violation]:
        """Every source once."""
        for index, first, reference in repeated(self.config_map_refs or ()):
            name = f"{reference.name}/{reference.key}"
            yield Violation(("configMapRefs", index), f"{name} is already listed in configMapRefs[{first}]")
        for index, first, path in repeated(self.files or ()):
            yield Violation(("files", index), f'"{path}" is already listed in files[{first}]')


class ActionType(StrEnum):
    """What follows a match."""

    ALERT = "Alert"
    DROP = "Drop"
    CAPTURE = "Capture"
    WIDEN = "Widen"


TIMED = frozenset({ActionType.DROP, ActionType.WIDEN})
"""Actions that last for a while."""


class Match(ApiModel):
    """Flows by what was found in them. All that is given must hold; of a list, one entry."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "has(self.protocols) || has(self.categories) || has(self.minRisk) || has(self.signatureIds)",
                "one of protocols, categories, minRisk and signatureIds is required",
            )
        )
    )

    protocols: (
        Annotated[
            tuple[EngineLabel, ...],
            Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Protocols and applications as nDPI names them: BitTorrent, or TLS.Google for both together."""
    categories: (
        Annotated[
            tuple[EngineLabel, ...],
            Field(min_length=1, max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Categories as nDPI names them, such as Mining."""
    min_risk: Annotated[int, Field(strict=True, ge=1, le=65535)] | None = None
    """Least risk score of the flow, the sum that nDPI gives for all its risks (one of medium severity gives 50)."""
    signature_ids: (
        Annotated[
            tuple[SignatureId, ...],
            Field(min_length=1, max_length=512, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Rules of signatures, by their sid."""

    @property
    def needs_classification(self) -> tuple[str, ...]:
        """Fields that nothing fills while flows are not classified."""
        fields = {"protocols": self.protocols, "categories": self.categories, "minRisk": self.min_risk}
        return tuple(name for name, value in fields.items() if value is not None)

    def violations(self) -> Iterator[Violation]:
        """Something to match, and every entry once."""
        lists = {"protocols": self.protocols, "categories": self.categories, "signatureIds": self.signature_ids}
        if self.min_risk is None and all(value is None for value in lists.values()):
            fields = (*lists, "minRisk")
            yield Violation(
                (),
                "one of protocols, categories, minRisk and signatureIds is required",
                reads=tuple((name,) for name in fields),
            )
        for name, entries in lists.items():
            for index, first, entry in repeated(entries or ()):
                yield Violation((name, index), f"{entry} is already listed in {name}[{first}]")


class Action(ApiModel):
    """What follows when a flow matches. All actions whose match holds are carried out."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.forSeconds) || self.action in ['Drop', 'Widen']",
                "forSeconds needs action Drop or Widen",
            )
        )
    )

    name: DnsLabel | None = None
    """Name of the action, unique within actions."""
    match: Match
    """Which flows."""
    action: ActionType
    """Alert: an event. Drop: an event, and the flow's packets are dropped in both directions. Capture: its packets are
    written to a pcap file. Widen: all packets of that host go up."""
    for_seconds: Annotated[int, Field(strict=True, ge=1, le=86400)] | None = None
    """With Drop and Widen: for how long; each later alert begins the time anew. Default 60."""

    @property
    def effective_seconds(self) -> int:
        """For how long the action lasts; 0 when it is done at once."""
        if self.action not in TIMED:
            return 0
        return DEFAULT_ACTION_SECONDS if self.for_seconds is None else self.for_seconds

    def violations(self) -> Iterator[Violation]:
        """Only what lasts has a duration."""
        if self.for_seconds is not None and self.action not in TIMED:
            yield Violation(
                ("forSeconds",), f"needs action Drop or Widen, but the action is {self.action}", reads=(("action",),)
            )
