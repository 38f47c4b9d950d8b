"""``sluicegate check``: whether this machine can run the agent."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, OutputFormat, fail, print_document, table_console


def check(
    netns: Annotated[str | None, typer.Option("--netns", help="Look into this network namespace.")] = None,
    nat_ports: Annotated[str | None, typer.Option("--nat-ports", help="FullNAT source ports, FIRST-LAST.")] = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="Form of the answer.")] = OutputFormat.TABLE,
) -> None:
    """Check whether this machine can run the agent: one row per condition, with what to do where it does not hold.

    Exits with 1 when a condition fails. Changes nothing.
    """
    from sluicegate_agent.network.namespace import NamespaceError, enter  # noqa: PLC0415
    from sluicegate_agent.preflight.check import Level, preflight, worst  # noqa: PLC0415
    from sluicegate_agent.preflight.machine import gather  # noqa: PLC0415
    from sluicegate_agent.preflight.probes import ask_kernel, interfaces  # noqa: PLC0415
    from sluicegate_agent.settings import SettingsError, load_settings  # noqa: PLC0415

    try:
        settings = load_settings(netns=netns, nat_ports=nat_ports)
        if settings.netns is not None:
            enter(settings.netns)
    except (SettingsError, NamespaceError) as error:
        fail(str(error), code=ExitCode.USAGE)
    rows = preflight(gather(), ask_kernel(), settings.nat_ports, interfaces())
    passed = worst(rows) is not Level.FAIL
    if output is OutputFormat.TABLE:
        from rich.markup import escape  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415

        colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
        table = Table("", "CHECK", "FOUND", "WHAT TO DO", box=None, pad_edge=False)
        for row in rows:
            table.add_row(f"[{colours[row.level]}]{row.level}[/]", row.id, escape(row.message), escape(row.remedy))
        table_console().print(table)
    else:
        checks = [{"id": row.id, "level": str(row.level), "message": row.message, "next": row.remedy} for row in rows]
        print_document({"ok": passed, "checks": checks}, output)
    raise typer.Exit(ExitCode.OK if passed else ExitCode.NOT_HEALTHY)
