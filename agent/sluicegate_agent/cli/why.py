"""``sluicegate why lb/NAME``: the first thing that stands between a client and a backend."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, OutputFormat, fail, print_document, table_console
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent
from sluicegate_agent.control.client import AgentUnreachableError
from sluicegate_agent.control.protocol import JsonObject, Request

_TARGET = re.compile(r"(?:lb|loadbalancer|sglb)/(?:[^/\s]+/)?[^/\s]+")


def why(
    target: Annotated[str, typer.Argument(help="lb/NAME or lb/NAMESPACE/NAME", metavar="lb/NAME")],
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="Form of the answer.")] = OutputFormat.TABLE,
) -> None:
    """Say why a load balancer does or does not work: checks from the agent to the last packet, in order.

    Exits with 0 when all hold, 1 when one fails, 3 when the agent cannot be reached.
    """
    if not _TARGET.fullmatch(target):
        fail(f"{target!r} names no load balancer", "write lb/NAME or lb/NAMESPACE/NAME", code=ExitCode.USAGE)
    try:
        answer = ask_agent(Request("why", {"target": target.partition("/")[2]}), netns, socket)
        code = ExitCode.OK if answer["ok"] else ExitCode.NOT_HEALTHY
    except AgentUnreachableError as error:
        unreachable = {"id": "agent", "ok": False, "message": error.message, "next": error.next}
        answer, code = {"ok": False, "checks": [unreachable]}, ExitCode.UNREACHABLE
    if output is OutputFormat.TABLE:
        _print_table(answer)
    else:
        print_document(answer, output)
    raise typer.Exit(code)


def _print_table(answer: JsonObject) -> None:
    from rich.markup import escape  # noqa: PLC0415

    console = table_console()
    checks = answer["checks"]
    for check in checks if isinstance(checks, list) else []:
        mark = "[green] ok [/]" if check["ok"] else "[red]FAIL[/]"
        console.print(f"{mark}  [bold]{check['id']}[/]: {escape(check['message'])}", soft_wrap=True)
        if check["next"]:
            console.print(f"        next: {escape(check['next'])}", soft_wrap=True)
