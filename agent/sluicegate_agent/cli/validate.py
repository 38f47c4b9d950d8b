"""``sluicegate validate``: whether configuration files can be applied."""

from __future__ import annotations

from typing import Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, OutputFormat, fail, print_document
from sluicegate_agent.source.files import FileWatcher
from sluicegate_api.validation import Problem, validate_documents


def validate(
    files: Annotated[
        list[str], typer.Option("-f", "--file", metavar="FILE|DIR", help="A file or folder; can be given again.")
    ],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE|DIR]...", help='More of them, as "-f *.yaml" gives.')
    ] = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="Form of the answer.")] = OutputFormat.TABLE,
) -> None:
    """Check configuration files without applying them: file, object, field and reason of every error, all at once.

    Exits with 1 when something is wrong. Changes nothing and needs no privileges.
    """
    found = FileWatcher([*files, *(more or ())]).poll()
    if found is None or found.missing:
        names = ", ".join(found.missing) if found is not None else ""
        fail(f"no configuration file in {names}", "name a .yaml, .yml or .json file, or a folder", code=ExitCode.USAGE)
    result = validate_documents(list(found.texts.items()))
    unreadable = [Problem(name, "", "", reason) for name, reason in found.unreadable.items()]
    problems = [*unreadable, *result.problems]
    if output is OutputFormat.TABLE:
        for problem in problems:
            typer.echo(str(problem))
        summary = f"{_count(len(result.loadbalancers), 'usable object')}, {_count(len(problems), 'problem')}"
        typer.echo(f"{summary} in {_count(len(found.texts) + len(unreadable), 'file')}", err=True)
    else:
        rows = [
            {"file": problem.source, "object": problem.object, "path": problem.path, "reason": problem.reason}
            for problem in problems
        ]
        usable = [
            {"file": each.source, "namespace": each.object.key.namespace, "name": each.object.key.name}
            for each in result.loadbalancers
        ]
        print_document({"ok": not problems, "loadbalancers": usable, "problems": rows}, output)
    raise typer.Exit(ExitCode.NOT_HEALTHY if problems else ExitCode.OK)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
