"""How commands print results and end: data on stdout, words about trouble on stderr."""

from __future__ import annotations

import json
import sys
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 250

STATE_COLOURS = {
    "active": "green",
    "balanced": "green",
    "draining": "yellow",
    "pending": "yellow",
    "waiting": "red",
    "down": "red",
    "unreachable": "red",
}
"""Of states of backends and VIPs; the word itself always stands beside."""


class ExitCode(IntEnum):
    """What scripts may rely on."""

    OK = 0
    NOT_HEALTHY = 1
    USAGE = 2
    UNREACHABLE = 3


class OutputFormat(StrEnum):
    """Value of ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class LinesFormat(StrEnum):
    """Value of ``-o`` for a few rows. jsonl: one row of JSON per line."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"


class RowsFormat(StrEnum):
    """Value of ``-o`` for many rows. jsonl: one row of JSON per line."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"


def print_rows(rows: object) -> None:
    """Print each row as JSON on a line of its own."""
    for row in rows if isinstance(rows, list) else []:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")


def print_document(document: object, form: OutputFormat | LinesFormat | RowsFormat) -> None:
    """Print plain data as YAML or else as JSON."""
    if form == OutputFormat.YAML.value:
        import yaml  # noqa: PLC0415  # only this form needs it

        yaml.safe_dump(document, sys.stdout, sort_keys=False, allow_unicode=True)
    else:
        json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")


def table_console() -> Console:
    """Where tables go: rich keeps to the terminal's width and to NO_COLOR; a pipe takes long lines."""
    from rich.console import Console  # noqa: PLC0415  # 60 ms that help does not need

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def fail(message: str, remedy: str = "", *, code: int) -> NoReturn:
    """End with a message on stderr: what is wrong, and what to do next."""
    typer.echo(f"error: {message}", err=True)
    if remedy:
        typer.echo(f"  next: {remedy}", err=True)
    raise typer.Exit(code)
