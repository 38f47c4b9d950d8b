"""The tables of ``sluicegate top``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from sluicegate_agent.cli.output import STATE_COLOURS
from sluicegate_agent.cli.rates import BackendRow, VipRow

BAR_CELLS = 8
_GAP = 2
_LEAST_REASON = 24
"""Cells that are kept free for reasons, which wrap."""

_EIGHTHS = " ▏▎▍▌▋▊▉"
_UNITS = ("", "k", "M", "G", "T")


def backend_table(rows: Sequence[BackendRow], *, wide: bool, blocks: bool, width: int) -> Table:
    """``blocks``: the terminal can show block characters. Wide adds responses and failures."""
    largest: dict[tuple[str, str], float] = {}
    for row in rows:
        place = (row.load_balancer, row.port)
        largest[place] = max(largest.get(place, 0.0), row.weight, row.effective_weight)
    bars = [bar(row.effective_weight, largest[row.load_balancer, row.port], blocks=blocks) for row in rows]
    failures = [
        _Column("RESPONSES/S", [_figure(row.responses_per_second) for row in rows]),
        _Column("FAILURES/S", [_figure(row.failures_per_second) for row in rows]),
    ]
    columns = [
        _Column("LOAD BALANCER", [f"{row.load_balancer} {row.port}" for row in rows], "left"),
        _Column("BACKEND", [row.name for row in rows], "left"),
        _Column("STATE", [row.state + "*" * row.overridden for row in rows], "left"),
        _Column("FLOWS/S", [_figure(row.new_flows_per_second) for row in rows]),
        _Column("ACTIVE", [str(row.active_flows) for row in rows], rank=2),
        _Column("IN FLIGHT", [str(row.in_flight) for row in rows], rank=3),
        _Column("PACKETS/S", [_figure(row.packets_per_second) for row in rows], rank=6),
        _Column("BITS/S", [_figure(row.bits_per_second) for row in rows], rank=5),
        *(failures if wide else ()),
        _Column("P50", [seconds_text(row.p50) for row in rows], rank=1),
        _Column("P99", [seconds_text(row.p99) for row in rows]),
        _Column("WEIGHT", [f"{row.weight} -> {row.effective_weight:.4g}" for row in rows]),
        _Column("", bars, "left", rank=4),
    ]
    return _table(columns, [row.reason for row in rows], width)


def vip_table(rows: Sequence[VipRow], *, wide: bool, width: int) -> Table:
    """Narrow leaves out the load balancer's port."""
    owners = [f"{row.load_balancer} {row.port}" if wide else row.load_balancer for row in rows]
    columns = [
        _Column("VIP", [f"{row.name}/{row.protocol}" for row in rows], "left"),
        _Column("LOAD BALANCER", owners, "left"),
        _Column("STATE", [row.state for row in rows], "left"),
        _Column("FLOWS/S", [_figure(row.new_flows_per_second) for row in rows]),
        _Column("ACTIVE", [str(row.active_flows) for row in rows], rank=1),
        _Column("PACKETS/S", [_figure(row.packets_per_second) for row in rows], rank=3),
        _Column("BITS/S", [_figure(row.bits_per_second) for row in rows], rank=2),
        _Column("DROPPED/S", [_figure(row.dropped_per_second) for row in rows]),
    ]
    return _table(columns, [row.reason for row in rows], width)


@dataclass(frozen=True, slots=True)
class _Column:
    """One column. ``rank`` says in which order columns give way on a narrow terminal, the highest first; 0: never."""

    head: str
    cells: Sequence[str]
    justify: Literal["left", "right"] = "right"
    rank: int = 0

    @property
    def width(self) -> int:
        """Cells of the terminal, with the gap to the next column."""
        return max(map(cell_len, (self.head, *self.cells))) + _GAP


def _table(columns: list[_Column], reasons: Sequence[str], width: int) -> Table:
    """The columns that fit beside a piece of the reasons."""
    room = width - min(_LEAST_REASON, max(map(cell_len, ("REASON", *reasons))))
    while sum(column.width for column in columns) > room and any(column.rank for column in columns):
        columns.remove(max(columns, key=lambda column: column.rank))
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.head, justify=column.justify, no_wrap=True)
    table.add_column("REASON")
    for number, reason in enumerate(reasons):
        cells = [escape(column.cells[number]) for column in columns]
        state = next(index for index, column in enumerate(columns) if column.head == "STATE")
        colour = STATE_COLOURS.get(columns[state].cells[number].rstrip("*"), "default")
        cells[state] = f"[{colour}]{cells[state]}[/]"
        table.add_row(*cells, escape(reason))
    return table


def bar(value: float, largest: float, *, blocks: bool) -> str:
    """A bar of BAR_CELLS cells: full for the largest weight of the port, empty for 0; a sliver for anything above."""
    if largest <= 0 or value <= 0:
        return " " * BAR_CELLS
    share = min(1.0, value / largest)
    if not blocks:
        return ("#" * max(1, round(share * BAR_CELLS))).ljust(BAR_CELLS)
    full, rest = divmod(max(1, round(share * BAR_CELLS * 8)), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(BAR_CELLS)


def seconds_text(seconds: float | None) -> str:
    """A time with its unit and three digits: "1.23 ms"; a dash for none."""
    if seconds is None:
        return "-"
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _figure(value: float) -> str:
    """Three digits and a decimal unit: "1.23k"."""
    if not value:
        return "0"
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            return f"{value:.0f}{unit}" if value >= 99.95 else f"{value:.3g}{unit}"
        value /= 1000
    return "0"
