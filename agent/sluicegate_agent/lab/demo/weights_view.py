"""How the second act looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluicegate_agent.lab.demo.weights_script import CORES, DYNAMIC, STATIC, Phase, Row, Weight
from sluicegate_agent.lab.outcomes import Figures

_BAR_CELLS = 12
_BAD_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class SideNow:
    """One side over the last seconds: all its requests, and those that each backend answered."""

    all: Figures
    backends: Mapping[str, Figures]


@dataclass(frozen=True, slots=True)
class WeightsFrame:
    """One moment; ``elapsed`` in seconds. ``sides`` and ``weights`` are by the names of sides and backends."""

    elapsed: float
    phase: Phase
    window: float
    sides: Mapping[str, SideNow]
    weights: Mapping[str, Weight]
    rows: tuple[Row, ...]

    @property
    def line(self) -> str:
        """The moment in one line."""
        effective = " ".join(f"{weight.effective:.0f}" for weight in self.weights.values())
        parts = [f"{self.elapsed:5.0f} s  {self.phase.title:<10}"]
        for side in (STATIC, DYNAMIC):
            now = self.sides[side].all
            parts.append(f"{side} p50 {duration(now.p50):>7} p99 {duration(now.p99):>7} failed {now.failed:3}")
        return "  ".join([*parts, f"weights {effective}"])

    def picture(self) -> RenderableType:
        """The moment on a terminal."""
        head = Text.assemble((f"{self.elapsed:4.0f} s  ", "dim"), (self.phase.title, "bold"), f": {self.phase.happens}")
        parts = (head, Group(self._backends(), self._reason()), comparison(self.rows, running=True))
        return Group(*(Padding(part, (1, 0, 0, 2)) for part in parts))

    def _backends(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(f"last {self.window:g} s", header_style="dim", min_width=18)
        table.add_column("weight", header_style="dim", min_width=11 + _BAR_CELLS)
        for title, cells in (("share", 5), ("p50", 7), ("p99", 7), ("failed", 6)):
            table.add_column(title, header_style="dim", justify="right", min_width=cells)
        largest = max((weight.effective for weight in self.weights.values()), default=0.0)
        for side, what in ((DYNAMIC, "dynamic weights"), (STATIC, "static Maglev")):
            now = self.sides[side]
            table.add_row(Text(what, "bold"), "", "", *_times(now.all), _failed(now.all))
            for name, cores in CORES.items():
                seen = now.backends.get(name, Figures())
                weight = self.weights.get(name)
                table.add_row(
                    f"{name}  {cores} core{'s' if cores > 1 else ''}",
                    _weight(weight, largest, moves=side == DYNAMIC),
                    f"{now.all.share(name):.0%}",
                    *_times(seen),
                    "",
                )
        return table

    def _reason(self) -> Text:
        """What the agent says of the backend whose weight it lowered most."""
        named = [item for item in self.weights.items() if item[1].reason]
        if not named:
            return Text("")
        name, weight = min(named, key=lambda item: item[1].effective / max(1, item[1].configured))
        return Text(f"status: {name}: {weight.reason}", "yellow", no_wrap=True, overflow="ellipsis")


def _weight(weight: Weight | None, largest: float, *, moves: bool) -> Text:
    """Configured and effective weight, and a bar; on the static side the configured one is what holds."""
    if weight is None:
        return Text("")
    if not moves:
        return Text(f"{weight.configured:3}", "dim")
    bar = "█" * max(round(weight.effective / largest * _BAR_CELLS) if largest else 0, 0)
    style = "green" if weight.effective >= weight.configured / 2 else "yellow" if weight.effective >= 1 else "red"
    return Text.assemble((f"{weight.configured:3} → ", "dim"), f"{weight.effective:4.0f} ", (bar, style))


def comparison(rows: Sequence[Row], *, running: bool = False) -> Table:
    """Both sides by phase."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("\nphase", header_style="dim")
    titles = ("p50\nstatic", "\ndynamic", "p99\nstatic", "\ndynamic", "\nratio", "failed\nstatic", "\ndynamic")
    for title in titles:
        table.add_column(title, header_style="dim", justify="right", min_width=6)
    for number, row in enumerate(rows, start=1):
        table.add_row(
            Text(row.phase.title, "bold" if running and number == len(rows) else ""),
            *_times(row.static, plain=True)[:1],
            *_times(row.dynamic, plain=True)[:1],
            _times(row.static)[1],
            _times(row.dynamic)[1],
            Text(row.in_words, "bold"),
            _failed(row.static),
            _failed(row.dynamic),
        )
    return table


def _times(seen: Figures, *, plain: bool = False) -> tuple[Text, Text]:
    """p50 and p99."""
    bad = "red" if not plain and seen.failed > _BAD_SHARE * seen.requests else ""
    return Text(duration(seen.p50)), Text(duration(seen.p99), bad)


def _failed(seen: Figures) -> Text:
    return Text(f"{seen.failed}", "red" if seen.failed else "green")


def duration(seconds: float) -> str:
    """Seconds for people; infinite where requests failed."""
    if math.isnan(seconds):
        return "–"  # noqa: RUF001  # a dash for people
    if math.isinf(seconds):
        return "∞"
    return f"{seconds:.1f} s" if seconds >= 0.9995 else f"{seconds * 1000:.0f} ms"
