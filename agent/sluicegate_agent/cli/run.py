"""``sluicegate run``: the agent on this machine, from configuration files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, fail

_Files = Annotated[
    list[str] | None,
    typer.Option("-f", "--file", help="File, folder or glob of YAML; may be given several times.", show_default=False),
]


def run(
    *,
    file: _Files = None,
    netns: Annotated[str | None, typer.Option(help="Network namespace to work in.", show_default=False)] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="What outlives the agent is kept here.", show_default="/var/lib/sluicegate")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="ADDRESS:PORT of the metrics endpoint.", show_default="127.0.0.1:9431")
    ] = None,
    nat_ports: Annotated[
        str | None, typer.Option(help="FullNAT source ports, FIRST-LAST.", show_default="1024-29999")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help="text, json, or auto: text on a terminal.", show_default="auto")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log details too.")] = False,
    teardown: Annotated[
        bool, typer.Option("--teardown", help="Remove all that this state dir left in the kernel, and exit.")
    ] = False,
) -> None:
    """Run the agent: balance and sniff what the files describe, and follow their changes.

    Sizes come from SLUICEGATE_FLOWS, SLUICEGATE_NAT_ENTRIES, SLUICEGATE_BACKENDS, SLUICEGATE_SOURCES and
    SLUICEGATE_AFFINITIES; SLUICEGATE_HALF_OPEN_LIMIT bounds the half-open flows of a service. SLUICEGATE_SNIFFED_FLOWS,
    SLUICEGATE_DPI_WORKERS and SLUICEGATE_DPI_RING_BYTES are those of sniffers. On SIGHUP files of events are opened
    anew. When the agent ends, its programs go on forwarding; the next one takes them over. --teardown removes them.
    """
    from sluicegate_agent.failure import StartError  # noqa: PLC0415
    from sluicegate_agent.logs import set_up_logging  # noqa: PLC0415
    from sluicegate_agent.settings import SettingsError, load_settings  # noqa: PLC0415

    try:
        settings = load_settings(
            netns=netns,
            state_dir=state_dir,
            metrics=metrics,
            nat_ports=nat_ports,
            log_format=log_format,
            verbose=verbose or None,
        )
    except SettingsError as error:
        fail(str(error), code=ExitCode.USAGE)
    set_up_logging(settings.log_format, verbose=settings.verbose)
    from sluicegate_agent.service import remove_everything, serve  # noqa: PLC0415

    try:
        if teardown:
            typer.echo("removed" if remove_everything(settings) else "nothing was left to remove")
        elif file:
            serve(settings, file)
        else:
            fail("no configuration was given", "name a file or folder with -f", code=ExitCode.USAGE)
    except StartError as error:
        fail(error.message, error.remedy, code=error.exit_code)
