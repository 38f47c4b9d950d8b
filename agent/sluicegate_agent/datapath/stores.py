"""Where the rows of each table lie in kernel maps: one store per table of :class:`KernelState`.

A store reads its table as a whole and writes single rows; what user space must do beside a write (clear counters,
forget flows, mark a VIP) stands with the table that needs it. Rows come as the union type of operations: a store
refuses a row or key of another type with ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np

from sluicegate_agent.datapath import codec
from sluicegate_agent.datapath.flows import forget_frontend
from sluicegate_agent.datapath.model import (
    AddressFilter,
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    Frontend,
    FrontendId,
    Interface,
    IPNetwork,
    Key,
    Nexthop,
    Row,
    ServiceId,
    Settings,
    Slots,
    Table,
)
from sluicegate_agent.datapath.tables import KernelTable, KernelTables
from sluicegate_agent.kernel.libbpf import BpfMap, MapType

_FAMILIES = (4, 6)
_BPF_F_INNER_MAP = 1 << 12  # inner maps of one outer map may differ in length

R = TypeVar("R")


class Store(Protocol):
    """One table."""

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """All rows that are in use."""
        ...

    def put(self, key: Key, row: Row, /) -> None:
        """Write one row."""
        ...

    def delete(self, key: Key, /) -> None:
        """Remove one row."""
        ...


class SettingsStore:
    """The single row of ``settings``."""

    def __init__(self, tables: KernelTables, hertz: int) -> None:
        self._table = tables["settings"]
        self._hertz = hertz

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """The row as it is; all zeros in a new map."""
        row = self._table.get(0)
        if row is not None:
            yield None, codec.decode_settings(row, self._hertz)

    def put(self, _key: Key, row: Row) -> None:
        """Write the row."""
        self._table.put(0, codec.encode_settings(self._table.value, _of(Settings, row), self._hertz))

    def delete(self, _key: Key) -> None:
        """There are always settings."""
        raise ValueError("settings are never deleted")


class FilterStore:
    """All words of ``address_filter`` as one row; only those that change are written."""

    def __init__(self, tables: KernelTables) -> None:
        self._table = tables["address_filter"]

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """The filter as it is."""
        yield None, codec.decode_filter(np.concatenate([values for _, values in self._table.batches()]))

    def put(self, _key: Key, row: Row) -> None:
        """Write the words that differ."""
        before = np.concatenate([values for _, values in self._table.batches()])
        after = codec.encode_filter(self._table.value, self._table.capacity, _of(AddressFilter, row))
        for word in np.flatnonzero(before != after):
            self._table.put(int(word), after[word].tobytes())

    def delete(self, _key: Key) -> None:
        """An empty filter is a row like any other."""
        raise ValueError("the filter is never deleted")


class IndexedStore(Generic[R]):
    """Rows by integer: an array, whose unused rows are zero, or a hash."""

    def __init__(
        self, table: KernelTable, row_type: type[R], encode: Callable[[R], bytes], decode: Callable[[np.void], R | None]
    ) -> None:
        self._table = table
        self._row_type = row_type
        self._encode = encode
        self._decode = decode

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """All rows that the decoder knows as used."""
        for key, raw in self._table.rows():
            row = self._decode(raw)
            if row is not None:
                yield int(key["value"]), row  # type: ignore[misc]  # R is one of Row's members

    def put(self, key: Key, row: Row) -> None:
        """Write the row as a whole."""
        self._table.put(_index(key), self._encode(_of(self._row_type, row)))

    def delete(self, key: Key) -> None:
        """Remove it from the hash, or clear it in the array."""
        if self._table.map.info.type == MapType.HASH:
            self._table.map.delete(_index(key).to_bytes(4, "little"))
        else:
            self._table.clear(_index(key))


_OF_A_BACKEND = ("backend_traffic", "backend_load", "backend_latency", "backend_fix")


class BackendStore(IndexedStore[Backend]):
    """Backends are never deleted but set free; an id that is taken into use again counts from zero."""

    def __init__(self, tables: KernelTables) -> None:
        table = tables["backends"]
        super().__init__(
            table,
            Backend,
            lambda row: codec.encode_backend(table.value, row),
            lambda row: codec.decode_backend(row) if row["generation"] else None,
        )
        self._counters = [tables[name] for name in _OF_A_BACKEND]

    def put(self, key: Key, row: Row) -> None:
        """Write the row; a backend under an id that was free starts with clear counters."""
        index = _index(key)
        present = self._table.get(index)
        if _of(Backend, row).state is not BackendState.FREE and (
            present is None or present["state"] == BackendState.FREE
        ):
            for counter in self._counters:
                counter.clear(index)
        super().put(key, row)

    def delete(self, _key: Key) -> None:
        """Its generation must outlive a backend."""
        raise ValueError("backends are never deleted but put as free")


class FrontendStore(IndexedStore[Frontend]):
    """A frontend's flows go with it, so that its id can serve another one."""

    def __init__(self, tables: KernelTables, hertz: int) -> None:
        table = tables["frontends"]
        super().__init__(
            table,
            Frontend,
            lambda row: codec.encode_frontend(table.value, row, hertz),
            lambda row: codec.decode_frontend(row, hertz) if row["family"] else None,
        )
        self._tables = tables

    def put(self, key: Key, row: Row) -> None:
        """Write the row; a new frontend starts with clear counters."""
        present = self._table.get(_index(key))
        if present is None or not present["family"]:
            self._tables["frontend_traffic"].clear(_index(key))
        super().put(key, row)

    def delete(self, key: Key) -> None:
        """Clear the row first: while its flows are removed, no packet may make new ones."""
        super().delete(key)
        forget_frontend(self._tables, FrontendId(_index(key)))


