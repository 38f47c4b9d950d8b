"""As much of JSON Schema as eve.schema.json uses; anything else in a schema is an error, so nothing goes unchecked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = json.loads(
    (Path(__file__).parents[3] / "docs" / "reference" / "schemas" / "eve.schema.json").read_text(encoding="utf-8")
)
_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "integer": int}
_KNOWN = frozenset(
    {"type", "properties", "patternProperties", "additionalProperties", "required", "enum", "const", "pattern"}
    | {"minimum", "maximum", "items", "allOf", "if", "then", "description", "title", "$schema"}
)


def problems(value: Any, schema: Mapping[str, Any] = SCHEMA, path: str = "$") -> Iterator[str]:
    """What is wrong with a value; nothing when it fits."""
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    kind = schema.get("type")
    if kind is not None:
        kinds = [kind] if isinstance(kind, str) else kind
        if not any(_is_a(value, name) for name in kinds):
            yield f"{path}: {value!r} is not {kind}"
            return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not match {schema['pattern']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{path}: {value} is below {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        yield f"{path}: {value} is above {schema['maximum']}"
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), f"{path}[{index}]")
    if isinstance(value, dict):
        yield from _object_problems(value, schema, path)
    for part in schema.get("allOf", ()):
        yield from problems(value, part, path)
    if "if" in schema and not list(problems(value, schema["if"], path)):
        yield from problems(value, schema["then"], path)


def _is_a(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (not isinstance(value, bool) or kind == "boolean")


def _object_problems(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}: {name} is missing"
    for name, item in value.items():
        matching = [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
        if name in schema.get("properties", {}):
            matching.append(schema["properties"][name])
        for part in matching:
            yield from problems(item, part, f"{path}.{name}")
        if not matching and schema.get("additionalProperties", True) is False:
            yield f"{path}: {name} is not in the schema"
