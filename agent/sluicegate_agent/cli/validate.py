"""``sluicegate validate``: whether configuration files can be applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from sluicegate_agent.cli.output import ExitCode, OutputFormat, fail, print_document
from sluicegate_agent.source.files import Files, FileWatcher
from sluicegate_api.validation import LoadedResource, Problem, Resource, ValidationResult, validate_documents


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
    found = read_files([*files, *(more or ())])
    result = validate_documents(list(found.texts.items()))
    problems = problems_of(found, result)
    if output is OutputFormat.TABLE:
        for problem in problems:
            typer.echo(str(problem))
        usable = len(result.loadbalancers) + len(result.sniffers)
        summary = f"{_count(usable, 'usable object')}, {_count(len(problems), 'problem')}"
        typer.echo(f"{summary} in {_count(len(found.texts) + len(found.unreadable), 'file')}", err=True)
    else:
        document = {
            "ok": not problems,
            "loadbalancers": _usable_rows(result.loadbalancers),
            "sniffers": _usable_rows(result.sniffers),
            "problems": problem_rows(problems),
        }
        print_document(document, output)
    raise typer.Exit(ExitCode.NOT_HEALTHY if problems else ExitCode.OK)


def read_files(paths: Sequence[str]) -> Files:
    """What the files hold; ends the process when a path leads to none."""
    found = FileWatcher(paths).poll()
    if found is None or found.missing:
        names = ", ".join(found.missing) if found is not None else ""
        fail(f"no configuration file in {names}", "name a .yaml, .yml or .json file, or a folder", code=ExitCode.USAGE)
    return found


def problems_of(files: Files, result: ValidationResult) -> list[Problem]:
    """Everything that is wrong, files that cannot be read first."""
    return [*(Problem(name, "", "", reason) for name, reason in files.unreadable.items()), *result.problems]


def problem_rows(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """Problems as JSON has them."""
    return [
        {"file": problem.source, "object": problem.object, "path": problem.path, "reason": problem.reason}
        for problem in problems
    ]


def _usable_rows(loaded: Sequence[LoadedResource[Resource]]) -> list[dict[str, str]]:
    return [
        {"file": each.source, "namespace": each.object.key.namespace, "name": each.object.key.name} for each in loaded
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
