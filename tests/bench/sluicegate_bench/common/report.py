"""What a part found: shown on the terminal, kept as JSON, rendered into its section of docs/performance.md."""

from __future__ import annotations

import json
import operator
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sluicegate_bench.common.machine import Machine
from sluicegate_bench.common.table import Table

ROOT = Path(__file__).resolve().parents[4]
RESULTS = ROOT / "build" / "bench"
DOCUMENT = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"

_MEETS = {"≤": operator.le, "≥": operator.ge}


@dataclass(frozen=True, slots=True)
class Target:
    """A promise and what came out. Nothing fails when it is missed."""

    what: str
    relation: Literal["≤", "≥"]
    limit: float
    value: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Is it kept?"""
        return bool(_MEETS[self.relation](self.value, self.limit))


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture in ``docs/images``: its file name there, what it shows, and the SVG itself."""

    name: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one part. ``raw`` is everything measured, by names of the part's own choice."""

    part: str
    command: str
    seconds: float
    machine: Machine
    tables: tuple[Table, ...]
    targets: tuple[Target, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    raw: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """For a terminal."""
        parts = [table.text() for table in self.tables]
        if self.targets:
            parts.append(_target_table(self.targets).text())
        return "\n".join([*parts, *(f"- {note}" for note in self.notes), ""])

    def markdown(self) -> str:
        """The section that a run writes; what it means stands around it, written by hand."""
        lines = [f"`{self.command}`, {self.seconds:.0f} s, on a {self.machine.sentence()}.", ""]
        lines += [f"![{figure.caption}](images/{figure.name})\n" for figure in self.figures]
        lines += [table.markdown() for table in self.tables]
        if self.targets:
            lines.append(_target_table(self.targets).markdown())
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    def save(self, directory: Path = RESULTS) -> Path:
        """Write ``<part>.json``."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.part}.json"
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what :meth:`save` wrote."""
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            part=raw["part"],
            command=raw["command"],
            seconds=raw["seconds"],
            machine=Machine(**raw["machine"]),
            tables=tuple(
                Table(table["title"], tuple(table["columns"]), tuple(tuple(row) for row in table["rows"]))
                for table in raw["tables"]
            ),
            targets=tuple(Target(**target) for target in raw["targets"]),
            figures=tuple(Figure(**figure) for figure in raw["figures"]),
            notes=tuple(raw["notes"]),
            raw=raw["raw"],
        )


def _target_table(targets: tuple[Target, ...]) -> Table:
    rows = tuple(
        (
            row.what,
            f"{row.relation} {row.limit:g} {row.unit}",
            f"{row.value:.2f} {row.unit}",
            "met" if row.met else "missed",
        )
        for row in targets
    )
    return Table("Targets", ("what", "target", "found", ""), rows)


def write_documents(parts: tuple[str, ...], results: Path = RESULTS, document: Path = DOCUMENT) -> list[str]:
    """Put the last results of these parts into their sections and pictures; returns the parts that had any.

    A section stands between ``<!-- bench:PART -->`` and ``<!-- /bench:PART -->``; nothing else is touched.
    """
    written = []
    for part in parts:
        path = results / f"{part}.json"
        if not path.exists():
            continue
        report = Report.load(path)
        replace_section(document, part, report.markdown())
        for figure in report.figures:
            (document.parent / "images" / figure.name).write_text(figure.svg, encoding="utf-8")
        written.append(part)
    return written


def replace_section(document: Path, part: str, text: str) -> None:
    """Raises ValueError when the document has no place for this part."""
    before = document.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- bench:{part} -->\n).*?(<!-- /bench:{part} -->)", re.DOTALL)
    if not place.search(before):
        raise ValueError(f"{document.name} has no section <!-- bench:{part} -->")
    document.write_text(place.sub(lambda match: f"{match[1]}\n{text}\n{match[2]}", before), encoding="utf-8")
