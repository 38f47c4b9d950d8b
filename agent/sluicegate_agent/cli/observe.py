"""``sluicegate observe``: what the sniffers of a running agent find, as it comes."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sluicegate_agent.cli import complete
from sluicegate_agent.cli.output import ExitCode, fail
from sluicegate_agent.cli.remote import NetnsOption, SocketOption
from sluicegate_agent.control.client import (
    AgentUnreachableError,
    AmbiguousAgentError,
    CommandFailedError,
    find_socket,
    stream,
)
from sluicegate_agent.control.protocol import JsonObject, Request, about_stream

if TYPE_CHECKING:
    from sluicegate_agent.cli.observe_filters import Filters

_LAST = 20
_FILTERS = ("--protocol", "--ip", "--port", "--sniffer")
_NOT = "--not"


class _What(StrEnum):
    FLOWS = "flows"
    ALERTS = "alerts"


class ObserveFormat(StrEnum):
    """Value of ``-o``."""

    COMPACT = "compact"
    JSON = "json"


class ObserveCommand(TyperCommand):
    """Understands ``--not`` before a filter, which turns that one filter round."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``--not --port 80`` is ``--not-port 80``, an option that help does not list."""
        found: list[str] = []
        rest = iter(args)
        for word in rest:
            if word != _NOT:
                found.append(word)
                continue
            behind = next(rest, "")
            if behind.partition("=")[0] not in _FILTERS:
                if ctx.resilient_parsing:  # the shell asks what could come next
                    continue
                fail(f"{_NOT} needs a filter right behind it: {', '.join(_FILTERS)}", code=ExitCode.USAGE)
            found.append(f"{_NOT}{behind[1:]}")
        return super().parse_args(ctx, found)


COMMAND_CLASS = ObserveCommand


def _hidden(name: str) -> Any:
    return typer.Option(f"{_NOT}-{name}", hidden=True)


_Words = list[str] | None


def observe(
    what: Annotated[_What, typer.Argument(help="What to see.", metavar="flows|alerts", show_default=False)],
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="All that came in the last 30s, 10m, 2h.")
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--last",
            metavar="COUNT",
            min=0,
            help="So many at most of those that came before.",
            show_default="20; with --since all",
        ),
    ] = None,
    protocol: Annotated[
        _Words, typer.Option("--protocol", metavar="NAME", help="tcp, udp, or what was found inside: tls, DNS, Google.")
    ] = None,
    ip: Annotated[_Words, typer.Option("--ip", metavar="ADDR|CIDR", help="Either end is this one.")] = None,
    port: Annotated[_Words, typer.Option("--port", metavar="PORT", help="Either end has this port.")] = None,
    sniffer: Annotated[
        _Words,
        typer.Option("--sniffer", metavar="[NS/]NAME", help="Found by this sniffer.", autocompletion=complete.sniffers),
    ] = None,
    inverted: Annotated[
        bool, typer.Option(_NOT, help="Turns the filter right behind it round: --not --port 53.")
    ] = False,
    not_protocol: Annotated[_Words, _hidden("protocol")] = None,
    not_ip: Annotated[_Words, _hidden("ip")] = None,
    not_port: Annotated[_Words, _hidden("port")] = None,
    not_sniffer: Annotated[_Words, _hidden("sniffer")] = None,
    netns: NetnsOption = None,
    socket: SocketOption = None,
    output: Annotated[
        ObserveFormat, typer.Option("-o", "--output", help="compact: a line for people; json: EVE JSON, one a line.")
    ] = ObserveFormat.COMPACT,
) -> None:
    """Show flows and alerts that live sniffers found: the last ones, and with -f those that come.

    The agent keeps the last 8 MiB of flow events and the last 4 MiB of alerts, whether or not the sniffer exports them.
    A flow is told of when it is over, or when nothing came for as long as its kind may rest.

    A filter given several times chooses what fits any of the values; different filters must all fit. When nothing is
    shown, stderr says why. A reader that is too slow misses events, and stderr says how many.

    Exits with 0, with 1 when the agent refuses, with 2 on wrong use, with 3 when the agent cannot be reached or ends.
    """
    del inverted
    from sluicegate_agent.cli.observe_filters import FilterError, Filters  # noqa: PLC0415

    try:
        filters = Filters.parse(
            {"protocol": protocol, "ip": ip, "port": port, "sniffer": sniffer},
            {"protocol": not_protocol, "ip": not_ip, "port": not_port, "sniffer": not_sniffer},
        )
    except FilterError as error:
        fail(str(error), code=ExitCode.USAGE)
    arguments = {"what": what.value} | ({"follow": "true"} if follow else {})
    if since is not None:
        arguments["since"] = _checked(since)
    most = last if last is not None or since is not None else _LAST
    try:
        with stream(_socket(netns, socket), Request("observe", arguments)) as (head, lines):
            _check_sniffers(filters, head)
            _show({**head, "since": since}, lines, filters, output, most)
    except AgentUnreachableError as error:
        fail(error.message, error.next, code=ExitCode.UNREACHABLE)
    except CommandFailedError as error:
        fail(str(error), code=ExitCode.NOT_HEALTHY)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.OK) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter fails on what is buffered


