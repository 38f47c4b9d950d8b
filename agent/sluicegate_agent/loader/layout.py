"""How keys and values lie in memory: from bcc's description of C types to numpy's."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sluicegate_agent.loader.errors import LoaderError

if TYPE_CHECKING:
    import numpy as np

_SCALARS = {
    "char": "u1",
    "signed char": "i1",
    "unsigned char": "u1",
    "_Bool": "u1",
    "short": "<i2",
    "unsigned short": "<u2",
    "int": "<i4",
    "unsigned int": "<u4",
    "long": "<i8",
    "unsigned long": "<u8",
    "long long": "<i8",
    "unsigned long long": "<u8",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a struct. ``shape`` is () for a single value. Padding is a member too, named ``__pad_...``."""

    name: str
    layout: Layout
    shape: tuple[int, ...] = ()


Layout: TypeAlias = "str | tuple[Field, ...]"
"""A scalar as numpy's type code (little-endian, as the kernel's), or the members of a struct without any gap."""


def from_description(description: str, what: str) -> Layout:
    """Read bcc's JSON, e.g. ``["key", [["a","unsigned int"], ["m","unsigned char",[6]]], "struct_packed"]``."""
    return _layout(json.loads(description), what)


def _layout(raw: object, what: str) -> Layout:
    match raw:
        case str() if raw in _SCALARS:
            return _SCALARS[raw]
        case [str(), list(), "enum"]:
            return "<u4"
        case [str(), list() as members, "struct" | "struct_packed"]:
            return tuple(_field(member, what) for member in members)
    raise LoaderError(f"{what} has the type {raw!r}, which user space cannot describe", "use integers, arrays, structs")


def _field(raw: object, what: str) -> Field:
    match raw:
        case [str() as name, kind]:
            return Field(name, _layout(kind, f"{what}.{name}"))
        case [str() as name, kind, list() as shape]:
            return Field(name, _layout(kind, f"{what}.{name}"), tuple(int(length) for length in shape))
    raise LoaderError(f"{what} has the member {raw!r}, which user space cannot describe", "bit fields are not taken")


def size(layout: Layout) -> int:
    """Bytes of one value."""
    if isinstance(layout, str):
        return int(layout[-1])
    return sum(size(member.layout) * math.prod(member.shape) for member in layout)


def to_json(layout: Layout) -> object:
    """Plain lists and strings."""
    if isinstance(layout, str):
        return layout
    return [[member.name, to_json(member.layout), list(member.shape)] for member in layout]


def from_json(raw: object) -> Layout:
    """Read what :func:`to_json` made."""
    match raw:
        case str():
            return raw
        case list():
            return tuple(Field(str(name), from_json(kind), tuple(shape)) for name, kind, shape in raw)
    raise ValueError(f"no layout: {raw!r}")


def dtype(layout: Layout) -> np.dtype[np.void]:
    """The same for numpy; a scalar becomes a struct with the one member ``value``."""
    import numpy as np  # noqa: PLC0415 - the loader's own process needs no numpy

    if isinstance(layout, str):
        return np.dtype([("value", layout)])
    return np.dtype([(member.name, _member(member.layout), member.shape) for member in layout])


def _member(layout: Layout) -> str | np.dtype[np.void]:
    return layout if isinstance(layout, str) else dtype(layout)
