"""``sluicegate replay``: a capture through the same sniffer, engine and rules as live traffic, without a kernel."""

from __future__ import annotations

import platform
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, fail
from sluicegate_agent.cli.sniffers import chosen_sniffers, names_of

if TYPE_CHECKING:
    from sluicegate_agent.dpi.events.outputs import Output
    from sluicegate_agent.dpi.summary import Summary
    from sluicegate_api.validation import LoadedSniffer

_STDOUT = "-"
_DEFAULT_VNF = "default/replay"


class ReplayFormat(StrEnum):
    """Value of ``-o``."""

    TABLE = "table"
    JSON = "json"


def replay(
    capture: Annotated[Path, typer.Argument(metavar="FILE", help="A capture: pcap or pcapng.")],
    *,
    file: Annotated[
        list[str] | None,
        typer.Option("-f", "--file", metavar="FILE|DIR", help="A DpiSniffer: rules, budget, signatures, actions."),
    ] = None,
    sniffer: Annotated[
        str | None, typer.Option("--sniffer", metavar="[NS/]NAME", help="Which DpiSniffer, when there are several.")
    ] = None,
    eve: Annotated[
        str | None, typer.Option("--eve", metavar="OUT|-", help='Write events as EVE JSON lines here; "-": stdout.')
    ] = None,
    eve_max_bytes: Annotated[
        int | None, typer.Option("--eve-max-bytes", min=65536, help="Begin a new file at this size, keep five.")
    ] = None,
    node: Annotated[str | None, typer.Option("--node", help="Node named in events; default this machine.")] = None,
    output: Annotated[ReplayFormat, typer.Option("-o", "--output", help="Form of the summary.")] = ReplayFormat.TABLE,
) -> None:
    """Run a capture through sniffer, engine and signatures offline, and say what was found and what went up.

    Needs no privileges. Exits 0 however damaged the capture is, as long as it can be read at all: 2 when it cannot, 1
    when events could not be written. Summary and events that share stdout would mix: with "--eve -" the summary goes
    to stderr.
    """
    from sluicegate_agent.cli.replay_run import ReplayError, run_replay  # noqa: PLC0415  # help needs no engine

    loaded = _chosen_sniffer(file, sniffer)
    chosen = None if loaded is None else loaded.object
    events = _open_output(eve, eve_max_bytes)
    try:
        summary = run_replay(
            capture,
            chosen,
            events,
            vnf=_DEFAULT_VNF if chosen is None else str(chosen.key),
            node=node or platform.node() or "localhost",
            base=Path() if loaded is None else Path(loaded.source).parent,
        )
    except ReplayError as error:
        fail(error.message, error.remedy, code=ExitCode.USAGE)
    finally:
        events.close()
    _print(summary, output, to_stderr=eve == _STDOUT)
    if summary.findings.interrupted:
        raise typer.Exit(130)
    raise typer.Exit(ExitCode.NOT_HEALTHY if summary.output_lost else ExitCode.OK)


def _chosen_sniffer(files: list[str] | None, name: str | None) -> LoadedSniffer | None:
    """The DpiSniffer to run; ends the process when that is not clear or it is not valid."""
    if not files:
        if name is not None:
            fail("--sniffer needs files to choose from", "name them with -f", code=ExitCode.USAGE)
        return None
    wanted = chosen_sniffers(files, name, "name a file that does, or leave out -f")
    if len(wanted) > 1:
        fail("the files hold several sniffers", f"choose one with --sniffer: {names_of(wanted)}", code=ExitCode.USAGE)
    return wanted[0]


def _open_output(eve: str | None, max_bytes: int | None) -> Output:
    from sluicegate_agent.dpi.events.outputs import FileOutput, Nowhere, OutputError, StreamOutput  # noqa: PLC0415

    if eve is None:
        return Nowhere()
    if eve == _STDOUT:
        return StreamOutput()
    try:
        return FileOutput(Path(eve), fresh=True, max_bytes=max_bytes)
    except OutputError as error:
        fail(error.message, error.remedy, code=ExitCode.USAGE)


def _print(summary: Summary, form: ReplayFormat, *, to_stderr: bool) -> None:
    if form is ReplayFormat.JSON:
        import json  # noqa: PLC0415

        typer.echo(json.dumps(summary.document(), indent=2, ensure_ascii=False), err=to_stderr)
        return
    from sluicegate_agent.cli.replay_tables import print_summary  # noqa: PLC0415

    print_summary(summary, to_stderr=to_stderr)
