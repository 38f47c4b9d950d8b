"""What pydantic finds, in words for the person who wrote the file: what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from sluicegate_api.common import PATTERN_WORDS

_WORDED = frozenset({"rule", "address", "target_port", "url", "path", "port_range", "variable"})
"""Errors of our own, which say what is wrong themselves."""


def reason(error: ErrorDetails, model: type[BaseModel]) -> str:
    """Words for one error of a model's validation."""
    match error["type"], error.get("ctx", {}), error["input"]:
        case kind, {"reason": str(words)}, _ if kind in _WORDED:
            pass
        case "missing", _, _:
            words = "is required"
        case "extra_forbidden", _, _:
            words = _unknown_field(error, model)
        case "greater_than_equal", {"ge": bound}, value:
            words = f"must be at least {bound}, is {value}"
        case "less_than_equal", {"le": bound}, value:
            words = f"must be at most {bound}, is {value}"
        case "too_long", {"actual_length": length, "max_length": bound}, _:
            words = f"has {length} entries, at most {bound} are allowed"
        case "too_short", _, _:
            words = "must have at least one entry"
        case "string_too_long", {"max_length": bound}, _:
            words = f"must be at most {bound} characters long"
        case "string_too_short", _, _:
            words = "must not be empty"
        case "string_pattern_mismatch", {"pattern": pattern}, value:
            words = f"{describe(value)} {PATTERN_WORDS[pattern]}"
        case (("enum" | "literal_error"), {"expected": expected}, value):
            words = _choice(str(expected), value)
        case kind, _, value:
            words = _wrong_type(kind, value, error["msg"])
    return words


def describe(value: object) -> str:
    """A value in a sentence: ``"80"``, ``80``, ``true``, ``a list``."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return str(value)


def did_you_mean(value: object, choices: Sequence[str]) -> str:
    """The end of a sentence that names the choice that was meant; empty when none is like the value."""
    if value is False and "Off" in choices:
        return ': write "Off" in quotes, or YAML takes it for false'
    close = _closest(value, choices)
    return f": did you mean {close}?" if close else ""


def _choice(expected: str, value: object) -> str:
    choices = [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")]
    words = f"must be one of {', '.join(choices)}" if len(choices) > 1 else f"must be {choices[0]}"
    return f"{words}, is {describe(value)}{did_you_mean(value, choices)}"


def _wrong_type(kind: str, value: object, message: str) -> str:
    wanted = {
        "bool_type": "true or false",
        "int_type": "a whole number",
        "string_type": "text",
        "tuple_type": "a list",
        "model_type": "an object",
        "model_attributes_type": "an object",
        "mapping_type": "an object",
        "dict_type": "an object",
    }.get(kind)
    if wanted is None:
        return message
    words = f"must be {wanted}, is {describe(value)}"
    if isinstance(value, str) and kind in {"bool_type", "int_type"}:
        return f"{words}: write it without quotes"
    if kind == "string_type" and not isinstance(value, dict | list) and value is not None:
        return f"{words}: put it in quotes"
    return words


def _unknown_field(error: ErrorDetails, model: type[BaseModel]) -> str:
    *parents, name = error["loc"]
    known = _fields(model, parents)
    close = _closest(name, known)
    if close:
        return f"unknown field: did you mean {close}?"
    return f"unknown field; known here: {', '.join(known)}" if known else "unknown field"


def _closest(value: object, choices: Sequence[str]) -> str | None:
    if not isinstance(value, str):
        return None
    plain = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(value.replace("_", "").lower(), plain, n=1, cutoff=0.7)
    return plain[matches[0]] if matches else None


def _fields(model: type[BaseModel], parents: list[str | int]) -> list[str]:
    """Names of the fields of the model that a location leads to."""
    for part in parents:
        if isinstance(part, int):
            continue
        field = next((field for field in model.model_fields.values() if field.alias == part), None)
        found = _model_in(field.annotation) if field else None
        if found is None:
            return []
        model = found
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
