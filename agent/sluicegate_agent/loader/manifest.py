"""What the loader leaves for the agent: where maps and programs are pinned and how their rows lie in memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sluicegate_agent.loader import layout
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.layout import Layout
from sluicegate_agent.loader.request import Hook
from sluicegate_agent.loader.sources import Reason

if TYPE_CHECKING:
    import numpy as np

FORMAT = 4
"""Of manifest and pins. It moves when an older version could not go on with them, so above all when a map or one of
its members goes away: rows are carried from one version to the next by name, and what is new may be missing."""

_FIRST_FORMAT = 1  # had no number
_SHORT = 12


@dataclass(frozen=True)
class MapLayout:
    """A map. ``path`` is None for the template of a map of maps; ``inner`` names the template of a map of maps."""

    path: Path | None
    type: int
    key: Layout
    value: Layout
    max_entries: int
    flags: int
    inner: str | None = None

    @cached_property
    def key_dtype(self) -> np.dtype[np.void]:
        """The key for numpy; a plain integer is a struct with the member ``value``."""
        return layout.dtype(self.key)

    @cached_property
    def value_dtype(self) -> np.dtype[np.void]:
        """The value for numpy, of one CPU in per-CPU maps."""
        return layout.dtype(self.value)

    def to_json(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "path": None if self.path is None else str(self.path),
            "type": self.type,
            "key": layout.to_json(self.key),
            "value": layout.to_json(self.value),
            "max_entries": self.max_entries,
            "flags": self.flags,
            "inner": self.inner,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` made."""
        return cls(
            path=None if raw["path"] is None else Path(raw["path"]),
            type=raw["type"],
            key=layout.from_json(raw["key"]),
            value=layout.from_json(raw["value"]),
            max_entries=raw["max_entries"],
            flags=raw["flags"],
            inner=raw["inner"],
        )


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """A loaded program and what it costs. ``instructions`` as compiled, xlated and jited in bytes as loaded."""

    path: Path
    kind: Hook
    tag: str
    instructions: int
    xlated_bytes: int
    jited_bytes: int
    verified_instructions: int
    load_ms: float

    def __str__(self) -> str:
        return (
            f"{self.instructions} instructions, xlated {self.xlated_bytes} B, jited {self.jited_bytes} B, "
            f"{self.verified_instructions} verified, loaded in {self.load_ms:.1f} ms"
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """One set of programs with its maps. ``reasons`` are those of ``reasons.h``, in the order of their numbers.

    ``replaced`` are maps of the set before this one that had another layout: their rows are to be taken over.
    """

    set_digest: str
    source_digest: str
    features: dict[str, bool]
    sizes: dict[str, int]
    maps: dict[str, MapLayout]
    programs: dict[str, ProgramInfo]
    program_arrays: dict[str, Path]
    reasons: tuple[Reason, ...]
    replaced: dict[str, MapLayout] = field(default_factory=dict)
    format: int = FORMAT

    def pins(self) -> frozenset[Path]:
        """Every path that must be there for the set to work."""
        maps = {row.path for row in self.maps.values() if row.path is not None}
        return frozenset({*maps, *(program.path for program in self.programs.values()), *self.program_arrays.values()})

    def to_json(self) -> str:
        """The whole manifest, readable."""
        return json.dumps(
            {
                "format": self.format,
                "set_digest": self.set_digest,
                "source_digest": self.source_digest,
                "features": self.features,
                "sizes": self.sizes,
                "maps": {name: row.to_json() for name, row in self.maps.items()},
                "replaced": {name: row.to_json() for name, row in self.replaced.items()},
                "programs": {name: asdict(row) | {"path": str(row.path)} for name, row in self.programs.items()},
                "program_arrays": {name: str(path) for name, path in self.program_arrays.items()},
                "reasons": [[row.name, row.kind, row.text] for row in self.reasons],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote. Raises ValueError, KeyError or TypeError on anything else."""
        raw = json.loads(text)
        return cls(
            set_digest=raw["set_digest"],
            source_digest=raw["source_digest"],
            features=dict(raw["features"]),
            sizes=dict(raw["sizes"]),
            maps={name: MapLayout.from_json(row) for name, row in raw["maps"].items()},
            replaced={name: MapLayout.from_json(row) for name, row in raw["replaced"].items()},
            programs={
                name: ProgramInfo(**(row | {"path": Path(row["path"]), "kind": Hook(row["kind"])}))
                for name, row in raw["programs"].items()
            },
            program_arrays={name: Path(path) for name, path in raw["program_arrays"].items()},
            reasons=tuple(Reason(*row) for row in raw["reasons"]),
            format=_format(raw),
        )

    def save(self, path: Path) -> None:
        """Write the file as a whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.new")
        temporary.write_text(self.to_json(), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The manifest in that file; None when there is none, or one that cannot be used."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def check_format(path: Path) -> None:
    """Raise LoaderError when the manifest in that file is of a newer version, whatever else it says."""
    try:
        found = _format(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):
        return
    if found > FORMAT:
        raise LoaderError(
            f"{path} and what is pinned with it were left by a newer version (format {found}; this one knows {FORMAT})",
            "run that version or a newer one; or give up the flows and remove all with run --teardown",
        )


def _format(raw: dict[str, Any]) -> int:
    return int(raw.get("format", _FIRST_FORMAT))


def layout_digest(row: MapLayout, inner: MapLayout | None) -> str:
    """What two maps must share to be the same map: types, sizes, names and places of members, flags, inner map."""
    content = [row.to_json() | {"path": None}, None if inner is None else inner.to_json() | {"path": None}]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_SHORT]


def short(digest: str) -> str:
    """As much of a digest as stands in a path."""
    return digest[:_SHORT]
