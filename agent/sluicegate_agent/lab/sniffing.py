"""Sniffers of the lab: their resources, and what the agent says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sluicegate_agent.cli.document import Sniffer, Status


def sniffer(
    key: str,
    interfaces: Sequence[str],
    *,
    events: Path | None = None,
    rules: str = "",
    changes: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """A DpiSniffer on these interfaces that writes its events to a file, if any, and looks for signatures, if any.

    ``key`` is namespace/name; ``changes`` are fields of the spec to set otherwise.
    """
    namespace, _, name = key.partition("/")
    spec: dict[str, object] = {"attach": {"interfaces": list(interfaces)}}
    if rules:
        spec["signatures"] = {"inline": rules}
    if events is not None:
        spec["export"] = {"eve": {"type": "File", "path": str(events)}}
    return {
        "apiVersion": "sluicegate.io/v1alpha1",
        "kind": "DpiSniffer",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec | dict(changes or {}),
    }


def sniffer_in(status: Status, key: str) -> Sniffer | None:
    """What the agent says of a sniffer; None when it knows none of that name."""
    return next((one for one in status.sniffers if f"{one.namespace}/{one.name}" == key), None)
