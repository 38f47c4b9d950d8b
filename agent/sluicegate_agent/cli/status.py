"""``sluicegate status``: what the agent runs, and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, WideFormat, print_document, table_console
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent_or_exit
from sluicegate_agent.control.protocol import Request

if TYPE_CHECKING:
    from rich.console import Console

    from sluicegate_agent.cli.document import LoadBalancer, Port, Status

_COLOURS = {"active": "green", "draining": "yellow", "pending": "yellow", "down": "red", "unreachable": "red"}


def status(
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[WideFormat, typer.Option("-o", "--output", help="Form of the answer.")] = WideFormat.TABLE,
) -> None:
    """Show interfaces, load balancers and backends of the running agent.

    -o wide adds the program on each interface, limits in force, effective weights, and what this node dropped and why.
    Exits with 0 when everything is ready, 1 when not, 3 when the agent cannot be reached.
    """
    answer = ask_agent_or_exit(Request("status"), netns, socket)
    if output in {WideFormat.TABLE, WideFormat.WIDE}:
        from sluicegate_agent.cli.document import Status  # noqa: PLC0415

        _print_tables(Status.model_validate(answer), table_console(), wide=output is WideFormat.WIDE)
    else:
        print_document(answer, output)
    raise typer.Exit(ExitCode.OK if answer["ready"] else ExitCode.NOT_HEALTHY)


def _print_tables(document: Status, console: Console, *, wide: bool) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    interfaces = Table("INTERFACE", "MODE", "REASON", *(["PROGRAM"] if wide else []), box=None, pad_edge=False)
    for interface in document.interfaces:
        more = [interface.program] if wide else []
        interfaces.add_row(interface.name, interface.mode, escape(interface.reason), *more)
    console.print(interfaces if document.interfaces else "no interface carries our programs yet")
    console.print(f"\n{document.flows.active} active flows, {document.flows.half_open} of them half-open")
    for balancer in document.loadbalancers:
        console.print()
        _print_balancer(balancer, console, wide=wide)
    if not document.loadbalancers:
        console.print("\nno load balancer is configured")
    if wide and document.drops:
        drops = Table("DROPPED", "PACKETS", "BECAUSE", box=None, pad_edge=False)
        for drop in document.drops:
            drops.add_row(drop.reason, str(drop.packets), escape(drop.text))
        console.print()
        console.print(drops)
    for problem in document.problems:
        console.print(f"\n[red]problem[/]: {escape(problem)}", soft_wrap=True)


def _print_balancer(balancer: LoadBalancer, console: Console, *, wide: bool) -> None:
    from rich.markup import escape  # noqa: PLC0415

    word = "[green]ready[/]" if balancer.ready else "[red]not ready[/]"
    counts = f"{balancer.backends.healthy}/{balancer.backends.total} backends"
    console.print(
        f"[bold]{balancer.namespace}/{balancer.name}[/]  {word}, {counts}  ({escape(balancer.source)})", soft_wrap=True
    )
    for condition in balancer.conditions:
        if condition.alarming:
            text = f"  {condition.type}: {condition.status}, {condition.reason}: {condition.message}"
            console.print(text, markup=False, soft_wrap=True)
    if wide:
        console.print(f"  limits: {balancer.limits.words or 'none'}", markup=False, soft_wrap=True)
    for port in balancer.ports:
        console.print(f"  {port.protocol} {port.port} ({port.name}), {port.algorithm}, {port.mode}")
        if port.panic:
            console.print(f"  [red]panic[/]: {escape(port.panic)}", soft_wrap=True)
        _print_port(port, console, wide=wide)


def _print_port(port: Port, console: Console, *, wide: bool) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    figures = ("NEW FLOWS", "ACTIVE", "PACKETS", "BYTES")
    vips = Table("  VIP", "STATE", *figures, "DROPPED", box=None, pad_edge=False)
    for vip in port.addresses:
        state = "balanced" if vip.programmed else f"[red]{escape(vip.reason)}[/]"
        vips.add_row(f"  {vip.address}", state, *vip.figures, str(vip.dropped))
    console.print(vips)
    weights = ("WEIGHT", "EFFECTIVE") if wide else ("WEIGHT",)
    table = Table("  BACKEND", "STATE", *weights, *figures, "REASON", box=None, pad_edge=False)
    for backend in port.backends:
        host = f"[{backend.address}]" if ":" in backend.address else backend.address
        table.add_row(
            escape(f"  {host}:{backend.port}"),
            f"[{_COLOURS.get(backend.state, 'default')}]{backend.state}[/]",
            *[str(backend.weight), str(backend.effective_weight)][: len(weights)],
            *backend.figures,
            escape(backend.reason),
        )
    console.print(table)
