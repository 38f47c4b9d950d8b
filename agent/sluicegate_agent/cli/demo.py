"""``sluicegate demo``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from sluicegate_agent.cli.output import ExitCode, fail
from sluicegate_agent.lab.demo import failover, inspection, weights
from sluicegate_agent.lab.demo.screen import LiveScreen, PlainScreen, Screen, Summary
from sluicegate_agent.lab.demo.svg import svg
from sluicegate_agent.lab.namespace import LabError

INTERRUPTED = 130

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Act(StrEnum):
    """Value of ``--act``."""

    FIRST = "1"
    SECOND = "2"
    THIRD = "3"


_ACTS: dict[Act, tuple[str, str, Callable[[Screen], Summary]]] = {
    Act.FIRST: ("failover", "Act 1: a backend is killed, one joins, the agent is killed with -9", failover.perform),
    Act.SECOND: (
        "weights",
        "Act 2: unequal backends, one slows down, one fails fast: static Maglev and dynamic weights side by side",
        weights.perform,
    ),
    Act.THIRD: (
        "inspection",
        "Act 3: traffic is looked into until it is known; one attack is dropped",
        inspection.perform,
    ),
}


def demo(
    act: Annotated[Act | None, typer.Option("--act", help="Only this act; default all.")] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", help="Write a picture of each act to this directory.", file_okay=False, hidden=True),
    ] = None,
) -> None:
    """Send real traffic while backends are killed, slow down and fail, and while it is looked into: three acts.

    Everything happens in network namespaces that the demo makes and removes. In act 1 no request may fail but those
    that the killed backend owed, and no connection to a living backend may break. In act 2 dynamic weights must do
    better than static ones under the same load at the same time. In act 3 the sniffer must tell what passes, though few
    packets are sent up to it, drop the one connection that attacks, and slow nothing down. The exit code is 0 only if
    all of that held. The first two take about a minute each, the third less than half of one.
    """
    if os.geteuid() != 0:
        fail("the demo makes network namespaces and loads programs into the kernel: only root may",
             "sudo .venv/bin/sluicegate demo", code=ExitCode.USAGE)  # fmt: skip
    console = Console()
    for number in _ENDINGS:
        signal.signal(number, _interrupt)
    good = True
    try:
        for one in Act if act is None else (act,):
            good &= _play(one, console, record)
    except KeyboardInterrupt:
        console.print("interrupted; everything is removed")
        raise typer.Exit(INTERRUPTED) from None
    except LabError as error:
        fail(
            f"the demo cannot go on: {error}",
            "sluicegate check says what this machine lacks",
            code=ExitCode.NOT_HEALTHY,
        )
    if not good:
        raise typer.Exit(ExitCode.NOT_HEALTHY)


def _play(act: Act, console: Console, record: Path | None) -> bool:
    """One act and its result; whether it showed what it should."""
    name, title, perform = _ACTS[act]
    console.print(f"\n[bold]{title}[/]", highlight=False)
    with LiveScreen(console) if console.is_terminal else PlainScreen(console) as screen:
        summary = perform(screen)
    for part in _result(summary):
        console.print(part, highlight=False)
    if record is not None:
        command = Text.assemble(("$", "bold green"), f" sluicegate demo --act {act}")
        picture = svg(
            "sluicegate demo", [command, summary.highlight.picture(), Text("\n   …", "dim"), *_result(summary)]
        )
        (record / f"{name}.svg").write_text(picture)
    return not summary.complaints


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the demo; a second Ctrl-C must not interrupt the cleaning up."""
    del number, frame
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _result(summary: Summary) -> Iterator[RenderableType]:
    """The result for people."""
    yield ""
    yield summary.results()
    yield ""
    if not summary.complaints:
        yield Text(summary.moral())
        return
    yield Text("The demo did not show what it should:", "red")
    for complaint in summary.complaints:
        yield Text(f"  {complaint}")
