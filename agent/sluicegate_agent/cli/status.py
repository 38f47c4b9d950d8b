"""``sluicegate status``: what the agent runs, and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, OutputFormat, print_document, table_console
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent_or_exit
from sluicegate_agent.control.protocol import Request

if TYPE_CHECKING:
    from rich.console import Console

    from sluicegate_agent.cli.document import LoadBalancer, Status

_COLOURS = {"active": "green", "draining": "yellow", "pending": "yellow", "down": "red", "unreachable": "red"}


def status(
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="Form of the answer.")] = OutputFormat.TABLE,
) -> None:
    """Show interfaces, load balancers and backends of the running agent.

    Exits with 0 when everything is ready, 1 when not, 3 when the agent cannot be reached.
    """
    answer = ask_agent_or_exit(Request("status"), netns, socket)
    if output is OutputFormat.TABLE:
        from sluicegate_agent.cli.document import Status  # noqa: PLC0415

        _print_tables(Status.model_validate(answer), table_console())
    else:
        print_document(answer, output)
    raise typer.Exit(ExitCode.OK if answer["ready"] else ExitCode.NOT_HEALTHY)


def _print_tables(document: Status, console: Console) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    interfaces = Table("INTERFACE", "MODE", "REASON", box=None, pad_edge=False)
    for interface in document.interfaces:
        interfaces.add_row(interface.name, interface.mode, escape(interface.reason))
    console.print(interfaces if document.interfaces else "no interface carries our programs yet")
    for balancer in document.loadbalancers:
        console.print()
        _print_balancer(balancer, console)
    if not document.loadbalancers:
        console.print("\nno load balancer is configured")
    for problem in document.problems:
        console.print(f"\n[red]problem[/]: {escape(problem)}", soft_wrap=True)


def _print_balancer(balancer: LoadBalancer, console: Console) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    word = "[green]ready[/]" if balancer.ready else "[red]not ready[/]"
    counts = f"{balancer.backends.healthy}/{balancer.backends.total} backends"
    console.print(
        f"[bold]{balancer.namespace}/{balancer.name}[/]  {word}, {counts}  ({escape(balancer.source)})", soft_wrap=True
    )
    for condition in balancer.conditions:
        if condition.alarming:
            text = f"  {condition.type}: {condition.status}, {condition.reason}: {condition.message}"
            console.print(text, markup=False, soft_wrap=True)
    for port in balancer.ports:
        console.print(f"  {port.protocol} {port.port} ({port.name}), {port.algorithm}, {port.mode}")
        vips = Table("  VIP", "STATE", "NEW FLOWS", "ACTIVE", "PACKETS", "BYTES", "DROPPED", box=None, pad_edge=False)
        for vip in port.addresses:
            vips.add_row(
                f"  {vip.address}",
                "balanced" if vip.programmed else f"[red]{escape(vip.reason)}[/]",
                *vip.figures,
                str(vip.dropped),
            )
        console.print(vips)
        table = Table(
            "  BACKEND",
            "STATE",
            "WEIGHT",
            "NEW FLOWS",
            "ACTIVE",
            "PACKETS",
            "BYTES",
            "REASON",
            box=None,
            pad_edge=False,
        )
        for backend in port.backends:
            host = f"[{backend.address}]" if ":" in backend.address else backend.address
            table.add_row(
                escape(f"  {host}:{backend.port}"),
                f"[{_COLOURS.get(backend.state, 'default')}]{backend.state}[/]",
                str(backend.weight),
                *backend.figures,
                escape(backend.reason),
            )
        console.print(table)
