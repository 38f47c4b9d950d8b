"""Selection tables: from weights by endpoint to a slot's backend id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sluicegate_agent.datapath.model import Algorithm, BackendId, Slots
from sluicegate_api.maglev import maglev_table, table_size
from sluicegate_api.roundrobin import round_robin_table


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A usable backend: its name ``address:port``, the same on every node, its weight, and its id on this node."""

    name: str
    weight: int
    backend: BackendId


class TableCache:
    """Builds tables and keeps those in use: equal inputs give the very same tuple, so comparing them costs nothing.

    Maglev and LeastLoad share the weighted Maglev table; they differ in how the kernel draws from it.
    """

    def __init__(self) -> None:
        self._tables: dict[tuple[bool, int, tuple[Entry, ...]], Slots] = {}
        self._used: set[tuple[bool, int, tuple[Entry, ...]]] = set()

    def slots(self, algorithm: Algorithm, configured: int, usable: Iterable[Entry]) -> Slots:
        """The table over the usable backends; empty without any.

        ``configured`` is the number of backends that the service has: it alone decides on the size of a Maglev table,
        so that a failing backend never reshuffles all flows by resizing it.
        """
        entries = tuple(sorted(usable))
        in_turn = algorithm is Algorithm.ROUND_ROBIN
        key = (in_turn, configured, entries)
        self._used.add(key)
        if key not in self._tables:
            self._tables[key] = _build(in_turn, configured, entries)
        return self._tables[key]

    def forget_unused(self) -> None:
        """Drop what was not asked for since the last call."""
        self._tables = {key: slots for key, slots in self._tables.items() if key in self._used}
        self._used = set()


def _build(in_turn: bool, configured: int, entries: tuple[Entry, ...]) -> Slots:
    weights = {entry.name: entry.weight for entry in entries}
    names = round_robin_table(weights) if in_turn else maglev_table(weights, table_size(configured))
    ids = {entry.name: entry.backend for entry in entries}
    return tuple(ids[name] for name in names)
