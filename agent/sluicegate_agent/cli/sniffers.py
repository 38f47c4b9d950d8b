"""Which DpiSniffers of some files a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sluicegate_agent.cli.output import ExitCode, fail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sluicegate_api.validation import LoadedSniffer


def chosen_sniffers(files: list[str], name: str | None, remedy: str) -> list[LoadedSniffer]:
    """Those of that name, all without one, never none: ends the process instead, also when the files have errors.

    ``name`` is NAME or NAMESPACE/NAME; ``remedy`` is what to do when the files hold no sniffer.
    """
    from sluicegate_agent.cli.validate import problems_of, read_files  # noqa: PLC0415
    from sluicegate_api.validation import validate_documents  # noqa: PLC0415

    found = read_files(files)
    result = validate_documents(list(found.texts.items()))
    problems = problems_of(found, result)
    if problems:
        for problem in problems:
            typer.echo(str(problem), err=True)
        fail("the configuration has errors", "correct them; sluicegate validate lists them all", code=ExitCode.USAGE)
    if not result.sniffers:
        fail("the files hold no DpiSniffer", remedy, code=ExitCode.USAGE)
    chosen = [each for each in result.sniffers if name in {None, str(each.object.key), each.object.key.name}]
    if not chosen:
        fail(f"there is no DpiSniffer {name}", f"there are {names_of(result.sniffers)}", code=ExitCode.USAGE)
    return chosen


def names_of(sniffers: Iterable[LoadedSniffer]) -> str:
    """As people name them, in one line."""
    return ", ".join(str(each.object.key) for each in sniffers)
