"""Names for the shell to complete, asked of the running agent; silent when there is none that answers at once."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from sluicegate_agent.control.client import (
    AgentUnreachableError,
    AmbiguousAgentError,
    CommandFailedError,
    ask,
    find_socket,
)
from sluicegate_agent.control.protocol import SOCKET_DIRECTORY, JsonObject, Request

ANSWER_SECONDS = 0.5
"""How long a person waits for the Tab key."""


def balancers(ctx: typer.Context, incomplete: str) -> list[str]:
    """``[NAMESPACE/]NAME``."""
    return _either(_entries(_names(ctx), "loadbalancers"), incomplete)


def sniffers(ctx: typer.Context, incomplete: str) -> list[str]:
    """``[NAMESPACE/]NAME``."""
    return _either(_entries(_names(ctx), "sniffers"), incomplete)


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """``lb/[NAMESPACE/]NAME`` and ``dpi/[NAMESPACE/]NAME``."""
    names = _names(ctx)
    found = _either(_entries(names, "loadbalancers"), incomplete, prefix="lb/")
    return [*found, *_either(_entries(names, "sniffers"), incomplete, prefix="dpi/")]


def backends(ctx: typer.Context, incomplete: str) -> list[str]:
    """``[NAMESPACE/]NAME/ADDRESS:PORT``."""
    return _either(_entries(_names(ctx), "backends"), incomplete)


def endpoints(ctx: typer.Context, incomplete: str) -> list[str]:
    """``ADDRESS:PORT`` of backends."""
    found = dict.fromkeys(str(entry.get("endpoint", "")) for entry in _entries(_names(ctx), "backends"))
    return [text for text in found if text.startswith(incomplete)]


def vips(ctx: typer.Context, incomplete: str) -> list[str]:
    """``VIP:PORT``."""
    found = _names(ctx).get("vips")
    return [text for text in found if str(text).startswith(incomplete)] if isinstance(found, list) else []


def namespaces(incomplete: str) -> list[str]:
    """Namespaces of which an agent has a socket."""
    with suppress(OSError):
        return sorted(path.stem for path in SOCKET_DIRECTORY.glob("*.sock") if path.stem.startswith(incomplete))
    return []


def _either(entries: list[dict[str, Any]], incomplete: str, prefix: str = "") -> list[str]:
    """The short names that fit; the full ones only when none of these does."""
    for form in ("name", "full"):
        fitting = [text for entry in entries if (text := f"{prefix}{entry.get(form, '')}").startswith(incomplete)]
        if fitting:
            return fitting
    return []


def _entries(names: JsonObject, kind: str) -> list[dict[str, Any]]:
    found = names.get(kind)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _names(ctx: typer.Context) -> JsonObject:
    netns, socket = ctx.params.get("netns"), ctx.params.get("socket")
    began = time.monotonic()
    try:
        path = find_socket(netns, Path(socket) if socket else None)
        left = ANSWER_SECONDS - (time.monotonic() - began)
        return ask(path, Request("names"), timeout=max(left, 0.05))
    except (AgentUnreachableError, AmbiguousAgentError, CommandFailedError):
        return {}
