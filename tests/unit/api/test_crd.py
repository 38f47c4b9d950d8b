"""The CRDs: what the API server needs of a schema, and that the files are those of the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sluicegate_api.crd import REVISION_ANNOTATION, crds_yaml, custom_resource_definitions

CRDS = Path(__file__).parents[3] / "deploy" / "crds"


def definition() -> dict[str, Any]:
    (only,) = custom_resource_definitions()
    return dict(only)


def version() -> dict[str, Any]:
    (only,) = definition()["spec"]["versions"]
    return dict(only)


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All parts of a schema with their paths."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from schemas(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key], f"{path}[]")


def parts() -> list[tuple[str, dict[str, Any]]]:
    """All parts of spec and status; the rest belongs to Kubernetes."""
    properties = version()["schema"]["openAPIV3Schema"]["properties"]
    return [*schemas(properties["spec"], "spec"), *schemas(properties["status"], "status")]


def test_the_files_are_those_of_the_models() -> None:
    # After a change of the models: sluicegate crds > deploy/crds/loadbalancers.sluicegate.io.yaml, and a new
    # SCHEMA_REVISION when a schema changed.
    assert [path.name for path in CRDS.iterdir()] == ["loadbalancers.sluicegate.io.yaml"]
    assert (CRDS / "loadbalancers.sluicegate.io.yaml").read_text() == crds_yaml()


def test_the_yaml_holds_the_definitions_without_aliases() -> None:
    text = crds_yaml()
    assert list(yaml.safe_load_all(text)) == list(custom_resource_definitions())
    assert not any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))


def test_schemas_are_structural() -> None:
    for path, schema in parts():
        assert not schema.keys() & {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "default", "title"}, path
        assert not schema.keys() & {"patternProperties", "propertyNames", "exclusiveMinimum"}, path
        assert schema.get("additionalProperties") is not False, path
        if schema.get("x-kubernetes-int-or-string"):
            assert "type" not in schema, path
        else:
            assert schema["type"] in {"object", "array", "string", "integer", "boolean"}, path


def test_everything_has_a_limit() -> None:
    for path, schema in parts():
        if (schema.get("type") == "string" and "enum" not in schema) or schema.get("x-kubernetes-int-or-string"):
            assert "maxLength" in schema, path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path
        if schema.get("type") == "integer" and path.startswith("spec"):
            assert {"minimum", "maximum"} <= schema.keys(), path


def test_every_field_is_explained() -> None:
    for path, schema in parts():
        if not path.endswith("[]"):
            assert schema.get("description"), path


def test_every_rule_has_a_message() -> None:
    rules = [rule for _, schema in parts() for rule in schema.get("x-kubernetes-validations", [])]
    assert len(rules) > 20
    assert all(rule["rule"] and rule["message"] for rule in rules)
    names = {path for path, schema in parts() if "x-kubernetes-validations" in schema}
    assert {
        "spec",
        "spec.addresses",
        "spec.ports",
        "spec.backends",
        "spec.backends.static",
        "spec.healthCheck",
    } <= names


def test_limits_are_those_of_the_reference() -> None:
    by_path = dict(parts())
    assert by_path["spec.addresses"]["maxItems"] == 16
    assert by_path["spec.ports"]["maxItems"] == 64
    assert by_path["spec.backends.static"]["maxItems"] == 512
    assert by_path["spec.allowedSources"]["maxItems"] == 64
    assert by_path["spec.algorithm"]["enum"] == ["LeastLoad", "Maglev", "RoundRobin"]
    assert by_path["spec.forwarding.mode"]["enum"] == ["FullNAT", "DNAT", "DirectReturn", "Tunnel"]
    assert by_path["spec.ports[].targetPort"]["x-kubernetes-int-or-string"] is True
    assert by_path["spec"]["required"] == ["addresses", "ports", "backends"]


def test_people_find_their_load_balancers() -> None:
    names = definition()["spec"]["names"]
    assert names["shortNames"] == ["lb", "sglb"]
    assert names["categories"] == ["sluicegate"]
    columns = version()["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    assert shown == ["VIP", "PORTS", "BACKENDS", "NODES", "READY", "AGE"]
    assert [column["name"].upper() for column in columns if column.get("priority")] == ["ALGO", "REASON"]


def test_status_has_its_own_door_and_its_fields() -> None:
    assert version()["subresources"] == {"status": {}}
    by_path = dict(parts())
    assert by_path["status"]["properties"].keys() >= {"observedGeneration", "conditions", "nodes", "backends"}
    assert by_path["status.conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert by_path["status.nodes"]["properties"].keys() >= {"desired", "updated", "ready", "failed"}
    assert by_path["status.nodes.samples"]["maxItems"] == 10
    assert by_path["status.backends"]["properties"].keys() == {"total", "healthy", "draining"}


def test_the_schema_carries_its_revision() -> None:
    assert int(definition()["metadata"]["annotations"][REVISION_ANNOTATION]) >= 1
