"""The demo on a terminal: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluicegate_agent.lab.scenario import Phase, Record

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
class Frame:
    """Everything that the screen shows at one moment; ``elapsed`` in seconds."""

    elapsed: float
    phase: Phase
    agent: str
    rate: float
    backends: tuple[BackendRow, ...]
    records: tuple[Record, ...]


class Screen(Protocol):
    """Where the demo shows itself."""

    def note(self, text: str) -> None:
        """Something happened."""
        ...

    def show(self, frame: Frame) -> None:
        """This is how it is now."""
        ...


class PlainScreen(AbstractContextManager["PlainScreen"]):
    """One line per event and one per second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown_second = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def note(self, text: str) -> None:
        """Print it."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def show(self, frame: Frame) -> None:
        """Print a line when a new second began."""
        if int(frame.elapsed) == self._shown_second:
            return
        self._shown_second = int(frame.elapsed)
        shares = "  ".join(f"{row.name} {row.share:4.0%}" for row in frame.backends)
        failed = frame.records[-1].tally.failed if frame.records else 0
        line = f"{frame.elapsed:5.0f} s  {frame.phase.title:<15} {frame.rate:4.0f} req/s  {shares}  failed {failed}"
        self._console.print(line, highlight=False, soft_wrap=True)


class LiveScreen(AbstractContextManager["LiveScreen"]):
    """A table that is drawn anew in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        """Take over the terminal's last lines."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._live.__exit__(kind, error, trace)

    def note(self, text: str) -> None:
        """Print it above the table, where it stays."""
        self._live.console.print(text, highlight=False)

    def show(self, frame: Frame) -> None:
        """Draw the frame."""
        self._live.update(picture(frame))


def picture(frame: Frame) -> RenderableType:
    """One moment of the demo."""
    head = Text.assemble(
        (f"{frame.elapsed:4.0f} s  ", "dim"),
        (frame.phase.title, "bold"),
        f": {frame.phase.happens}\n",
        ("        agent ", "dim"),
        frame.agent,
    )
    backends = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("backend", "state", "share", ""):
        backends.add_column(title, header_style="dim")
    for title in ("req/s", "answers"):
        backends.add_column(title, header_style="dim", justify="right")
    for row in frame.backends:
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
    parts = (head, backends, results(frame.records, running=True))
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
