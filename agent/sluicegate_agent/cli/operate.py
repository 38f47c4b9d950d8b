"""``sluicegate drain`` and ``sluicegate ready``: an operator's word on one backend of this node."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from sluicegate_agent.cli import complete
from sluicegate_agent.cli.output import ExitCode, OutputFormat, fail, print_document
from sluicegate_agent.cli.remote import NetnsOption, SocketOption, ask_agent_or_exit
from sluicegate_agent.control.durations import DurationError, parse_ttl
from sluicegate_agent.control.protocol import JsonObject, Request

_Target = Annotated[
    str,
    typer.Argument(
        help="A load balancer and one of its backends: web/10.0.0.5, shop/web/10.0.0.5:8080, web/[fd00::5]:8080",
        metavar="[NAMESPACE/]NAME/BACKEND",
        autocompletion=complete.backends,
    ),
]
_Output = Annotated[OutputFormat, typer.Option("-o", "--output", help="Form of the answer.")]


def drain(
    target: _Target,
    *,
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="For how long, up to 7d: 30s, 10m, 2h.")] = "30m",
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: _Output = OutputFormat.TABLE,
) -> None:
    """Give a backend no new connections; those that it has go on.

    On this node alone, and until --ttl is over: the configuration stays the truth, and what is meant for good belongs
    there (weight 0, or removal). status, top and why show it as an override. It outlives a restart of the agent. Said
    again, the new time counts. With an address alone all ports of that backend are meant.

    Exits with 0 when done, 1 when there is no such backend, 2 on wrong use, 3 when the agent cannot be reached.
    """
    try:
        parse_ttl(ttl)
    except DurationError as error:
        fail(str(error), code=ExitCode.USAGE)
    arguments = {"target": _checked(target), "ttl": ttl, "by": _who()}
    _tell(ask_agent_or_exit(Request("drain", arguments), netns, socket), output)


def ready(
    target: _Target,
    *,
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: _Output = OutputFormat.TABLE,
) -> None:
    """Take back what "sluicegate drain" said of a backend.

    It does not overrule anything else: a backend that fails its checks, or says itself that it drains, stays out.

    Exits with 0 when nothing is said any more, 1 when there is no such backend, 2 on wrong use, 3 when the agent cannot
    be reached.
    """
    _tell(ask_agent_or_exit(Request("ready", {"target": _checked(target)}), netns, socket), output)


def _checked(target: str) -> str:
    name, slash, backend = target.rpartition("/")
    if not (slash and name and backend):
        fail(
            f"{target!r} names no backend of a load balancer",
            "write NAME/ADDRESS or NAMESPACE/NAME/ADDRESS:PORT; sluicegate status lists them",
            code=ExitCode.USAGE,
        )
    return target


def _who() -> str:
    """The person behind sudo, as far as the environment tells; shown and nothing else."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or ""


def _tell(answer: JsonObject, output: OutputFormat) -> None:
    if output is not OutputFormat.TABLE:
        print_document(answer, output)
        return
    drained = answer["action"] == "drain"
    backends, warnings = answer["backends"], answer["warnings"]
    for backend in backends if isinstance(backends, list) else []:
        owner, address = backend["loadBalancer"], backend["address"]
        host = f"[{address}]" if ":" in address else address
        fate = f"drained on this node until {answer['until']}" if drained else "not drained any more"
        typer.echo(f"{owner['namespace']}/{owner['name']} {owner['port']} {host}:{backend['port']}: {fate}")
    for warning in warnings if isinstance(warnings, list) else []:
        typer.echo(f"{'warning: ' if drained else ''}{warning}", err=True)
