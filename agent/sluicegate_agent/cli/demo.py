"""``sluicegate demo``."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from sluicegate_agent.cli.output import ExitCode, fail
from sluicegate_agent.lab.demo import Summary, demonstrate
from sluicegate_agent.lab.namespace import LabError
from sluicegate_agent.lab.scenario import NOTICE_SECONDS, Phase
from sluicegate_agent.lab.screen import LiveScreen, PlainScreen, picture, results

INTERRUPTED = 130

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Also write a picture of the run to this file.", dir_okay=False)
    ] = None,
) -> None:
    """Balance real traffic for 45 seconds while a backend is killed, one joins, and the agent is killed with -9.

    Everything happens in network namespaces that the demo makes and removes. The exit code is 0 only if no request
    failed but those that the killed backend owed, and no connection to a living backend broke.
    """
    if os.geteuid() != 0:
        fail("the demo makes network namespaces and loads programs into the kernel: only root may",
             "sudo .venv/bin/sluicegate demo", code=ExitCode.USAGE)  # fmt: skip
    console = Console()
    for number in _ENDINGS:
        signal.signal(number, _interrupt)
    try:
        with LiveScreen(console) if console.is_terminal else PlainScreen(console) as screen:
            summary = demonstrate(screen)
    except KeyboardInterrupt:
        console.print("interrupted; everything is removed")
        raise typer.Exit(INTERRUPTED) from None
    except LabError as error:
        fail(
            f"the demo cannot go on: {error}",
            "sluicegate check says what this machine lacks",
            code=ExitCode.NOT_HEALTHY,
        )
    _tell(console, summary)
    if svg is not None:
        svg.write_text(_svg(summary))
    if summary.complaints:
        raise typer.Exit(ExitCode.NOT_HEALTHY)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the demo; a second Ctrl-C must not interrupt the cleaning up."""
    del number, frame
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _tell(console: Console, summary: Summary) -> None:
    """The result for people."""
    console.print()
    console.print(results(summary.records))
    console.print()
    if summary.complaints:
        console.print("The demo did not show what it should:", style="red")
        for complaint in summary.complaints:
            console.print(f"  {complaint}", highlight=False)
        return
    killed = next(record for record in summary.records if record.phase is Phase.BACKEND_KILLED)
    last = f"the last one {killed.last_failure:.1f} s after it died" if killed.last_failure is not None else "none"
    console.print(
        f"Only the killed backend cost anything: {killed.tally.failed} requests that were sent to it before its health"
        f" checks failed ({last}; at most {NOTICE_SECONDS:g} s are allowed).\n"
        "A backend that joins and an agent that is killed cost nothing: no request failed, no connection broke.",
        highlight=False,
    )


def _svg(summary: Summary) -> str:
    """A picture of the run: the moment after the backend's death, and the result. It loads nothing from elsewhere."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, file=nowhere, width=88, force_terminal=True, color_system="truecolor")
        console.print("[bold green]$[/] sluicegate demo")
        console.print(picture(summary.frames[list(Phase).index(Phase.BACKEND_KILLED)]))
        console.print("\n   …\n", style="dim")
        _tell(console, summary)
        text = console.export_svg(title="sluicegate demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)
