"""settings.md: from the agent's settings."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from sluicegate_agent.cli.main import app
from sluicegate_agent.reference.markdown import code, literally, table
from sluicegate_agent.reference.markdown import page as whole
from sluicegate_agent.settings import PREFIX, AgentSettings

_INTRODUCTION = """
What an agent can be told from outside: by a flag of [`sluicegate run`](cli.md), else by a variable of its environment,
else the default. A value that cannot be used ends the start with a message that names it. Sizes are numbers of entries;
the kernel allocates most maps in full when they are made, and a changed size makes new maps and carries the rows over.

Commands that ask a running agent read `SLUICEGATE_NETNS` too.
"""

MEANINGS = {
    "netns": "Network namespace to work in; none: that of the process.",
    "state_dir": "What outlives the agent is kept here. It also names the pins: one per agent.",
    "cache_dir": "Compiled programs are kept here, so that a start compiles only what is new; empty: they are not. It "
    "is used only if it is the agent's user's and nobody else may write it. It can be removed at any time.",
    "metrics": "ADDRESS:PORT of the [metrics](metrics.md) endpoint; port 0 lets the kernel choose.",
    "nat_ports": "FullNAT source ports, FIRST-LAST; outside the range that the kernel gives to local sockets.",
    "flows": "Flows that are remembered per family; in FullNAT a cache, in DNAT and DirectReturn all there is.",
    "nat_entries": "FullNAT connections per family, those in their rest after the end included.",
    "backends": "Backends over all ports, those that drain included.",
    "sources": "Networks in all allowedSources together, per family.",
    "affinities": "Clients that keep their backend (sessionAffinity), per family.",
    "half_open_limit": "Half-open TCP connections of one port and family; above it a flood is assumed.",
    "metrics_backends": "Backends with series of their own in the metrics: the first in the order of the files.",
    "program_statistics": "Turn the kernel's run time statistics on, for the metrics of each program's cost. They cost "
    "some nanoseconds per packet themselves.",
    "sniffed_flows": "Sniffed flows that are remembered per family; the oldest go first.",
    "dpi_workers": "Processes of the sniffer's engine; 0: one for every four CPUs, at least one.",
    "dpi_ring_bytes": "Memory in bytes between the kernel and each of these processes, a power of two: what it holds "
    "while the engine is busy.",
    "tc": "How tc programs are attached: auto is tcx where the kernel has it, clsact otherwise.",
    "log_format": "text, json, or auto: text on a terminal, JSON lines elsewhere.",
    "verbose": "Log details too.",
}
"""Of every setting without a description of its own."""


def page() -> str:
    """The text."""
    heads = ("variable", "flag", "default", "from", "to", "meaning")
    return whole("Settings of the agent", _INTRODUCTION, table(heads, _rows()))


def _rows() -> Iterator[tuple[str, ...]]:
    flags = _flags()
    for name, field in AgentSettings.model_fields.items():
        lowest = next((str(each.ge) for each in field.metadata if isinstance(each, Ge)), "")
        highest = next((str(each.le) for each in field.metadata if isinstance(each, Le)), "")
        meaning = literally(field.description) if field.description else MEANINGS[name]
        yield code(f"{PREFIX}{name.upper()}"), code(flags.get(name, "")), _default(field), lowest, highest, meaning


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(str(value.value if isinstance(value, Enum) else value))


def _flags() -> dict[str, str]:
    """The longest name of each option of ``run``."""
    group: Any = typer.main.get_command(app)
    _, run, _ = group.resolve_command(typer.Context(group), ["run"])
    return {each.name: max(each.opts, key=len) for each in run.params if each.name in AgentSettings.model_fields}
