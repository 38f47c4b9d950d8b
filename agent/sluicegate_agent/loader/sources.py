"""From files to the one text per program that bcc compiles, and the digest of all that decides the outcome."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.request import LoadRequest

FORMAT = 1
"""Moves when the loader itself turns the same sources into something else."""

_OWN_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
_MAP_OF_MAPS = re.compile(r'^\s*BPF_(?:ARRAY|HASH)_OF_MAPS\s*\(\s*(\w+)\s*,(?:[^,")]+,)?\s*"(\w+)"', re.MULTILINE)
_REASON = re.compile(r'^\s*REASON\(\s*(\w+)\s*,\s*(\w+)\s*,\s*"([^"]*)"\s*\)', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of ``reasons.h``; ``kind`` is pass, punt, forward or drop."""

    name: str
    kind: str
    text: str


def join(directory: Path, name: str) -> str:
    """The file with its own headers in place of their ``#include "..."`` lines, each at its first mention only.

    bcc rewrites map calls in the main file alone, so a header must not stay an include. ``#line`` keeps the places
    of errors.
    """
    lines: list[str] = []
    _append(directory, name, f"{name} is one of the programs", lines, set())
    return "\n".join(lines) + "\n"


def _append(directory: Path, name: str, wanted_by: str, lines: list[str], seen: set[str]) -> None:
    seen.add(name)
    path = directory / name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LoaderError(
            f"cannot read {path}: {error.strerror} ({wanted_by})", "restore the file or install the package again"
        ) from error
    lines.append(f'#line 1 "{path}"')
    for number, line in enumerate(text.splitlines(), start=1):
        include = _OWN_INCLUDE.match(line)
        if include is None:
            lines.append(line)
            continue
        if include[1] not in seen:
            _append(directory, include[1], f"{path}:{number} includes it", lines, seen)
        lines.append(f'#line {number + 1} "{path}"')


def inner_templates(text: str) -> dict[str, str]:
    """Map of maps → the map that is its template: bcc does not tell."""
    return dict(_MAP_OF_MAPS.findall(text))


def reasons(directory: Path) -> tuple[Reason, ...]:
    """The rows of ``reasons.h`` in order, none when there is no such file."""
    path = directory / "reasons.h"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return tuple(Reason(*row) for row in _REASON.findall(text))


def without_places(text: str) -> str:
    """A joined text that is the same wherever the sources lie: the same sources elsewhere are the same programs."""
    return re.sub(r"^#line .*\n", "", text, flags=re.MULTILINE)


def source_digest(request: LoadRequest) -> str:
    """SHA-256 over the joined texts."""
    digest = hashlib.sha256()
    for unit in request.units:
        digest.update(without_places(join(request.sources, unit.file)).encode() + b"\0")
    return digest.hexdigest()


def set_digest(request: LoadRequest) -> str:
    """SHA-256 over all that decides what a set of programs is; needs no compiler."""
    units = [[unit.file, unit.hook, unit.entries, sorted(unit.tails.items())] for unit in request.units]
    return hashlib.sha256(json.dumps([FORMAT, source_digest(request), request.defines, units]).encode()).hexdigest()
