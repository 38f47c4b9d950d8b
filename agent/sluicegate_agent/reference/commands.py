"""cli.md: from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from sluicegate_agent.cli.main import COMMANDS, app
from sluicegate_agent.cli.output import ExitCode
from sluicegate_agent.reference.markdown import code, literally, table
from sluicegate_agent.reference.markdown import page as whole

_INTRODUCTION = """
Every command has `--help`. Data goes to stdout, words about trouble to stderr. Commands that ask a running agent take
the only one there is, else the one that `--netns` or `--socket` names. `NO_COLOR=1` turns colours off.
"""

_EXIT_CODES = {
    ExitCode.OK: "all is well",
    ExitCode.NOT_HEALTHY: "something is not healthy, not valid or could not be done; what and why is said",
    ExitCode.USAGE: "the command was not understood: an unknown option, a wrong value, several agents and none named",
    ExitCode.UNREACHABLE: "no agent can be reached",
}


def page() -> str:
    """The text."""
    group: Any = typer.main.get_command(app)
    root = typer.Context(group, info_name="sluicegate")
    codes = table(("exit code", "meaning"), [(str(int(number)), text) for number, text in _EXIT_CODES.items()])
    parts = [_INTRODUCTION, codes, "Options of `sluicegate` itself:", _options(group, root)]
    for name in COMMANDS:
        _, command, _ = group.resolve_command(root, [name])
        parts += _command(command, typer.Context(command, info_name=f"sluicegate {name}", parent=None))
    return whole("Command line", *parts)


def _command(command: Any, context: typer.Context) -> Iterator[str]:
    yield f"## {context.info_name}"
    yield f"```\n{context.info_name} {' '.join(command.collect_usage_pieces(context))}\n```"
    yield _prose(command.help or "")
    yield _options(command, context)


def _options(command: Any, context: typer.Context) -> str:
    return table(("argument, option", "meaning"), _rows(command, context))


def _rows(command: Any, context: typer.Context) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        if getattr(parameter, "hidden", False) or "--help" in parameter.opts:
            continue
        record = parameter.get_help_record(context)
        if record is None:
            yield code(parameter.make_metavar(context)), literally(getattr(parameter, "help", None) or "")
        else:
            yield code(record[0].strip()), literally(record[1])


def _prose(text: str) -> str:
    """A docstring as paragraphs."""
    return literally(inspect.cleandoc(text).replace("\b", ""))
