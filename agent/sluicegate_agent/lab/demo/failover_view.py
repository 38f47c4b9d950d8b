"""How the first act looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluicegate_agent.lab.demo.failover_script import Phase, Record

_BAR_CELLS = 24


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend now: ``rate`` in answers per second, ``share`` of all of them 0..1, ``state`` as the agent says."""

    name: str
    state: str
    rate: float
    share: float
    answers: int


@dataclass(frozen=True, slots=True)
class FailoverFrame:
    """One moment; ``elapsed`` in seconds, ``rate`` in answers per second."""

    elapsed: float
    phase: Phase
    agent: str
    rate: float
    backends: tuple[BackendRow, ...]
    records: tuple[Record, ...]

    @property
    def line(self) -> str:
        """The moment in one line."""
        shares = "  ".join(f"{row.name} {row.share:4.0%}" for row in self.backends)
        failed = self.records[-1].tally.failed if self.records else 0
        return f"{self.elapsed:5.0f} s  {self.phase.title:<15} {self.rate:4.0f} req/s  {shares}  failed {failed}"

    def picture(self) -> RenderableType:
        """The moment on a terminal."""
        head = Text.assemble(
            (f"{self.elapsed:4.0f} s  ", "dim"),
            (self.phase.title, "bold"),
            f": {self.phase.happens}\n",
            ("        agent ", "dim"),
            self.agent,
        )
        backends = Table(box=None, padding=(0, 2, 0, 0))
        for title in ("backend", "state", "share", ""):
            backends.add_column(title, header_style="dim")
        for title in ("req/s", "answers"):
            backends.add_column(title, header_style="dim", justify="right")
        for row in self.backends:
            bar = "█" * round(row.share * _BAR_CELLS)
            style = {"active": "green", "down": "red"}.get(row.state, "yellow")
            backends.add_row(
                row.name,
                Text(row.state, style),
                Text(f"{bar:<{_BAR_CELLS}}", style),
                f"{row.share:4.0%}",
                f"{row.rate:.0f}",
                f"{row.answers}",
            )
        parts = (head, backends, results(self.records, running=True))
        return Group(*(Padding(part, (1, 0, 0, 2)) for part in parts))


def results(records: Sequence[Record], *, running: bool = False) -> Table:
    """Requests and failures per phase."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("phase", header_style="dim")
    for title in ("requests", "failed", "broken connections", "slowest"):
        table.add_column(title, header_style="dim", justify="right")
    for number, record in enumerate(records, start=1):
        tally = record.tally
        failures = ", ".join(f"{count} {kind}" for kind, count in _kinds(record).items())
        bad = "yellow" if record.phase is Phase.BACKEND_KILLED else "red"
        table.add_row(
            Text(record.phase.title, "bold" if running and number == len(records) else ""),
            f"{tally.answered + tally.failed}",
            Text(failures or "0", bad if tally.failed else "green"),
            Text(f"{tally.broken.total()}", bad if tally.broken else "green"),
            f"{tally.slowest * 1000:.0f} ms",
        )
    return table


def _kinds(record: Record) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for (_, kind), count in record.tally.failures.items():
        kinds[kind] = kinds.get(kind, 0) + count
    return kinds
