"""What every resource shares: the base model, metadata, label selectors, names and the shape of a problem."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

from sluicegate_api.cel import cel, validations

T = TypeVar("T", bound=Hashable)

GROUP = "sluicegate.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
DEFAULT_NAMESPACE = "default"

Location = tuple[str | int, ...]
"""A place in an object: field names as written in YAML, and list indices."""

LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
)

PATTERN_WORDS = {
    LABEL_PATTERN: 'must consist of lower case letters, digits and "-", and start and end with a letter or digit',
    SUBDOMAIN_PATTERN: 'must consist of lower case letters, digits, "-" and ".", and each part between dots must start '
    "and end with a letter or digit",
    LABEL_VALUE_PATTERN: 'must be empty or consist of letters, digits, "-", "_" and ".", and start and end with a '
    "letter or digit",
    LABEL_KEY_PATTERN: 'must be a label key such as "role" or "example.com/role"',
}
"""What a text that does not match one of the patterns has to look like; other modules add their own patterns."""

DnsLabel = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
"""RFC 1123 label: names of namespaces, Services and ports."""
DnsSubdomain = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
"""RFC 1123 subdomain: what Kubernetes takes as the name of most objects."""
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE_PATTERN)]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317, pattern=LABEL_KEY_PATTERN)]
PortNumber = Annotated[int, Field(strict=True, ge=1, le=65535)]


def format_path(location: Iterable[str | int]) -> str:
    """A location as people write it: ``spec.backends.static[3].weight``, ``matchLabels["example.com/role"]``."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier():
            path += f".{part}" if path else part
        else:
            path += f'["{part}"]'
    return path


@dataclass(frozen=True, slots=True, order=True)
class FieldProblem:
    """What is wrong with one field of an object; path as :func:`format_path` writes it."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """What tells an object from all others of its kind."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule over several fields that does not hold.

    ``location`` is relative to the model. ``reads`` are further fields that the rule compared with: when one of them is
    itself wrong, or absent only because it was wrong, the violation says nothing that can be trusted.
    """

    location: Location
    reason: str
    reads: tuple[Location, ...] = ()


class ApiModel(BaseModel):
    """Base of all resource models: values that never change, camelCase in YAML, unknown fields refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    def violations(self) -> Iterator[Violation]:
        """Rules over several fields that this value breaks. Every one is reported, with its own place."""
        yield from ()

    @model_validator(mode="after")
    def _keeps_its_rules(self) -> Self:
        details = [
            InitErrorDetails(
                type=PydanticCustomError(
                    "rule",
                    "{reason}",
                    {"reason": violation.reason, "depth": len(violation.location), "reads": violation.reads},
                ),
                loc=violation.location,
                input=self,
            )
            for violation in self.violations()
        ]
        if details:
            raise ValidationError.from_exception_data(type(self).__name__, details)
        return self


def repeated(items: Iterable[T]) -> Iterator[tuple[int, int, T]]:
    """Items that are in a sequence more than once: (index, index of the first one, item)."""
    first: dict[T, int] = {}
    for index, item in enumerate(items):
        if item in first:
            yield index, first[item], item
        else:
            first[item] = index


class SelectorOperator(StrEnum):
    """How a label's value is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class SelectorRequirement(ApiModel):
    """One condition on a label."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values)",
                "values are required with In and NotIn, and have no meaning with Exists and DoesNotExist",
            )
        )
    )

    key: LabelKey
    """The label's key."""
    operator: SelectorOperator
    """How the label is compared with the values."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=64)] | None = None
    """Values for In and NotIn."""

    def violations(self) -> Iterator[Violation]:
        """In and NotIn compare with values, the others do not."""
        compares = self.operator in {SelectorOperator.IN, SelectorOperator.NOT_IN}
        if compares and not self.values:
            yield Violation(("values",), f"is required with operator {self.operator}", reads=(("operator",),))
        if not compares and self.values is not None:
            yield Violation(("values",), f"has no meaning with operator {self.operator}", reads=(("operator",),))


class LabelSelector(ApiModel):
    """Objects by their labels; all conditions must hold. An empty selector selects everything."""

    match_labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=64)] | None = None
    """Labels that must have exactly these values."""
    match_expressions: Annotated[tuple[SelectorRequirement, ...], Field(max_length=64)] | None = None
    """Further conditions on labels."""


_KEPT_BY_KUBERNETES = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    }
)


class ClusterObjectMeta(ApiModel):
    """Who an object is that lies in no namespace."""

    name: DnsSubdomain
    labels: Mapping[str, str] | None = None
    annotations: Mapping[str, str] | None = None
    uid: str = ""
    generation: int = 0

    @model_validator(mode="before")
    @classmethod
    def _forgets_what_only_kubernetes_uses(cls, data: object) -> object:
        """Take objects as ``kubectl get -o yaml`` prints them."""
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if key not in _KEPT_BY_KUBERNETES}
        return data


class ObjectMeta(ClusterObjectMeta):
    """Who an object is."""

    namespace: DnsLabel = DEFAULT_NAMESPACE

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.namespace, self.name)
