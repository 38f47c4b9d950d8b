"""The way from the tables as they are to the tables as they should be: a pure diff, in an order that is always safe.

Add before delete. Everything new is in place before something points at it, and nothing goes while something still
points at it. After every single operation each rule of ``datapath/invariants.py`` holds:

1. settings, interfaces, next hops; the address filter as the union of old and new;
2. backends that take new flows; reverse rows as the union, those of new frontends after the frontends; tables that do
   not shrink; allowed clients; frontends; VIPs bound;
3. VIPs unbound, exact reverse rows, frontends deleted, then the allowed clients that none of them asks for;
4. tables that shrink or go, because no frontend reads beyond their new end any more;
5. backends that leave: they are in no table now; then next hops, interfaces and the exact address filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TypeVar

from sluicegate_agent.datapath.invariants import REVERSE_FRONTENDS
from sluicegate_agent.datapath.model import (
    Backend,
    BackendState,
    Delete,
    Endpoint,
    FrontendId,
    KernelState,
    NexthopId,
    Operation,
    Put,
    Row,
    ServiceId,
    Slots,
    Table,
)

K = TypeVar("K", bound=int | Endpoint)


def plan(observed: KernelState, desired: KernelState) -> tuple[Operation, ...]:
    """Operations that turn ``observed`` into ``desired``; empty when nothing differs.

    A backend that ``desired`` does not name becomes free; free rows are never deleted, they keep their generation.
    An id in use must mean the same endpoint in both (see :mod:`~sluicegate_agent.planning.ids`).
    """
    return tuple(chain(_additions(observed, desired), _removals(observed, desired)))


def free_row(generation: int) -> Backend:
    """The row of a backend id that nobody holds."""
    return Backend(ServiceId(0), None, None, NexthopId(0), BackendState.FREE, generation, weight=0)


def _additions(observed: KernelState, desired: KernelState) -> Iterator[Operation]:
    if observed.settings != desired.settings:
        yield Put(Table.SETTINGS, None, desired.settings)
    yield from _puts(Table.INTERFACES, observed.interfaces, desired.interfaces)
    yield from _puts(Table.NEXTHOPS, observed.nexthops, desired.nexthops)
    union = observed.filter.union(desired.filter)
    if union != observed.filter:
        yield Put(Table.FILTER, None, union)
    staying = {key: row for key, row in desired.backends.items() if not _leaves(observed.backends.get(key), row)}
    yield from _puts(Table.BACKENDS, observed.backends, staying)
    reverse = _reverse_union(observed, desired)
    # Before a table sends requests to a new backend its replies must be known; rows of new frontends come after those.
    known = {key: row for key, row in reverse.items() if observed.frontends.keys() >= set(row)}
    yield from _puts(Table.REVERSE, observed.reverse, known)
    lasting = {key: slots for key, slots in desired.slots.items() if not _shrinks(observed.slots.get(key), slots)}
    yield from _puts(Table.SLOTS, observed.slots, lasting)
    yield from _puts(Table.SOURCES, observed.sources, desired.sources)
    yield from _puts(Table.FRONTENDS, observed.frontends, desired.frontends)
    yield from _puts(Table.REVERSE, {**observed.reverse, **known}, reverse)
    yield from _puts(Table.VIPS, observed.vips, desired.vips)


def _removals(observed: KernelState, desired: KernelState) -> Iterator[Operation]:
    yield from _deletes(Table.VIPS, observed.vips, desired.vips)
    yield from _puts(Table.REVERSE, _reverse_union(observed, desired), desired.reverse)
    yield from _deletes(Table.REVERSE, observed.reverse, desired.reverse)
    yield from _deletes(Table.FRONTENDS, observed.frontends, desired.frontends)
    yield from _deletes(Table.SOURCES, observed.sources, desired.sources)
    shorter = {key: slots for key, slots in desired.slots.items() if _shrinks(observed.slots.get(key), slots)}
    yield from _puts(Table.SLOTS, observed.slots, shorter)
    yield from _deletes(Table.SLOTS, observed.slots, desired.slots)
    leaving = {key: row for key, row in desired.backends.items() if _leaves(observed.backends.get(key), row)}
    yield from _puts(Table.BACKENDS, observed.backends, leaving)
    for key, row in observed.backends.items():
        if key not in desired.backends and row.state is not BackendState.FREE:
            yield Put(Table.BACKENDS, key, free_row(row.generation))
    yield from _deletes(Table.NEXTHOPS, observed.nexthops, desired.nexthops)
    yield from _deletes(Table.INTERFACES, observed.interfaces, desired.interfaces)
    if observed.filter.union(desired.filter) != desired.filter:
        yield Put(Table.FILTER, None, desired.filter)


def _leaves(present: Backend | None, wanted: Backend) -> bool:
    """Whether the backend must be out of its table before its row may change."""
    return present is not None and present.state is BackendState.ACTIVE and wanted.state is not BackendState.ACTIVE


def _shrinks(present: Slots | None, wanted: Slots) -> bool:
    """Whether frontends must read fewer slots before the table may change."""
    return present is not None and len(wanted) < len(present)


def _reverse_union(observed: KernelState, desired: KernelState) -> dict[Endpoint, tuple[FrontendId, ...]]:
    """Reverse rows while old frontends are still bound: the wanted frontends, then as many old ones as fit."""
    union: dict[Endpoint, tuple[FrontendId, ...]] = {}
    for endpoint, wanted in desired.reverse.items():
        present = observed.reverse.get(endpoint, ())
        added = [frontend for frontend in wanted if frontend not in present]
        if not added:
            union[endpoint] = present
            continue
        kept = [frontend for frontend in present if frontend not in wanted]
        union[endpoint] = (*wanted, *kept)[:REVERSE_FRONTENDS]
    return union


def _puts(table: Table, observed: Mapping[K, Row], desired: Mapping[K, Row]) -> Iterator[Operation]:
    for key, row in desired.items():
        present = observed.get(key)
        if present is not row and present != row:
            yield Put(table, key, row)


def _deletes(table: Table, observed: Mapping[K, Row], desired: Mapping[K, Row]) -> Iterator[Operation]:
    for key in observed:
        if key not in desired:
            yield Delete(table, key)