class SlotsStore:
    """Selection tables: inner maps that are built aside and swapped in whole."""

    def __init__(self, tables: KernelTables) -> None:
        self._table = tables["tables"]

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """All tables; they are few, and each one is read in one batch."""
        for service in range(1, self._table.capacity):
            raw = self._table.map.lookup(service.to_bytes(4, "little"))
            if raw is None:
                continue
            with BpfMap.from_id(int.from_bytes(raw, "little")) as inner:
                values = b"".join(values for _, values, _ in inner.items_batch(chunk=inner.info.max_entries))
            yield service, codec.slots_of(np.frombuffer(values, dtype="<u4"))

    def put(self, key: Key, row: Row) -> None:
        """Build the table and swap it in."""
        values = codec.backend_ids(_slots(row))
        with BpfMap.create(MapType.ARRAY, "slots", 4, 4, len(values), flags=_BPF_F_INNER_MAP) as inner:
            inner.update_batch(np.arange(len(values), dtype="<u4").tobytes(), values.tobytes(), len(values))
            self._table.put(_index(key), inner.fd.to_bytes(4, "little"))

    def delete(self, key: Key) -> None:
        """Take the table out."""
        self._table.map.delete(_index(key).to_bytes(4, "little"))


class VipStore:
    """Endpoints of VIPs. Beside them each VIP's address is marked, whatever the port, for pings and fragments."""

    def __init__(self, tables: KernelTables) -> None:
        self._tables = tables

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """All endpoints; marks are no rows."""
        for family in _FAMILIES:
            for key, row in self._tables.by_family("vips", family).rows():
                if not codec.is_vip_mark(key):
                    yield codec.endpoint_of(key, family), FrontendId(int(row["value"]))

    def put(self, key: Key, row: Row) -> None:
        """Mark the address, then bind the endpoint."""
        endpoint = _of(Endpoint, key)
        vips = self._tables.by_family("vips", endpoint.address.version)
        frontend = _of(int, row).to_bytes(4, "little")
        vips.map.update(codec.vip_mark(vips.key, endpoint.address), frontend)
        vips.map.update(codec.endpoint_key(vips.key, endpoint), frontend)

    def delete(self, key: Key) -> None:
        """Unbind the endpoint; the mark goes with the last one of its address."""
        endpoint = _of(Endpoint, key)
        vips = self._tables.by_family("vips", endpoint.address.version)
        vips.map.delete(codec.endpoint_key(vips.key, endpoint))
        if all(_of(Endpoint, other).address != endpoint.address for other, _ in self.rows()):
            vips.map.delete(codec.vip_mark(vips.key, endpoint.address))