def _show(head: JsonObject, lines: Iterator[bytes], filters: Filters, output: ObserveFormat, most: int | None) -> None:
    """Everything that fits; of what came before, the last ``most``."""
    from sluicegate_agent.cli.observe_lines import compact  # noqa: PLC0415

    before: deque[bytes] = deque(maxlen=most)
    backlog, shown, read = True, 0, 0
    for line in lines:
        about = about_stream(line)
        if about is None:
            read += 1
            event = filters.fitting(line)
            if event is None:
                continue
            shown += 1
            text = line if output is ObserveFormat.JSON else compact(event).encode("utf-8", "replace") + b"\n"
            if backlog:
                before.append(text)
            else:
                _write([text])
        elif "missed" in about:
            typer.echo(f"{about['missed']} events came and went unread: this reader is too slow", err=True)
        elif "backlog" in about:
            backlog = False
            _write(before)
            before.clear()
            if not shown and most != 0:
                typer.echo(_why_nothing(head, read), err=True)
        elif about.get("end") != "complete":
            raise AgentUnreachableError(f"the stream is over: {about.get('end')}", "sluicegate status")


def _why_nothing(head: JsonObject, read: int) -> str:
    what, since = head["what"], head["since"]
    if read:
        return f"nothing to show: none of {read} {what} fits the filters"
    if head["kept"] and since is not None:
        return f"nothing to show: none of the {head['kept']} {what} that are kept came in the last {since}"
    return f"nothing to show: {head['note']}"


def _write(lines: Sequence[bytes] | deque[bytes]) -> None:
    sys.stdout.buffer.writelines(lines)
    sys.stdout.buffer.flush()


def _checked(since: str) -> str:
    from sluicegate_agent.control.durations import DurationError, parse_duration  # noqa: PLC0415

    try:
        parse_duration(since, least=1, most=7 * 86_400)
    except DurationError as error:
        fail(f"--since: {error}", code=ExitCode.USAGE)
    return since


def _check_sniffers(filters: Filters, head: JsonObject) -> None:
    """A name that no sniffer has is a mistake, unless its events are still there."""
    known = head["sniffers"]
    names = {str(name) for name in known} if isinstance(known, list) else set()
    names |= {name.rpartition("/")[2] for name in names}
    for name in sorted(filters.sniffers - names):
        there = ", ".join(known) if isinstance(known, list) and known else "none"
        fail(f"there is no DpiSniffer {name} in force", f"there is: {there}", code=ExitCode.USAGE)


def _socket(netns: str | None, path: Path | None) -> Path:
    try:
        return find_socket(netns, path)
    except AmbiguousAgentError as error:
        fail(str(error), code=ExitCode.USAGE)
