"""``sluicegate explain``: what files would make this machine do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluicegate_agent.cli.output import ExitCode, OutputFormat, fail, print_document, table_console

if TYPE_CHECKING:
    from sluicegate_agent.network.model import NetworkSnapshot
    from sluicegate_agent.settings import AgentSettings
    from sluicegate_agent.source.configuration import Configuration


def explain(
    files: Annotated[
        list[str], typer.Option("-f", "--file", metavar="FILE|DIR", help="A file or folder; can be given again.")
    ],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE|DIR]...", help='More of them, as "-f *.yaml" gives.')
    ] = None,
    *,
    netns: Annotated[
        str | None, typer.Option("--netns", help="Look at this network namespace.", envvar="SLUICEGATE_NETNS")
    ] = None,
    output: Annotated[OutputFormat, typer.Option("-o", "--output", help="Form of the answer.")] = OutputFormat.TABLE,
) -> None:
    """Show what an agent would program from these files on this machine, and what that costs. Changes nothing.

    For each port and address family: VIPs, algorithm, forwarding mode, the selection table with each backend's share of
    it as if all were healthy, health checks and questions for load per second; for each sniffer its interfaces, rules
    and budget; then the interfaces that match here, the parts of the programs that are compiled, and the memory of
    every kernel table with the sizes that SLUICEGATE_* gives. No agent and no privileges are needed.

    Exits with 1 when something is wrong with the files, as "sluicegate validate" does; what is right is explained all
    the same.
    """
    from sluicegate_agent.cli.validate import problem_rows, problems_of, read_files  # noqa: PLC0415
    from sluicegate_agent.settings import SettingsError, load_settings  # noqa: PLC0415
    from sluicegate_agent.source.configuration import Configuration, configure  # noqa: PLC0415
    from sluicegate_api.validation import validate_documents  # noqa: PLC0415

    found = read_files([*files, *(more or ())])
    try:
        settings = load_settings(netns=netns)
    except SettingsError as error:
        fail(str(error), code=ExitCode.USAGE)
    result = validate_documents(list(found.texts.items()))
    problems = problems_of(found, result)
    document = _document(configure(found, Configuration()), settings)
    if output is OutputFormat.TABLE:
        for problem in problems:
            typer.echo(str(problem), err=True)
        from sluicegate_agent.cli.explain_tables import print_tables  # noqa: PLC0415

        print_tables(document, table_console())
    else:
        print_document({"ok": not problems, **document, "problems": problem_rows(problems)}, output)
    raise typer.Exit(ExitCode.NOT_HEALTHY if problems else ExitCode.OK)


def _document(configuration: Configuration, settings: AgentSettings) -> dict[str, Any]:
    from sluicegate_agent.loader.errors import LoaderError  # noqa: PLC0415
    from sluicegate_agent.programs import SNIFF, limits, needed_features, request  # noqa: PLC0415
    from sluicegate_agent.reports.explain import explain as explained  # noqa: PLC0415
    from sluicegate_agent.reports.explain_sniffers import ring_memory  # noqa: PLC0415
    from sluicegate_agent.reports.map_memory import map_memory  # noqa: PLC0415

    snapshot, blind = _look(configuration, settings.netns)
    needed = needed_features(configuration.effective(), configuration.running_sniffers())
    asked = request(settings, Path(), needed)
    try:
        memory = map_memory(asked, _possible_cpus())
    except (LoaderError, ValueError) as error:
        memory, blind = (), [*blind, f"the memory of the kernel's tables cannot be told: {error}"]
    if SNIFF in needed:
        memory = (*memory, ring_memory(settings.worker_count, settings.dpi_ring_bytes))
    return explained(configuration, snapshot, limits(settings), memory, blind)


def _look(configuration: Configuration, netns: str | None) -> tuple[NetworkSnapshot, list[str]]:
    """The network here; without it, what it would have told stays open, and that is said."""
    from sluicegate_agent.network.look import look  # noqa: PLC0415
    from sluicegate_agent.network.model import NetworkSnapshot  # noqa: PLC0415
    from sluicegate_agent.network.namespace import NamespaceError, enter  # noqa: PLC0415
    from sluicegate_agent.reports.explain import addresses_of  # noqa: PLC0415

    try:
        if netns is not None:
            enter(netns)
        return look(addresses_of(configuration)), []
    except NamespaceError as error:
        fail(str(error), code=ExitCode.USAGE)
    except OSError as error:
        return NetworkSnapshot(), [f"the network of this machine cannot be read: {error.strerror or error}"]


def _possible_cpus() -> int:
    """CPUs that the kernel keeps counters for, which may be more than there are."""
    try:
        ranges = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip().split(",")
        return sum(int(last or first) - int(first) + 1 for first, _, last in (each.partition("-") for each in ranges))
    except (OSError, ValueError):
        return os.cpu_count() or 1
