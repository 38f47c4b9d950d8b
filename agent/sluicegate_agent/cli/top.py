"""``sluicegate top``: backends and VIPs at work, from the difference of two answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, RowsFormat, fail, print_document, print_rows, table_console
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent, ask_agent_or_exit
from sluicegate_agent.control.client import AgentUnreachableError
from sluicegate_agent.control.protocol import Request

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sluicegate_agent.cli.rates import BackendRow, TopAnswer, View, VipRow


class _What(StrEnum):
    BACKENDS = "backends"
    VIPS = "vips"


_SORTS = {
    _What.BACKENDS: "flows, active, inflight, packets, bits, p50, p99, failures, weight, name",
    _What.VIPS: "flows, active, packets, bits, dropped, name",
}


def top(
    what: Annotated[_What, typer.Argument(help="What to watch.", metavar="backends|vips", show_default=False)],
    *,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", min=0.1, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One table, and the end: the same as -n 1.")] = False,
    count: Annotated[
        int | None, typer.Option("-n", "--count", metavar="COUNT", min=1, help="End after so many looks.")
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="KEY",
            help=f"Backends by {_SORTS[_What.BACKENDS]}; VIPs by {_SORTS[_What.VIPS]}. The largest comes first.",
            show_default="flows",
        ),
    ] = None,
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[RowsFormat, typer.Option("-o", "--output", help="Form of the answer.")] = RowsFormat.TABLE,
) -> None:
    """Watch backends or VIPs: new flows, packets and bits per second, flows and requests under way, times, weights.

    Rates and times are those of the interval. P50 and P99 are times from a request to the first byte of its response,
    of one flow in eight; with DirectReturn answers pass elsewhere, and there are none. A weight is the configured one
    and, behind the arrow, the effective one.

    On a terminal the table is renewed in place until Ctrl-C; columns that do not fit are left out. Elsewhere one table
    is printed for each interval. -o json and yaml print a document for each, jsonl a line for each row. A star behind a
    state says that an operator drained the backend.

    Exits with 0, with 2 on wrong use, with 3 when the agent cannot be reached.
    """
    keys = _SORTS[what].split(", ")
    key = sort or keys[0]
    if key not in keys:
        fail(f"--sort: {key!r} is no key for {what}: choose from {', '.join(keys)}", code=ExitCode.USAGE)
    looks = 1 if once else count
    live = output in {RowsFormat.TABLE, RowsFormat.WIDE} and looks is None and sys.stdout.isatty()
    from sluicegate_agent.cli.rates import TopAnswer  # noqa: PLC0415

    first = TopAnswer.model_validate(ask_agent_or_exit(Request("top"), netns, socket))
    try:
        if live:
            _show_live(what, key, first, interval, lambda: ask_agent(Request("top"), netns, socket), wide=_wide(output))
        else:
            asking = _answers(first, interval, looks, lambda: ask_agent_or_exit(Request("top"), netns, socket))
            for before, after in asking:
                _print(_view(what, before, after, key), output)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.OK) from None


def _answers(
    first: TopAnswer, interval: float, looks: int | None, ask: Callable[[], object]
) -> Iterator[tuple[TopAnswer, TopAnswer]]:
    """Each answer with the one before it, one for each interval."""
    before, done = first, 0
    due = time.monotonic()
    while looks is None or done < looks:
        due += interval
        time.sleep(max(0.0, due - time.monotonic()))
        after = type(first).model_validate(ask())
        yield before, after
        before, done = after, done + 1


def _show_live(
    what: _What, key: str, first: TopAnswer, interval: float, ask: Callable[[], object], *, wide: bool
) -> None:
    """Until Ctrl-C. An agent that restarts meanwhile is waited for: the kernel goes on counting."""
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = table_console()
    waiting = Text("the first rates come after one interval")
    with Live(waiting, console=console, auto_refresh=False, screen=True) as live:
        before = first
        while True:
            live.refresh()
            time.sleep(interval)
            try:
                after = type(first).model_validate(ask())
            except AgentUnreachableError as error:
                live.update(Group(Text(f"{error.message}: still trying"), Text(f"next: {error.next}")))
                continue
            view = _view(what, before, after, key)
            head = Text(f"{what} by {key}, over {view.seconds:.1f} s; Ctrl-C ends")
            parts = [head, _table(view, console, wide=wide)] if view.rows else [head]
            live.update(Group(*parts, *([Text(f"\n{view.note}")] if view.note else [])))
            before = after


def _view(what: _What, before: TopAnswer, after: TopAnswer, key: str) -> View[BackendRow] | View[VipRow]:
    from sluicegate_agent.cli.rates import backend_view, vip_view  # noqa: PLC0415

    return backend_view(before, after, key) if what is _What.BACKENDS else vip_view(before, after, key)


def _print(view: View[BackendRow] | View[VipRow], output: RowsFormat) -> None:
    from sluicegate_agent.cli.rates import row_document, view_document  # noqa: PLC0415

    if output is RowsFormat.JSONL:
        print_rows([row_document(row) for row in view.rows])
    elif output in {RowsFormat.JSON, RowsFormat.YAML}:
        if output is RowsFormat.YAML:
            sys.stdout.write("---\n")
        print_document(view_document(view), output)
    elif view.rows:
        console = table_console()
        console.print(_table(view, console, wide=_wide(output)))
    sys.stdout.flush()
    if view.note and output not in {RowsFormat.JSON, RowsFormat.YAML}:
        typer.echo(view.note, err=True)


def _wide(output: RowsFormat) -> bool:
    return output is RowsFormat.WIDE


def _table(view: View[BackendRow] | View[VipRow], console: Console, *, wide: bool) -> Table:
    from sluicegate_agent.cli.rates import BackendRow, VipRow  # noqa: PLC0415
    from sluicegate_agent.cli.top_tables import backend_table, vip_table  # noqa: PLC0415

    vips = [row for row in view.rows if isinstance(row, VipRow)]
    if vips:
        return vip_table(vips, wide=wide, width=console.width)
    blocks = (console.encoding or "").startswith("utf")
    backends = [row for row in view.rows if isinstance(row, BackendRow)]
    return backend_table(backends, wide=wide, blocks=blocks, width=console.width)
