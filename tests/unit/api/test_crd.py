"""The CRDs: what the API server needs of a schema, and that the files are those of the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluicegate_api.crd import REVISION_ANNOTATION, crds_yaml, custom_resource_definitions

CRDS = Path(__file__).parents[3] / "deploy" / "crds"


LOAD_BALANCER, SNIFFER = "loadbalancers", "dpisniffers"
INTERNAL = ("nodestates", "configslices", "rulebundles")

both = pytest.mark.parametrize("plural", [LOAD_BALANCER, SNIFFER])
every = pytest.mark.parametrize("plural", [LOAD_BALANCER, SNIFFER, "addresspools", *INTERNAL])


def definition(plural: str) -> dict[str, Any]:
    (only,) = (each for each in custom_resource_definitions() if names(dict(each))["plural"] == plural)
    return dict(only)


def names(crd: dict[str, Any]) -> dict[str, Any]:
    return dict(crd["spec"]["names"])


def version(plural: str) -> dict[str, Any]:
    (only,) = definition(plural)["spec"]["versions"]
    return dict(only)


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All parts of a schema with their paths."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from schemas(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key], f"{path}[]")


def parts(plural: str) -> list[tuple[str, dict[str, Any]]]:
    """All parts of spec and status; the rest belongs to Kubernetes."""
    properties = version(plural)["schema"]["openAPIV3Schema"]["properties"]
    return [each for part in ("spec", "status") if part in properties for each in schemas(properties[part], part)]


@every
def test_the_files_are_those_of_the_models(plural: str) -> None:
    # After a change of the models: make crds, and a new SCHEMA_REVISION when a schema changed.
    assert (CRDS / f"{plural}.sluicegate.io.yaml").read_text() == crds_yaml(plural.removesuffix("s"))


def test_there_is_a_file_for_every_kind() -> None:
    found = sorted(path.name for path in CRDS.iterdir())
    assert found == sorted(f"{each['metadata']['name']}.yaml" for each in yaml.safe_load_all(crds_yaml()))
    assert len(found) == 6


def test_the_yaml_holds_the_definitions_without_aliases() -> None:
    text = crds_yaml()
    assert list(yaml.safe_load_all(text)) == list(custom_resource_definitions())
    assert not any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))


@every
def test_schemas_are_structural(plural: str) -> None:
    for path, schema in parts(plural):
        assert not schema.keys() & {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "default", "title"}, path
        assert not schema.keys() & {"patternProperties", "propertyNames", "exclusiveMinimum", "exclusiveMaximum"}, path
        assert schema.get("additionalProperties") is not False, path
        if schema.get("x-kubernetes-int-or-string"):
            assert "type" not in schema, path
        else:
            assert schema["type"] in {"object", "array", "string", "integer", "boolean"}, path


@both
def test_everything_has_a_limit(plural: str) -> None:
    for path, schema in parts(plural):
        if (schema.get("type") == "string" and "enum" not in schema) or schema.get("x-kubernetes-int-or-string"):
            assert "maxLength" in schema, path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path
        if schema.get("type") == "integer" and path.startswith("spec"):
            assert {"minimum", "maximum"} <= schema.keys(), path


@both
def test_every_field_is_explained(plural: str) -> None:
    for path, schema in parts(plural):
        if not path.endswith("[]"):
            assert schema.get("description"), path


@both
def test_every_rule_has_a_message(plural: str) -> None:
    rules = [rule for _, schema in parts(plural) for rule in schema.get("x-kubernetes-validations", [])]
    assert len(rules) > 20
    assert all(rule["rule"] and rule["message"] for rule in rules)


def test_the_parts_that_have_rules() -> None:
    found = {
        path for kind in (LOAD_BALANCER, SNIFFER) for path, part in parts(kind) if "x-kubernetes-validations" in part
    }
    assert {
        "spec",
        "spec.addresses",
        "spec.ports",
        "spec.backends",
        "spec.backends.static",
        "spec.healthCheck",
        "spec.attach",
        "spec.sniff",
        "spec.sniff[]",
        "spec.budget",
        "spec.actions[].match",
        "spec.export.eve",
    } <= found


def test_limits_are_those_of_the_reference() -> None:
    by_path = dict(parts(LOAD_BALANCER))
    assert by_path["spec.addresses"]["maxItems"] == 16
    assert by_path["spec.ports"]["maxItems"] == 64
    assert by_path["spec.backends.static"]["maxItems"] == 512
    assert by_path["spec.allowedSources"]["maxItems"] == 64
    assert by_path["spec.algorithm"]["enum"] == ["LeastLoad", "Maglev", "RoundRobin"]
    assert by_path["spec.forwarding.mode"]["enum"] == ["FullNAT", "DNAT", "DirectReturn", "Tunnel"]
    assert by_path["spec.ports[].targetPort"]["x-kubernetes-int-or-string"] is True
    assert by_path["spec"]["required"] == ["addresses", "ports", "backends"]


def test_limits_of_sniffers_are_those_of_the_reference() -> None:
    by_path = dict(parts(SNIFFER))
    assert by_path["spec.sniff"]["maxItems"] == 1000
    for side in ("source", "destination"):
        assert by_path[f"spec.sniff[].{side}.cidrs"]["maxItems"] == 64
        assert by_path[f"spec.sniff[].{side}.ports"]["maxItems"] == 64
        assert by_path[f"spec.sniff[].{side}.ports[]"]["x-kubernetes-int-or-string"] is True
    assert by_path["spec.classify.depth"]["enum"] == ["Off", "Lean", "Full"]
    assert by_path["spec.actions[].action"]["enum"] == ["Alert", "Drop", "Capture", "Widen"]
    assert by_path["spec.export.eve.type"]["enum"] == ["Stdout", "File", "UnixSocket"]
    assert by_path["spec.signatures.configMapRefs"]["x-kubernetes-list-map-keys"] == ["name", "key"]
    assert by_path["spec.actions[]"]["required"] == ["match", "action"]
    assert "required" not in by_path["spec"]


@pytest.mark.parametrize(
    ("plural", "short_names", "columns", "wide"),
    [
        (
            LOAD_BALANCER,
            ["lb", "sglb"],
            ["VIP", "PORTS", "BACKENDS", "NODES", "READY", "AGE"],
            ["ALGO", "REASON"],
        ),
        (SNIFFER, ["dpi", "sgdpi"], ["ATTACH", "RULES", "NODES", "READY", "AGE"], ["DEPTH", "REASON"]),
    ],
)
def test_people_find_their_objects(plural: str, short_names: list[str], columns: list[str], wide: list[str]) -> None:
    crd = names(definition(plural))
    assert crd["shortNames"] == short_names
    assert crd["categories"] == ["sluicegate"]
    found = version(plural)["additionalPrinterColumns"]
    assert [column["name"].upper() for column in found if not column.get("priority")] == columns
    assert [column["name"].upper() for column in found if column.get("priority")] == wide


@both
def test_columns_show_fields_that_are_there(plural: str) -> None:
    known = {f".{path}" for path, _ in parts(plural)} | {".metadata.creationTimestamp"}
    for column in version(plural)["additionalPrinterColumns"]:
        path = column["jsonPath"]
        assert path in known or path.startswith('.status.conditions[?(@.type=="Ready")].'), path


@both
def test_status_has_its_own_door_and_its_fields(plural: str) -> None:
    assert version(plural)["subresources"] == {"status": {}}
    by_path = dict(parts(plural))
    assert by_path["status"]["properties"].keys() >= {"observedGeneration", "conditions", "nodes"}
    assert by_path["status.conditions"]["x-kubernetes-list-map-keys"] == ["type"]
    assert by_path["status.nodes"]["properties"].keys() >= {"desired", "updated", "ready", "failed"}
    assert by_path["status.nodes.samples"]["maxItems"] == 10


@both
def test_the_schema_carries_its_revision(plural: str) -> None:
    assert int(definition(plural)["metadata"]["annotations"][REVISION_ANNOTATION]) >= 1


def test_only_load_balancers_count_backends() -> None:
    counted = dict(parts(LOAD_BALANCER))["status.backends"]["properties"].keys()
    assert counted == {"total", "healthy", "draining"}
    assert "status.backends" not in dict(parts(SNIFFER))
