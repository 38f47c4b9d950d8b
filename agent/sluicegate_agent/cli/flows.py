"""``sluicegate flows``: the flows that the kernel keeps."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate_agent.cli import complete
from sluicegate_agent.cli.output import ExitCode, RowsFormat, fail, print_document, print_rows, table_console
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent_or_exit
from sluicegate_agent.control.protocol import JsonObject, Request

_Vip = Annotated[
    str | None, typer.Option("--vip", metavar="ADDR[:PORT]", help="Flows to this VIP.", autocompletion=complete.vips)
]
_Client = Annotated[str | None, typer.Option("--client", metavar="ADDR|CIDR", help="Flows of these clients.")]
_Backend = Annotated[
    str | None,
    typer.Option("--backend", metavar="ADDR[:PORT]", help="Flows at this backend.", autocompletion=complete.endpoints),
]
_Balancer = Annotated[
    str | None,
    typer.Option("--lb", metavar="[NS/]NAME", help="Flows of this load balancer.", autocompletion=complete.balancers),
]
_State = Annotated[
    str | None, typer.Option("--state", metavar="STATE", help="half-open, established, closing or closed.")
]
_Protocol = Annotated[str | None, typer.Option("--protocol", metavar="tcp|udp", help="Flows of this protocol.")]
_Limit = Annotated[int | None, typer.Option("--limit", help="Rows at most, up to 10000.", show_default="1000")]


def flows(
    *,
    vip: _Vip = None,
    client: _Client = None,
    backend: _Backend = None,
    lb: _Balancer = None,
    state: _State = None,
    protocol: _Protocol = None,
    limit: _Limit = None,
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[RowsFormat, typer.Option("-o", "--output", help="Form of the answer.")] = RowsFormat.TABLE,
) -> None:
    """List flows from the kernel's tables: who talks to which backend through which VIP.

    Without --state all active flows are listed, the same that "sluicegate status" counts; closed ones, whose FullNAT
    port rests for a minute, only with --state closed. The answer says how many match, whatever the limit.
    """
    given = {
        "vip": vip,
        "client": client,
        "backend": backend,
        "lb": lb,
        "state": state,
        "protocol": protocol,
        "limit": None if limit is None else str(limit),
    }
    words = {name: text for name, text in given.items() if text is not None}
    from sluicegate_agent.control.questions import FlowQuestion, QuestionError  # noqa: PLC0415

    try:
        FlowQuestion.parse(words)
    except QuestionError as error:
        fail(str(error), code=ExitCode.USAGE)
    answer = ask_agent_or_exit(Request("flows", words), netns, socket)
    if output in {RowsFormat.TABLE, RowsFormat.WIDE}:
        _print_table(answer, wide=output is RowsFormat.WIDE)
    elif output is RowsFormat.JSONL:
        print_rows(answer["flows"])
    else:
        print_document(answer, output)
    if answer["note"] and output not in {RowsFormat.JSON, RowsFormat.YAML}:
        typer.echo(answer["note"], err=True)


def _print_table(answer: JsonObject, *, wide: bool) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from sluicegate_agent.cli.document import FlowList  # noqa: PLC0415

    document = FlowList.model_validate(answer)
    more = ("MODE", "NAT SOURCE") if wide else ()
    columns = ("CLIENT", "VIP", "LOAD BALANCER", "BACKEND", *more, "STATE", "IDLE", "EXPIRES IN")
    table = Table(*columns, box=None, pad_edge=False)
    for flow in document.flows:
        source = (flow.mode, str(flow.source or "-")) if wide else ()
        cells = (
            str(flow.client),
            f"{flow.vip}/{flow.protocol}",
            str(flow.load_balancer or "leaving"),
            str(flow.backend or "gone"),
            *source,
            flow.state,
            f"{flow.idle_seconds:.0f} s",
            f"{flow.expires_in_seconds:.0f} s",
        )
        table.add_row(*map(escape, cells))
    console = table_console()
    if document.flows:
        console.print(table)
    counts = ", ".join(f"{count} {state}" for state, count in document.states.items() if count)
    console.print(f"{document.matched} flows match" + (f" (of any state: {counts})" if counts else ""), markup=False)