class ReverseStore:
    """Frontends that a DNAT backend's endpoint may answer for."""

    def __init__(self, tables: KernelTables) -> None:
        self._tables = tables

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """All endpoints."""
        for family in _FAMILIES:
            for key, row in self._tables.by_family("reverse", family).rows():
                yield codec.endpoint_of(key, family), codec.decode_reverse(row)

    def put(self, key: Key, row: Row) -> None:
        """Write the whole list."""
        endpoint = _of(Endpoint, key)
        reverse = self._tables.by_family("reverse", endpoint.address.version)
        frontends = tuple(FrontendId(value) for value in _slots(row))
        reverse.map.update(codec.endpoint_key(reverse.key, endpoint), codec.encode_reverse(reverse.value, frontends))

    def delete(self, key: Key) -> None:
        """Remove the endpoint."""
        endpoint = _of(Endpoint, key)
        reverse = self._tables.by_family("reverse", endpoint.address.version)
        reverse.map.delete(codec.endpoint_key(reverse.key, endpoint))


class SourceStore:
    """Allowed client prefixes, a set per service."""

    def __init__(self, tables: KernelTables) -> None:
        self._tables = tables

    def rows(self) -> Iterator[tuple[Key, Row]]:
        """The sets that are not empty: a trie holds prefixes, not sets."""
        found: dict[ServiceId, frozenset[IPNetwork]] = {}
        for family in _FAMILIES:
            for key, _ in self._tables.by_family("sources", family).rows():
                service, network = codec.source_of(key, family)
                found[service] = found.get(service, frozenset()) | {network}
        yield from found.items()

    def put(self, key: Key, row: Row) -> None:
        """Move to the new set; what is let in anew comes first, so that no client of both sets is ever refused."""
        service = ServiceId(_index(key))
        networks = _of(frozenset, row)
        present = dict(self.rows()).get(service, frozenset())
        before: frozenset[IPNetwork] = _of(frozenset, present)
        for network in networks - before:
            table = self._tables.by_family("sources", network.version)
            table.map.update(codec.source_key(table.key, service, network), bytes(table.value.itemsize))
        for network in before - networks:
            table = self._tables.by_family("sources", network.version)
            table.map.delete(codec.source_key(table.key, service, network))

    def delete(self, key: Key) -> None:
        """Let nobody in."""
        self.put(key, frozenset())


def stores(tables: KernelTables, hertz: int) -> dict[Table, Store]:
    """The store of each table."""
    nexthops, interfaces = tables["nexthops"], tables["interfaces"]
    return {
        Table.SETTINGS: SettingsStore(tables, hertz),
        Table.FILTER: FilterStore(tables),
        Table.INTERFACES: IndexedStore(
            interfaces,
            Interface,
            lambda row: codec.encode_interface(interfaces.value, row),
            codec.decode_interface,
        ),
        Table.NEXTHOPS: IndexedStore(
            nexthops,
            Nexthop,
            lambda row: codec.encode_nexthop(nexthops.value, row),
            lambda row: codec.decode_nexthop(row) if row["hop"]["ifindex"] else None,
        ),
        Table.BACKENDS: BackendStore(tables),
        Table.SLOTS: SlotsStore(tables),
        Table.FRONTENDS: FrontendStore(tables, hertz),
        Table.VIPS: VipStore(tables),
        Table.REVERSE: ReverseStore(tables),
        Table.SOURCES: SourceStore(tables),
    }


def _of(kind: type[R], value: object) -> R:
    if not isinstance(value, kind):
        raise ValueError(f"a value of type {type(value).__name__} does not belong there")
    return value


def _slots(row: Row) -> Slots:
    return tuple(BackendId(_of(int, value)) for value in _of(tuple, row))


def _index(key: Key) -> int:
    if not isinstance(key, int) or key <= 0:
        raise ValueError("the key must be an id from 1")
    return key
