"""Questions of commands to a running agent; every way to fail ends with its exit code and the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sluicegate_agent.cli import complete
from sluicegate_agent.cli.output import ExitCode, fail
from sluicegate_agent.control.client import (
    AgentUnreachableError,
    AmbiguousAgentError,
    CommandFailedError,
    ask,
    find_socket,
)
from sluicegate_agent.control.protocol import JsonObject, Request

NetnsOption = Annotated[
    str | None,
    typer.Option(
        "--netns",
        help="Network namespace of the agent.",
        envvar="SLUICEGATE_NETNS",
        autocompletion=complete.namespaces,
    ),
]
SocketOption = Annotated[Path | None, typer.Option("--socket", help="Control socket of the agent.")]


def ask_agent(request: Request, netns: str | None, socket: Path | None) -> JsonObject:
    """The agent's answer. Raises AgentUnreachableError; ends the process when no agent was named among several."""
    try:
        return ask(find_socket(netns, socket), request)
    except AmbiguousAgentError as error:
        fail(str(error), code=ExitCode.USAGE)
    except CommandFailedError as error:
        fail(str(error), code=ExitCode.NOT_HEALTHY)


def ask_agent_or_exit(request: Request, netns: str | None, socket: Path | None) -> JsonObject:
    """Like :func:`ask_agent`, but an agent that cannot be reached ends the process with code 3."""
    try:
        return ask_agent(request, netns, socket)
    except AgentUnreachableError as error:
        fail(error.message, error.next, code=ExitCode.UNREACHABLE)
