"""Entry point of the command ``sluicegate``. Commands are imported when they are used, so that help is instant."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class _Entry(NamedTuple):
    module: str
    function: str
    help: str


_CLI = "sluicegate_agent.cli"
COMMANDS = {
    "run": _Entry(f"{_CLI}.run", "run", "Run the agent on this machine from configuration files."),
    "status": _Entry(f"{_CLI}.status", "status", "Show what the agent runs, and how it is."),
    "top": _Entry(f"{_CLI}.top", "top", "Watch backends or VIPs at work: rates, times and weights."),
    "flows": _Entry(f"{_CLI}.flows", "flows", "List the connections that are balanced right now."),
    "observe": _Entry(f"{_CLI}.observe", "observe", "Show flows and alerts that sniffers find, as they come."),
    "why": _Entry(f"{_CLI}.why", "why", "Say why a load balancer works or not, or what becomes of one packet."),
    "drain": _Entry(f"{_CLI}.operate", "drain", "Give a backend no new connections for a while, on this node."),
    "ready": _Entry(f"{_CLI}.operate", "ready", "Take back what drain said."),
    "check": _Entry(f"{_CLI}.check", "check", "Check whether this machine can run the agent."),
    "validate": _Entry(f"{_CLI}.validate", "validate", "Check configuration files without applying them."),
    "explain": _Entry(f"{_CLI}.explain", "explain", "Show what files would make this machine do, and its memory."),
    "replay": _Entry(f"{_CLI}.replay", "replay", "Run a capture through sniffer and engine, without a kernel."),
    "rules": _Entry(f"{_CLI}.rules", "rules", "Say of each rule of a sniffer whether it is in force, and why not."),
    "crds": _Entry(f"{_CLI}.crds", "crds", "Print the custom resource definitions."),
    "demo": _Entry(f"{_CLI}.demo", "demo", "Show a load balancer at work in network namespaces of its own."),
}
"""In the order of the help page."""


class LazyCommands(TyperGroup):
    """Knows its commands by name and help text; imports a command's module only to run it."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's Context is click's
        """Names in the order of the help page."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]
        """A stand-in that carries the help text: this is what the help page asks for."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        return TyperCommand(cmd_name, help=entry.help) if entry else None

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """The real command, for running it."""
        if args and args[0] in COMMANDS:
            return args[0], _load(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    entry = COMMANDS[name]
    module = import_module(entry.module)
    function: Callable[..., Any] = getattr(module, entry.function)
    kind: type[TyperCommand] = getattr(module, "COMMAND_CLASS", TyperCommand)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    single.command(name, cls=kind, help=function.__doc__ or entry.help)(function)
    return typer.main.get_command(single)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  # 20 ms that only this flag needs

        typer.echo(f"sluicegate {version('sluicegate')}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode=None,  # plain help: importing rich takes longer than all the rest
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Balance and inspect network traffic in the kernel, steered from user space."""
    del version


def main() -> None:
    """Run the command line."""
    app(prog_name="sluicegate")
