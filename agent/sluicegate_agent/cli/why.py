"""``sluicegate why``: the first thing that stands between a client and a backend."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sluicegate_agent.cli import complete
from sluicegate_agent.cli.output import ExitCode, LinesFormat, fail, print_document, print_rows, table_console
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent
from sluicegate_agent.control.client import AgentUnreachableError
from sluicegate_agent.control.protocol import JsonObject, Request

_SNIFFER = "DpiSniffer"
_KINDS = {"lb": "", "loadbalancer": "", "sglb": "", "dpi": _SNIFFER, "dpisniffer": _SNIFFER, "sgdpi": _SNIFFER}
_TARGET = re.compile(rf"({'|'.join(_KINDS)})/((?:[^/\s]+/)?[^/\s]+)")


def why(
    target: Annotated[
        str,
        typer.Argument(
            help="A load balancer, a sniffer, or the client of a packet: 10.0.0.7:40000",
            metavar="lb/NAME|dpi/NAME|SRC:PORT",
            autocompletion=complete.targets,
        ),
    ],
    vip: Annotated[
        str | None,
        typer.Argument(
            help="Where the packet goes: 203.0.113.10:80 or [2001:db8::10]:80",
            metavar="VIP:PORT",
            autocompletion=complete.vips,
        ),
    ] = None,
    protocol: Annotated[str | None, typer.Argument(help="tcp or udp", metavar="tcp|udp", show_default="tcp")] = None,
    *,
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[LinesFormat, typer.Option("-o", "--output", help="Form of the answer.")] = LinesFormat.TABLE,
) -> None:
    """Say why a load balancer or a sniffer works or not: checks from the agent to the last packet, in order.

    With SRC:PORT VIP:PORT: what becomes of that client's packet, from the interface to the backend. At the end the
    loaded program is run on a made-up packet (an ACK if the connection is known, else a SYN or an empty datagram).
    Nothing is sent, and the flow that it opens is removed at once; it does count as a packet, as a new flow, against
    maxNewConnectionsPerSecond and as a turn of RoundRobin, and it refreshes a flow that is there.

    Exits with 0 when all checks hold, 1 when one fails, 3 when the agent cannot be reached.
    """
    request = _packet(target, vip, protocol) if vip is not None else _object(target)
    try:
        answer = ask_agent(request, netns, socket)
        code = ExitCode.OK if answer["ok"] else ExitCode.NOT_HEALTHY
    except AgentUnreachableError as error:
        unreachable = {"id": "agent", "ok": False, "message": error.message, "next": error.next}
        answer, code = {"ok": False, "checks": [unreachable]}, ExitCode.UNREACHABLE
    if output is LinesFormat.TABLE:
        _print_table(answer)
    elif output is LinesFormat.JSONL:
        print_rows(answer["checks"])
    else:
        print_document(answer, output)
    raise typer.Exit(code)


def _object(target: str) -> Request:
    found = _TARGET.fullmatch(target)
    if found is None:
        fail(
            f"{target!r} names no load balancer and no sniffer",
            "write lb/NAME, lb/NAMESPACE/NAME or dpi/NAME, or for one packet: why SRC:PORT VIP:PORT [tcp|udp]",
            code=ExitCode.USAGE,
        )
    kind = _KINDS[found[1]]
    return Request("why", {"target": found[2], **({"kind": kind} if kind else {})})


def _packet(client: str, vip: str, protocol: str | None) -> Request:
    from sluicegate_agent.control.questions import PacketQuestion, QuestionError  # noqa: PLC0415

    words = {"client": client, "vip": vip, "protocol": protocol or "tcp"}
    try:
        PacketQuestion.parse(words)
    except QuestionError as error:
        fail(str(error), "sluicegate why SRC:PORT VIP:PORT [tcp|udp]", code=ExitCode.USAGE)
    return Request("why-packet", words)


def _print_table(answer: JsonObject) -> None:
    from rich.markup import escape  # noqa: PLC0415

    console = table_console()
    checks = answer["checks"]
    for check in checks if isinstance(checks, list) else []:
        mark = "[green] ok [/]" if check["ok"] else "[red]FAIL[/]"
        first, *more = str(check["message"]).split("\n")
        console.print(f"{mark}  [bold]{check['id']}[/]: {escape(first)}", soft_wrap=True)
        for line in more:
            console.print(f"        {line}", markup=False, soft_wrap=True)
        if check["next"]:
            console.print(f"        next: {escape(check['next'])}", soft_wrap=True)
