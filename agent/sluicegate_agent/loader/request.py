"""What the loader is asked for: which sources, which programs of them, which sizes and features."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

_MACRO = re.compile(r"[A-Z][A-Z0-9_]*")
_PACKAGE = Path(__file__).resolve().parent.parent


class Hook(StrEnum):
    """Kind of program, which decides where it can be attached."""

    XDP = "xdp"
    TC = "tc"


@dataclass(frozen=True, slots=True)
class Unit:
    """One entry file and its functions.

    ``entries`` are attached to interfaces. ``tails`` are reached through the file's program array, whose name starts
    with ``tails_``, by index.
    """

    file: str
    hook: Hook
    entries: tuple[str, ...]
    tails: dict[str, int] = field(default_factory=dict)

    @property
    def functions(self) -> tuple[str, ...]:
        """All functions, those that others call first."""
        return (*self.tails, *self.entries)


def _tails(prefix: str) -> dict[str, int]:
    """Programs that are reached by tail call, in the order of bpf/packet.h."""
    opening = ("open_nat", "open_kept", "adopt", "icmp", "fragment", "too_big", "open_local")
    names = (*opening, "sniff", "sniffed", "sniff_out", "sniff_tunnel")
    return {f"{prefix}_{name}": index for index, name in enumerate(names)}


UNITS = (
    Unit("xdp.c", Hook.XDP, ("xdp_main",), _tails("xdp")),
    Unit("tc.c", Hook.TC, ("tc_ingress", "tc_egress"), _tails("tc")),
)
"""The data path's programs."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """One set of programs. ``sizes`` become ``-DNAME=value``, ``features`` ``-DWITH_NAME=0|1``.

    ``pins`` is the directory in the BPF file system that takes ``maps/`` and ``programs/``. ``cache`` is where compiled
    files are kept; None: everything is compiled and nothing kept.
    """

    sources: Path
    pins: Path
    sizes: dict[str, int] = field(default_factory=dict)
    features: dict[str, bool] = field(default_factory=dict)
    units: tuple[Unit, ...] = UNITS
    cache: Path | None = None

    def __post_init__(self) -> None:
        for name in (*self.sizes, *self.features):
            if not _MACRO.fullmatch(name):
                raise ValueError(f"{name!r} is no macro name: capital letters, digits and _ only")

    @property
    def defines(self) -> tuple[str, ...]:
        """Compiler arguments, in an order that depends on the content only."""
        sizes = [f"-D{name}={value}" for name, value in sorted(self.sizes.items())]
        return (*sizes, *(f"-DWITH_{name}={int(on)}" for name, on in sorted(self.features.items())))

    def to_json(self) -> str:
        """The request as one line."""
        units = [
            {"file": unit.file, "hook": unit.hook, "entries": unit.entries, "tails": unit.tails} for unit in self.units
        ]
        return json.dumps(
            {
                "sources": str(self.sources),
                "pins": str(self.pins),
                "sizes": self.sizes,
                "features": self.features,
                "units": units,
                "cache": None if self.cache is None else str(self.cache),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` wrote."""
        raw = json.loads(text)
        return cls(
            sources=Path(raw["sources"]),
            pins=Path(raw["pins"]),
            sizes=dict(raw["sizes"]),
            features=dict(raw["features"]),
            units=tuple(
                Unit(unit["file"], Hook(unit["hook"]), tuple(unit["entries"]), dict(unit["tails"]))
                for unit in raw["units"]
            ),
            cache=None if raw["cache"] is None else Path(raw["cache"]),
        )


def bpf_sources() -> Path:
    """Where the programs' sources are: inside the installed package, else in the checkout's ``bpf/``."""
    installed = _PACKAGE / "_bpf"
    return installed if installed.is_dir() else _PACKAGE.parent.parent / "bpf"
