"""How the third act looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sluicegate_agent.lab.demo.inspection_script import ALONE, DROP_SECONDS, SNIFFED, Phase, Traffic
from sluicegate_agent.lab.intruder import Standing

_BAR_CELLS = 24
_NAMES = 3


@dataclass(frozen=True, slots=True)
class InspectionFrame:
    """One moment; ``elapsed`` in seconds. ``names`` and ``visits`` by kind; ``speeds`` in bytes per second by side.

    ``known`` is what the sniffer says of the download, ``alert`` the message of the alert; both are empty before.
    """

    elapsed: float
    phase: Phase
    visits: Mapping[str, int]
    failed: int
    names: Mapping[str, Counter[str]]
    speeds: Mapping[str, float | None]
    known: str
    alert: str
    standing: Standing
    traffic: Traffic

    @property
    def line(self) -> str:
        """The moment in one line."""
        found = sum(names.total() for names in self.names.values())
        parts = [
            f"{self.elapsed:5.0f} s  {self.phase.title:<7} {found:4} names found  failed {self.failed}",
            f"sent up {percent(self.traffic.share)} of {self.traffic.packets} packets",
        ]
        if (now := self.speeds[SNIFFED]) is not None:
            parts.append(f"download {megabytes(now)}")
        if self.standing.sent:
            parts.append(f"attacker answered {self.standing.answered} of {self.standing.sent}")
        return "  ".join(parts)

    def picture(self) -> RenderableType:
        """The moment on a terminal."""
        head = Text.assemble((f"{self.elapsed:4.0f} s  ", "dim"), (self.phase.title, "bold"), f": {self.phase.happens}")
        parts = (head, self._found(), self._download(), self._attack(), packets(self.traffic))
        return Group(*(Padding(part, (1, 0, 0, 2)) for part in parts))

    def _found(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("found", header_style="dim", min_width=10)
        table.add_column("visits", header_style="dim", justify="right", min_width=6)
        table.add_column("names that clients asked for", header_style="dim", no_wrap=True, min_width=56)
        for kind, names in self.names.items():
            table.add_row(kind.upper(), f"{self.visits.get(kind, 0)}", listed(names))
        return table

    def _download(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("download", header_style="dim", min_width=10)
        table.add_column("speed", header_style="dim", justify="right", min_width=9)
        table.add_column("", min_width=_BAR_CELLS)
        table.add_column("known as", header_style="dim", no_wrap=True)
        fastest = max((now for now in self.speeds.values() if now is not None), default=1.0)
        for side in (SNIFFED, ALONE):
            now = self.speeds[side]
            bar = "" if now is None else "█" * round(now / fastest * _BAR_CELLS)
            known = self.known if side == SNIFFED else ""
            table.add_row(side, megabytes(now), Text(bar, "green" if side == SNIFFED else "dim"), known)
        return table

    def _attack(self) -> Text:
        now = self.standing
        answered = f"{now.answered} of {now.sent} requests answered" if now.sent else "–"  # noqa: RUF001  # a dash
        alert = Text.assemble((f"alert: {self.alert}", "red"), f"; dropped for {DROP_SECONDS} s")
        return Text.assemble(("attacker    ", "dim"), answered, "\n            ", alert if self.alert else "")


def packets(traffic: Traffic) -> Table:
    """What became of the packets."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("packets", header_style="dim", min_width=10)
    for title in ("sent up", "known flows", "dropped", "left alone", "lost", "share sent up"):
        table.add_column(title, header_style="dim", justify="right")
    counts = (traffic.sent, traffic.stopped, traffic.dropped, traffic.ignored)
    table.add_row(
        f"{traffic.packets}",
        *(f"{count}" for count in counts),
        Text(f"{traffic.lost}", "red" if traffic.lost else "green"),
        Text(percent(traffic.share), "bold"),
    )
    return table


def listed(names: Counter[str]) -> str:
    """The most frequent, and how many others there are."""
    most = ", ".join(name for name, _ in names.most_common(_NAMES))
    return f"{most}, {len(names) - _NAMES} more" if len(names) > _NAMES else most


def megabytes(speed: float | None) -> str:
    """Bytes per second for people."""
    return "–" if speed is None else f"{speed / 1e6:.0f} MB/s"  # noqa: RUF001  # a dash for people


def percent(share: float | None) -> str:
    """A share, with what matters of a small one."""
    if share is None:
        return "–"  # noqa: RUF001  # a dash for people
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"
