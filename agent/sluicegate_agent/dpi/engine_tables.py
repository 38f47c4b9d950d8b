"""What the engine must know of protocols, and which events it hands out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sluicegate_agent.dpi.engine_model import Kind, Tables
from sluicegate_agent.dpi.labels import ENCRYPTED, NDPI_NAMES

_EVENT, _EVENT_WITH_TEXT = 1, 3


class ProtocolNumbers(Protocol):
    """The engine's numbers of protocols by name."""

    def protocols(self) -> Mapping[str, int]:
        """All of them."""
        ...


def engine_tables(labels: ProtocolNumbers) -> Tables:
    """Which events the engine hands out, all that become lines; and what it must know of protocols."""
    numbers = labels.protocols()
    want: dict[tuple[Kind, int | None], int] = {
        (Kind.CLASSIFIED, None): _EVENT_WITH_TEXT,
        (Kind.GAVE_UP, None): _EVENT_WITH_TEXT,
        (Kind.ALERT, None): _EVENT,
        (Kind.END, None): _EVENT_WITH_TEXT,
        (Kind.STOPPED, None): 0,
    }
    return Tables(
        want=want,
        encrypted=frozenset(numbers[name] for name in ENCRYPTED if name in numbers),
        app={numbers[name]: int(app) for app, names in NDPI_NAMES.items() for name in names if name in numbers},
    )
