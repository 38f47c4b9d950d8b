"""``sluicegate status``: what the agent runs, and how it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate_agent.cli.output import STATE_COLOURS, ExitCode, RowsFormat, print_document, print_rows, table_console
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent_or_exit
from sluicegate_agent.control.protocol import JsonObject, Request

if TYPE_CHECKING:
    from rich.console import Console

    from sluicegate_agent.cli.document import Backend, LoadBalancer, Port, Status


def status(
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[RowsFormat, typer.Option("-o", "--output", help="Form of the answer.")] = RowsFormat.TABLE,
) -> None:
    """Show interfaces, load balancers, backends and sniffers of the running agent.

    -o wide adds the program on each interface, limits in force, effective weights and where they come from, what
    this node dropped and why, and of sniffers rules, workers and packets by what became of them. -o jsonl prints a line
    for each load balancer and each sniffer.

    Exits with 0 when everything is ready, 1 when not, 3 when the agent cannot be reached.
    """
    answer = ask_agent_or_exit(Request("status"), netns, socket)
    if output in {RowsFormat.TABLE, RowsFormat.WIDE}:
        from sluicegate_agent.cli.document import Status  # noqa: PLC0415

        _print_tables(Status.model_validate(answer), table_console(), wide=output is RowsFormat.WIDE)
    elif output is RowsFormat.JSONL:
        print_rows([*_rows(answer, "loadbalancers"), *_rows(answer, "sniffers")])
    else:
        print_document(answer, output)
    raise typer.Exit(ExitCode.OK if answer["ready"] else ExitCode.NOT_HEALTHY)


def _rows(answer: JsonObject, kind: str) -> list[object]:
    found = answer.get(kind)
    return found if isinstance(found, list) else []


def _print_tables(document: Status, console: Console, *, wide: bool) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from sluicegate_agent.cli.sniffer_tables import print_sniffer  # noqa: PLC0415

    interfaces = Table("INTERFACE", "MODE", "REASON", *(["PROGRAM"] if wide else []), box=None, pad_edge=False)
    for interface in document.interfaces:
        more = [interface.program] if wide else []
        interfaces.add_row(interface.name, interface.mode, escape(interface.reason), *more)
    console.print(interfaces if document.interfaces else "no interface carries our programs yet")
    console.print(f"\n{document.flows.active} active flows, {document.flows.half_open} of them half-open")
    for balancer in document.loadbalancers:
        console.print()
        _print_balancer(balancer, console, wide=wide)
    for sniffer in document.sniffers:
        console.print()
        print_sniffer(sniffer, console, wide=wide)
    if not document.loadbalancers and not document.sniffers:
        console.print("\nno load balancer and no sniffer is configured")
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
        source = "" if port.dynamic_weights == "None" else f", weights by {port.dynamic_weights}"
        console.print(f"  {port.protocol} {port.port} ({port.name}), {port.algorithm}, {port.mode}{source}")
        if port.panic:
            console.print(f"  [red]panic[/]: {escape(port.panic)}", soft_wrap=True)
        if port.note and port.note != port.panic:
            console.print(f"  [yellow]weights[/]: {escape(port.note)}", soft_wrap=True)
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
    weights = ("WEIGHT", "EFFECTIVE", "SIGNAL") if wide else ("WEIGHT",)
    table = Table("  BACKEND", "STATE", *weights, *figures, "REASON", box=None, pad_edge=False)
    for backend in port.backends:
        host = f"[{backend.address}]" if ":" in backend.address else backend.address
        table.add_row(
            escape(f"  {host}:{backend.port}"),
            f"[{STATE_COLOURS.get(backend.state, 'default')}]{backend.state}[/]",
            *[str(backend.weight), f"{backend.effective_weight:.4g}", _signal(backend)][: len(weights)],
            *backend.figures,
            escape(_reason(backend, wide=wide)),
        )
    console.print(table)


def _signal(backend: Backend) -> str:
    """How old the last report of its load is; a dash where it is not asked."""
    if backend.signal is None:
        return "-"
    age = backend.signal.age_seconds
    return "never" if age is None else f"{age:.1f} s ago"


def _reason(backend: Backend, *, wide: bool) -> str:
    """What keeps it back: checks, routes, operators; in the wide form also why its weight is what it is."""
    parts = [backend.reason]
    if backend.override is not None and backend.override.until not in backend.reason:
        parts.append(f"{backend.override.action} until {backend.override.until}, said by an operator")
    if wide:
        from sluicegate_agent.weights.reasons import CONFIGURED, NOT_USABLE  # noqa: PLC0415

        weight = backend.weights.reason if backend.weights else ""
        parts += ["" if weight in {CONFIGURED, NOT_USABLE} else weight, backend.signal.error if backend.signal else ""]
    return "; ".join(dict.fromkeys(filter(None, parts)))
