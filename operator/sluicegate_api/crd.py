"""CustomResourceDefinitions, made from the models: the models are the only place where a field is defined.

The API server takes structural schemas only: every part has a type, nothing is referred to, and what is unknown is
pruned. ``default`` is left out on purpose: a default that is written into stored objects can never change.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from pydantic import JsonValue

from sluicegate_api.addresspool import AddressPool, AddressPoolSpec, AddressPoolStatus
from sluicegate_api.common import GROUP, VERSION, ApiModel
from sluicegate_api.configslice import ConfigSlice, ConfigSliceSpec
from sluicegate_api.dpisniffer import DpiSniffer, DpiSnifferSpec
from sluicegate_api.loadbalancer import LoadBalancer, LoadBalancerSpec
from sluicegate_api.nodestate import NodeState, NodeStateSpec, NodeStateStatus
from sluicegate_api.rulebundle import RuleBundle, RuleBundleSpec
from sluicegate_api.status import DpiSnifferStatus, LoadBalancerStatus

Schema = dict[str, JsonValue]

SCHEMA_REVISION = 4
"""Grows with every change of a schema. An operator does not write to a cluster whose revision is older than its own."""
REVISION_ANNOTATION = f"{GROUP}/schema-revision"

_DROPPED = frozenset({"default", "title", "additionalProperties", "propertyNames"})
_ORDER = ("description", "type", "format", "enum", "pattern", "required", "properties")


class _Dumper(yaml.SafeDumper):
    """Writes every value in full: a CRD with YAML aliases is hard to read and to review."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def custom_resource_definitions() -> tuple[Schema, ...]:
    """All CRDs of this version, as the API server takes them; those that people write come first."""
    return (
        _definition(
            LoadBalancer,
            LoadBalancerSpec,
            LoadBalancerStatus,
            short_names=("lb", "sglb"),
            columns=_columns(
                _column("VIP", "string", ".spec.addresses"),
                _column("Ports", "string", ".status.summary.ports"),
                _column("Backends", "string", ".status.summary.backends"),
                wide=_column("Algo", "string", ".spec.algorithm", wide=True),
            ),
        ),
        _definition(
            DpiSniffer,
            DpiSnifferSpec,
            DpiSnifferStatus,
            short_names=("dpi", "sgdpi"),
            columns=_columns(
                _column("Attach", "string", ".status.summary.attach"),
                _column("Rules", "string", ".status.summary.rules"),
                wide=_column("Depth", "string", ".spec.classify.depth", wide=True),
            ),
        ),
        _definition(
            AddressPool,
            AddressPoolSpec,
            AddressPoolStatus,
            scope="Cluster",
            short_names=("sgpool",),
            columns=[
                _column("Networks", "string", ".spec.cidrs"),
                _column("In use", "integer", ".status.addresses"),
                _column("Load balancers", "integer", ".status.loadBalancers"),
                _READY,
                _AGE,
            ],
        ),
        _definition(
            NodeState,
            NodeStateSpec,
            NodeStateStatus,
            scope="Cluster",
            short_names=("sgnode",),
            columns=[
                _column("Desired", "string", ".spec.desired"),
                _column("Is", "string", ".status.desired"),
                _column("Version", "string", ".status.version"),
                _AGE,
                _column("Groups", "string", ".spec.groups", wide=True),
            ],
        ),
        _definition(
            ConfigSlice,
            ConfigSliceSpec,
            short_names=("sgslice",),
            columns=[
                _column("Group", "string", ".spec.group"),
                _column("Revision", "string", ".spec.revision"),
                _AGE,
            ],
        ),
        _definition(
            RuleBundle,
            RuleBundleSpec,
            short_names=("sgrules",),
            columns=[_column("Part", "integer", ".spec.part"), _column("Of", "integer", ".spec.parts"), _AGE],
        ),
    )


def crds_yaml(kind: str | None = None) -> str:
    """All CRDs as one YAML text of several documents, or only that of a kind, named in small letters."""
    return "---\n".join(
        yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=120)
        for definition in custom_resource_definitions()
        if kind in {None, _object(_object(definition["spec"])["names"])["singular"]}
    )


def structural_schema(model: type[ApiModel]) -> Schema:
    """The schema of a model, with all definitions in place and without what the API server does not take."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    return _structural(schema, definitions)


def _structural(schema: Schema, definitions: Schema) -> Schema:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = definitions[reference.removeprefix("#/$defs/")]
        around = {key: value for key, value in schema.items() if key != "$ref"}
        return _structural({**_object(target), **around}, definitions)
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        # Optional fields: a field that may be absent is not one that may be null.
        (only,) = (_object(choice) for choice in choices if choice != {"type": "null"})
        around = {key: value for key, value in schema.items() if key != "anyOf"}
        return _structural({**only, **around}, definitions)
    result: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: _structural(_object(part), definitions) for name, part in _object(value).items()}
        elif key == "items":
            result[key] = _structural(_object(value), definitions)
        elif key == "additionalProperties" and isinstance(value, dict):
            # Values of any kind have an empty schema: it is left out, and their object says that it keeps them.
            if values := _structural(value, definitions):
                result[key] = values
        elif key == "patternProperties":
            # Keys cannot be constrained by a structural schema: the value's schema holds for all of them.
            (part,) = _object(value).values()
            result["additionalProperties"] = _structural(_object(part), definitions)
        elif key == "description":
            result[key] = " ".join(str(value).split())
        elif key not in _DROPPED:
            result[key] = value
    return dict(sorted(result.items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER)))


def _object(value: JsonValue) -> Schema:
    if not isinstance(value, dict):
        raise TypeError(f"expected a schema, not {value!r}")
    return value


def _column(name: str, kind: str, path: str, *, wide: bool = False) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": 1} if wide else column


_AGE = _column("Age", "date", ".metadata.creationTimestamp")
_READY = _column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status')


def _columns(*own: Schema, wide: Schema) -> list[Schema]:
    """What kubectl get shows of a kind that runs on nodes: columns of its own around those that every one has."""
    return [
        *own,
        _column("Nodes", "string", ".status.summary.nodes"),
        _READY,
        _AGE,
        wide,
        _column("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
    ]


def _definition(
    model: type[ApiModel],
    spec: type[ApiModel],
    status: type[ApiModel] | None = None,
    *,
    scope: str = "Namespaced",
    short_names: Sequence[str],
    columns: Sequence[Schema],
) -> Schema:
    kind = model.__name__
    singular = kind.lower()
    plural = f"{singular}s"
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": structural_schema(spec),
    }
    if status is not None:
        properties["status"] = structural_schema(status)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "annotations": {REVISION_ANNOTATION: str(SCHEMA_REVISION)},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": singular,
                "shortNames": list(short_names),
                "categories": ["sluicegate"],
            },
            "scope": scope,
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {} if status is None else {"status": {}},
                    "additionalPrinterColumns": list(columns),
                    "schema": {
                        "openAPIV3Schema": {
                            "description": model.__doc__ or "",
                            "type": "object",
                            "required": ["spec"],
                            "properties": properties,
                        }
                    },
                }
            ],
        },
    }
