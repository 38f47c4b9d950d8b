"""What the part ``dpi`` found."""

from __future__ import annotations

from dataclasses import dataclass

from sluicegate_bench.common.series import Series
from sluicegate_bench.dpi.live import Live
from sluicegate_bench.dpi.memory import Memory
from sluicegate_bench.dpi.mix import Mix
from sluicegate_bench.dpi.sending import FlowKey, Sent

ENGINE, EVENTS, PLAIN, CLASSIFYING, SURICATA = (
    "engine",
    "engine and events",
    "Python, no classification",
    "Python with nDPI",
    "Suricata",
)
"""Whose CPU time is taken on a capture."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was found with the default budget, of what is there to find. ``known``: flows with a label at all."""

    known: int
    same: int
    there: frozenset[tuple[FlowKey, int]]
    """Flows and rules that match them in the first 16 KiB."""
    kept: frozenset[tuple[FlowKey, int]]
    unexpected: int
    """Alerts that neither Python nor the engine that is given everything agrees with."""


@dataclass(frozen=True, slots=True)
class Results:
    """All of it. ``cost``: CPU seconds for the whole replay, by name, and by round."""

    mix: Mix
    sent: Sent
    agreement: Agreement
    cost: dict[str, Series]
    memory: Memory
    live: Live
    suricata: str | None
