"""Rules that the API server checks beyond the schema, in the Common Expression Language (CEL).

They say what ``violations`` of the models say for files. Each costs its length times the largest value it may meet, and
the API server refuses a schema whose rules cost too much: hence the limits on every list and text.
"""

from __future__ import annotations

from pydantic import JsonValue


def cel(rule: str, message: str) -> dict[str, JsonValue]:
    """One entry of ``x-kubernetes-validations``: what the API server checks beyond the schema."""
    return {"rule": rule, "message": message}


def validations(*rules: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Schema keys for rules of the API server."""
    return {"x-kubernetes-validations": list(rules)}


def distinct(key: str, message: str) -> dict[str, JsonValue]:
    """The rule that no two items of a list have the same key; the key is an expression over ``item``.

    Every key is looked up once, and the positions found add up to 0 + 1 + … only when they all differ. Comparing each
    with each costs four times as much in the API server's count, and runs into its limit at 512 items.
    """
    return cel(_all_differ(f"self.map(item, {key})"), message)


def distinct_given(field: str, message: str) -> dict[str, JsonValue]:
    """The rule that no two items of a list have the same value in a field that items may leave out."""
    return cel(_all_differ(f"self.map(item, has(item.{field}), item.{field})"), message)


def _all_differ(keys: str) -> str:
    return f"[{keys}].all(keys, keys.map(k, keys.indexOf(k)).sum() * 2 == size(keys) * (size(keys) - 1))"
