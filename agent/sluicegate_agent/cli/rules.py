"""``sluicegate rules``: what became of each rule of a sniffer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluicegate_agent.cli.output import ExitCode, LinesFormat, fail, print_document, print_rows, table_console
from sluicegate_agent.cli.sniffers import chosen_sniffers

if TYPE_CHECKING:
    from sluicegate_agent.dpi.rules.load import Outcome, RuleSet

_COLOURS = {"loaded": "green", "rewritten": "yellow", "refused": "red", "quarantined": "red"}


class Which(StrEnum):
    """Which rules."""

    LIST = "list"
    FAILED = "failed"


def rules(
    which: Annotated[Which, typer.Argument(help="list: all rules; failed: those that are not in force, and why.")],
    files: Annotated[
        list[str],
        typer.Option("-f", "--file", metavar="FILE|DIR", help="A file or folder with DpiSniffers; can be given again."),
    ],
    sniffer: Annotated[
        str | None, typer.Option("--sniffer", metavar="[NS/]NAME", help="This DpiSniffer only; default all.")
    ] = None,
    output: Annotated[LinesFormat, typer.Option("-o", "--output", help="Form of the answer.")] = LinesFormat.TABLE,
) -> None:
    """Load the rules of sniffers as the engine does, and say of each whether it is in force, and if not, why.

    Each rule is compiled and tried on a sample in a process of its own. COST is how many times as long as a plain
    content it takes. Exits with 1 when a rule is not in force. Changes nothing and needs no privileges.
    """
    found = _load(files, sniffer)
    rows = [
        _row(name, outcome)
        for name, loaded in found.items()
        for outcome in loaded.outcomes
        if which is Which.LIST or not outcome.state.in_force
    ]
    failed = sum(not outcome.state.in_force for loaded in found.values() for outcome in loaded.outcomes)
    if output is LinesFormat.TABLE:
        _print_table(rows, names=len(found) > 1)
        for name, loaded in found.items():
            typer.echo(f"{name}: {_summary(loaded)}", err=True)
    elif output is LinesFormat.JSONL:
        print_rows(rows)
    else:
        print_document({"ok": not failed, "rules": rows}, output)
    raise typer.Exit(ExitCode.NOT_HEALTHY if failed else ExitCode.OK)


def _load(files: list[str], wanted: str | None) -> dict[str, RuleSet]:
    """The rules of each sniffer by its name; ends the process when there is none or the files have errors."""
    from sluicegate_agent.dpi.rules.load import load  # noqa: PLC0415
    from sluicegate_agent.dpi.rules.sources import sources_of  # noqa: PLC0415
    from sluicegate_agent.dpi.rules.vectorscan import NoVectorscanError  # noqa: PLC0415

    chosen = chosen_sniffers(files, wanted, "name a file that does with -f")
    try:
        return {
            str(each.object.key): load(
                sources_of(each.object, Path(each.source).parent), each.object.spec.variables or {}
            )
            for each in chosen
        }
    except NoVectorscanError as error:
        fail(str(error), "apt-get install libvectorscan5", code=ExitCode.NOT_HEALTHY)


def _row(sniffer: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "sniffer": sniffer,
        "source": outcome.source,
        "line": outcome.line,
        "column": outcome.column,
        "state": outcome.state.value,
        "sid": outcome.sid,
        "rev": outcome.rev,
        "msg": _clean(outcome.message),
        "option": outcome.keyword,
        "reason": _clean(outcome.reason),
        "cost": None if outcome.cost is None else round(outcome.cost, 1),
    }


def _clean(text: str) -> str:
    """Text without bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _print_table(rows: list[dict[str, Any]], *, names: bool) -> None:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    if not rows:
        return
    table = Table(box=None, pad_edge=False)
    for head in (*(("SNIFFER",) if names else ()), "STATE", "SID", "PLACE", "COST", "MESSAGE", "REASON"):
        table.add_column(head, justify="right" if head == "COST" else "left", overflow="fold")
    for row in rows:
        state = str(row["state"])
        place = ":".join(str(part) for part in (row["source"], row["line"], row["column"]) if part)
        reason = f"{row['option']}: {row['reason']}" if row["option"] else str(row["reason"])
        cells = (
            *((escape(str(row["sniffer"])),) if names else ()),
            f"[{_COLOURS[state]}]{state}[/]",
            str(row["sid"] or "-"),
            escape(place),
            "-" if row["cost"] is None else f"{row['cost']:.1f}",
            escape(str(row["msg"])),
            escape(reason),
        )
        table.add_row(*cells)
    table_console().print(table)


def _summary(loaded: RuleSet) -> str:
    """How many rules are in each state."""
    counts = loaded.counts()
    if not loaded.outcomes:
        return "no rules: spec.signatures names none"
    return ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
