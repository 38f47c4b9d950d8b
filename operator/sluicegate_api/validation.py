"""From texts to objects that can be applied, or all reasons why not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sluicegate_api.claims import Claim, Claims, resolve_claims
from sluicegate_api.common import API_VERSION, FieldProblem, ObjectKey
from sluicegate_api.diagnosis import Diagnosis, diagnose
from sluicegate_api.documents import Document, Value, parse_documents
from sluicegate_api.dpisniffer import DpiSniffer
from sluicegate_api.loadbalancer import LoadBalancer
from sluicegate_api.support import unsupported
from sluicegate_api.wording import describe, did_you_mean

LARGEST_SPEC = 256 * 1024
"""Bytes of a spec as compact JSON, as the API server stores it."""

KIND = "LoadBalancer"
SNIFFER_KIND = "DpiSniffer"
KINDS = (KIND, SNIFFER_KIND)

Resource = LoadBalancer | DpiSniffer
R_co = TypeVar("R_co", bound=Resource, covariant=True)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: the text's name, the object in it, the field, and why."""

    source: str
    object: str
    path: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.object, self.path, self.reason) if part)


@dataclass(frozen=True, slots=True)
class LoadedResource(Generic[R_co]):
    """A valid object, and where it came from; documents of a text count from 1."""

    object: R_co
    source: str
    document: int


LoadedObject = LoadedResource[LoadBalancer]
LoadedSniffer = LoadedResource[DpiSniffer]


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Objects that can be applied, who of them holds which VIP and port, and everything that is wrong.

    An object that lost a claim is still there: what it holds beside it works.
    """

    loadbalancers: tuple[LoadedObject, ...] = ()
    sniffers: tuple[LoadedSniffer, ...] = ()
    claims: Claims = field(default_factory=Claims)
    problems: tuple[Problem, ...] = ()


def validate_documents(
    texts: Sequence[tuple[str, str]], *, holders: Mapping[Claim, ObjectKey] | None = None
) -> ValidationResult:
    """Validate all documents of all (name, text) pairs, and report every error of every one of them.

    ``holders`` tells which object already holds a VIP and port on this machine: it keeps them. Otherwise the order of
    the texts decides.
    """
    balancers: dict[ObjectKey, LoadedObject] = {}
    sniffers: dict[ObjectKey, LoadedSniffer] = {}
    problems: list[Problem] = []
    for source, text in texts:
        for document in parse_documents(text):
            name = _name(document)
            loaded, more = (None, []) if document.value is None else _load(document.value)
            found = [*document.problems, *more]
            if not found and isinstance(loaded, LoadBalancer):
                found += _enter(balancers, LoadedResource(loaded, source, document.index))
            elif not found and isinstance(loaded, DpiSniffer):
                found += _enter(sniffers, LoadedResource(loaded, source, document.index))
            problems += (Problem(source, name, problem.path, problem.reason) for problem in found)
    claims = resolve_claims([loaded.object for loaded in balancers.values()], holders or {})
    problems += (
        Problem(balancers[r.object].source, f"{KIND} {r.object}", r.problem.path, r.problem.reason)
        for r in claims.refusals
    )
    return ValidationResult(tuple(balancers.values()), tuple(sniffers.values()), claims, tuple(problems))


def _enter(valid: dict[ObjectKey, LoadedResource[R_co]], loaded: LoadedResource[R_co]) -> Iterator[FieldProblem]:
    """Keep an object unless one of its kind has its name."""
    key = loaded.object.key
    first = valid.setdefault(key, loaded)
    if first is not loaded:
        place = f"document {first.document} of {first.source}"
        yield FieldProblem("metadata.name", f"{key} is already defined in {place}")


def _load(value: Value) -> tuple[Resource | None, list[FieldProblem]]:
    """One object, or what is wrong with it beyond the form of its text."""
    if not isinstance(value, dict):
        return None, [
            FieldProblem("", f"must be an object with apiVersion, kind, metadata and spec, is {describe(value)}")
        ]
    head = list(_head_problems(value))
    kind = value.get("kind")
    if kind not in KINDS:
        return None, head
    # Status is the operator's; files made by "kubectl get -o yaml" have it.
    rest: Value = {key: part for key, part in value.items() if key not in {"apiVersion", "status"}}
    diagnosis: Diagnosis[LoadBalancer] | Diagnosis[DpiSniffer]
    diagnosis = diagnose(LoadBalancer, rest) if kind == KIND else diagnose(DpiSniffer, rest)
    found = [*head, *diagnosis.problems, *_size_problems(value.get("spec"))]
    if diagnosis.model is not None:
        found += unsupported(diagnosis.model)
    return (None if found else diagnosis.model), found


def _head_problems(value: Mapping[str, Value]) -> Iterator[FieldProblem]:
    version, kind = value.get("apiVersion"), value.get("kind")
    if version is None:
        yield FieldProblem("apiVersion", f"is required: write {API_VERSION}")
    elif version != API_VERSION:
        yield FieldProblem("apiVersion", f"must be {API_VERSION}, is {describe(version)}")
    if kind is None:
        yield FieldProblem("kind", f"is required: write {' or '.join(KINDS)}")
    elif kind not in KINDS:
        yield FieldProblem("kind", f"must be {' or '.join(KINDS)}, is {describe(kind)}{did_you_mean(kind, KINDS)}")


def _size_problems(spec: Value) -> Iterator[FieldProblem]:
    size = len(json.dumps(spec, separators=(",", ":"), ensure_ascii=False).encode())
    if size > LARGEST_SPEC:
        yield FieldProblem("spec", f"is {size} bytes long, at most {LARGEST_SPEC} are allowed")


def _name(document: Document) -> str:
    """How a person finds the object: its kind and name, else its number."""
    value = document.value
    kind = value.get("kind") if isinstance(value, dict) else None
    metadata = value.get("metadata") if isinstance(value, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    namespace = metadata.get("namespace", "default") if isinstance(metadata, dict) else None
    if isinstance(kind, str) and isinstance(name, str) and isinstance(namespace, str):
        return f"{kind} {namespace}/{name}"
    return f"document {document.index} (line {document.line})"
