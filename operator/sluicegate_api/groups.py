"""Node selectors: which nodes they select, and the group of all objects that select the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NewType

from pydantic import JsonValue

from sluicegate_api.common import GROUP, LabelSelector, SelectorOperator, SelectorRequirement
from sluicegate_api.digests import canonical_json

GroupId = NewType("GroupId", str)

GROUP_LABEL = f"{GROUP}/group"
"""Label of slices: the id of their group."""
GROUP_PATTERN = r"^g[0-9a-f]{12}$"
MAX_GROUPS = 64
"""Groups of one node: its agent names them all in one selector of its watch."""


def canonical_selector(selector: LabelSelector | None) -> JsonValue:
    """A selector in the one form that all selectors with the same conditions share; everything is ``[]``.

    ``matchLabels`` are written as ``In`` with one value, values and conditions are sorted, and repeated ones left out.
    """
    if selector is None:
        return []
    wanted: list[tuple[str, str, list[str]]] = [
        (key, SelectorOperator.IN.value, [value]) for key, value in (selector.match_labels or {}).items()
    ]
    wanted += [
        (each.key, each.operator.value, sorted(set(each.values or ()))) for each in selector.match_expressions or ()
    ]
    conditions: list[JsonValue] = [[key, operator, [*values]] for key, operator, values in wanted]
    unique = {canonical_json(condition): condition for condition in conditions}
    return [unique[key] for key in sorted(unique)]


def group_of(selector: LabelSelector | None) -> GroupId:
    """The group of objects with this node selector."""
    return GroupId("g" + hashlib.sha256(canonical_json(canonical_selector(selector))).hexdigest()[:12])


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether labels meet all conditions, as the API server sees it: NotIn holds where the key is missing."""
    if selector is None:
        return True
    return all(labels.get(key) == value for key, value in (selector.match_labels or {}).items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions or ()
    )


def _holds(requirement: SelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.IN:
            return value is not None and value in (requirement.values or ())
        case SelectorOperator.NOT_IN:
            return value is None or value not in (requirement.values or ())
        case SelectorOperator.EXISTS:
            return value is not None
        case SelectorOperator.DOES_NOT_EXIST:
            return value is None
