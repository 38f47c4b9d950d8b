"""The page of a resource: from its models, which the custom resource definition is made from too."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

from pydantic import BaseModel

from sluicegate_agent.reference.markdown import code, codes, literally, table
from sluicegate_agent.reference.markdown import page as whole
from sluicegate_api import support
from sluicegate_api.common import API_VERSION, PATTERN_WORDS, ApiModel
from sluicegate_api.crd import structural_schema

_INTRODUCTION = """
`apiVersion: {version}`, `kind: {kind}`. `metadata.namespace` is `default` when it is not given.
Unknown fields are refused; `sluicegate validate -f FILE` tells every error with its place.

{use}

An absent field has its default. `[]` stands for each item of a list.
"""

_RULES = "What is refused beyond that, in the words of the API server; `validate` names the place and the culprit:"
_REFUSED = f"""
Part of the resource, but "{support.NOT_YET}": files that use them are refused by name.
"""

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """What a page is made from.

    ``missing`` is the function that refuses what is not built yet, ``use`` and ``status_source`` are sentences about
    where the resource is used and who tells its status.
    """

    model: type[ApiModel]
    spec: type[ApiModel]
    status: type[ApiModel]
    missing: Callable[..., Iterator[tuple[str, str]]]
    use: str
    status_source: str


def resource_page(resource: Resource) -> str:
    """The text."""
    spec, status = structural_schema(resource.spec), structural_schema(resource.status)
    heads = ("field", "type", "default", "limits", "meaning")
    kind = resource.model.__name__
    return whole(
        kind,
        f"{(resource.model.__doc__ or '').strip()}",
        _INTRODUCTION.format(version=API_VERSION, kind=kind, use=resource.use.strip()),
        "## spec",
        table(heads, _rows(resource.spec, spec, "spec")),
        "## Rules",
        _RULES,
        table(("in", "error"), _rules(spec, "spec")),
        "## Not yet",
        _REFUSED,
        table(("field", "values"), _not_yet(resource.missing)),
        "## status",
        resource.status_source,
        table(("field", "type", "meaning"), ((a, b, e) for a, b, _, _, e in _rows(resource.status, status, "status"))),
    )


def _rows(model: type[BaseModel], schema: Schema, path: str) -> Iterator[tuple[str, str, str, str, str]]:
    required = cast("list[str]", schema.get("required", []))
    for name, field in model.model_fields.items():
        alias = field.alias or name
        part = cast("Schema", schema["properties"][alias])
        inner, is_list = _model(field.annotation)
        place = f"{path}.{alias}" + ("[]" if is_list and inner else "")
        limits = ["**required**"] if alias in required else []
        limits += _limits(part)
        yield code(place), _type(part), _default(field.default), ", ".join(limits), literally(str(part["description"]))
        if inner is not None:
            yield from _rows(inner, cast("Schema", part["items"]) if is_list else part, place)


def _model(annotation: object) -> tuple[type[ApiModel] | None, bool]:
    """The model inside an annotation, and whether it is that of a list's items."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _model(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return next((found for each in get_args(annotation) if (found := _model(each))[0]), (None, False))
    if origin is tuple:
        return _model(get_args(annotation)[0])[0], True
    is_model = isinstance(annotation, type) and issubclass(annotation, ApiModel)
    return (cast("type[ApiModel]", annotation) if is_model else None), False


def _type(part: Schema) -> str:
    if part.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if part["type"] == "array":
        return f"list of {_plural(_type(part['items']))}"
    if part["type"] == "object" and "additionalProperties" in part:
        return f"map to {_plural(_type(part['additionalProperties']))}"
    return str(part["type"])


def _plural(word: str) -> str:
    return word if " " in word else f"{word}s"


def _default(value: object) -> str:
    if isinstance(value, Enum):
        return code(str(value.value))
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(str(value)) if isinstance(value, int | str) and value != "" else ""


def _limits(part: Schema) -> Iterator[str]:
    """Limits of a value; those of a list's items after its own."""
    if "enum" in part:
        yield codes(map(str, part["enum"]))
    yield from _range(part, "minimum", "maximum", "")
    yield from _range(part, "minItems", "maxItems", " items")
    yield from _range(part, "minProperties", "maxProperties", " entries")
    if "enum" not in part:
        yield from _range(part, "minLength", "maxLength", " characters")
    if "pattern" in part:
        words = PATTERN_WORDS.get(part["pattern"])
        yield literally(words) if words else code(part["pattern"])
    for key in ("items", "additionalProperties"):
        inner = part.get(key)
        if isinstance(inner, Mapping) and inner.get("type") != "object":
            yield from (f"each {limit}" for limit in _limits(inner))


def _range(part: Schema, least: str, most: str, unit: str) -> Iterator[str]:
    low, high = part.get(least), part.get(most)
    if low is not None and high is not None:
        yield f"{low} to {high}{unit}"
    elif high is not None:
        yield f"at most {high}{unit}"
    elif low is not None:
        yield f"at least {low}{unit}"


def _rules(part: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in part.get("x-kubernetes-validations", ()):
        yield code(path), literally(str(rule["message"]))
    for name, inner in part.get("properties", {}).items():
        yield from _rules(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(part.get(key), Mapping):
            yield from _rules(part[key], f"{path}[]")


def _not_yet(missing: Callable[..., Iterator[tuple[str, str]]]) -> Iterator[tuple[str, str]]:
    """Read from the source of the function: fields, and the values for which they are refused when it names some."""
    for node in ast.walk(ast.parse(inspect.getsource(missing))):
        if not isinstance(node, ast.If):
            continue
        for line in node.body:
            value = line.value.value if isinstance(line, ast.Expr) and isinstance(line.value, ast.Yield) else None
            if isinstance(value, ast.Tuple):
                yield code(_path(value.elts[0])), codes(_values(node.test)) or "any"


def _path(text: ast.expr) -> str:
    """A path; what is put into its text are indices of lists."""
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "" for part in parts)


def _values(test: ast.expr) -> Iterator[str]:
    """Members of enumerations that a test compares with."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.Eq | ast.In):
            for each in ast.walk(node.comparators[0]):
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
                    member = getattr(getattr(support, each.value.id, None), each.attr, None)
                    if isinstance(member, Enum):
                        yield str(member.value)
