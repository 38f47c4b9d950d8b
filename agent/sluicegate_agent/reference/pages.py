"""Which pages there are."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate_agent.reference import (
    commands,
    conditions,
    dpisniffer,
    loadbalancer,
    messages,
    metrics,
    reasons,
    settings,
    signatures,
)

PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands.page,
    "conditions.md": conditions.page,
    "dpisniffer.md": dpisniffer.page,
    "loadbalancer.md": loadbalancer.page,
    "log.md": messages.page,
    "metrics.md": metrics.page,
    "reasons.md": reasons.page,
    "settings.md": settings.page,
    "signatures.md": signatures.page,
}
"""File name and text."""
