"""The data path in the kernel: rows of pinned maps."""

from __future__ import annotations

from typing import cast

import numpy as np

from sluicegate_agent.datapath import codec
from sluicegate_agent.datapath.flows import FlowRules, forget_frontend, sweep
from sluicegate_agent.datapath.model import (
    AddressFilter,
    Backend,
    BackendId,
    BackendState,
    Delete,
    Endpoint,
    Frontend,
    FrontendId,
    Interface,
    InterfaceIndex,
    KernelState,
    Nexthop,
    NexthopId,
    Operation,
    Put,
    ServiceId,
    Settings,
    Slots,
    Table,
)
from sluicegate_agent.datapath.protocol import Census, Counters, DatapathError, Traffic, Verdict
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.libbpf import BpfMap, KernelError, MapType
from sluicegate_agent.loader.manifest import Manifest

HOOKS = ("xdp", "tc_ingress", "tc_egress")
"""``enum hook`` in bpf/reasons.h."""

_BPF_F_INNER_MAP = 1 << 12  # inner maps of one outer map may differ in length


class KernelDatapath:
    """Implements :class:`~sluicegate_agent.datapath.protocol.Datapath` on the maps of one manifest.

    Who uses which id is remembered from the last :meth:`observe` and every operation since, so that counters of ids
    in use alone are read.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._tables = KernelTables(manifest)
        self._reasons = manifest.reasons
        self._hertz = hertz()
        self._state = KernelState()
        self._entries: dict[str, int] = {}
        self._census = Census()
        self.observe()

    def close(self) -> None:
        """Close all descriptors; what is pinned stays."""
        self._tables.close()

    def observe(self) -> KernelState:
        """Read all tables back."""
        tables = self._tables
        state = KernelState()
        settings = tables["settings"].get(0)
        if settings is not None:
            state.settings = codec.decode_settings(settings, self._hertz)
        words = [values for _, values in tables["address_filter"].batches()]
        state.filter = codec.decode_filter(np.concatenate(words))
        self._read_rows(state)
        for service in range(1, tables["tables"].capacity):
            slots = self._read_slots(ServiceId(service))
            if slots is not None:
                state.slots[ServiceId(service)] = slots
        self._state = state
        return _copy(state)

    def _read_rows(self, state: KernelState) -> None:
        tables = self._tables
        for key, row in tables["interfaces"].rows():
            state.interfaces[InterfaceIndex(int(key["value"]))] = codec.decode_interface(row)
        for key, row in tables["nexthops"].rows():
            if row["hop"]["ifindex"]:
                state.nexthops[NexthopId(int(key["value"]))] = codec.decode_nexthop(row)
        for key, row in tables["backends"].rows():
            if row["generation"]:
                state.backends[BackendId(int(key["value"]))] = codec.decode_backend(row)
        for key, row in tables["frontends"].rows():
            if row["family"]:
                state.frontends[FrontendId(int(key["value"]))] = codec.decode_frontend(row, self._hertz)
        for family in (4, 6):
            for key, row in tables.by_family("vips", family).rows():
                state.vips[codec.endpoint_of(key, family)] = FrontendId(int(row["value"]))
            for key, row in tables.by_family("reverse", family).rows():
                state.reverse[codec.endpoint_of(key, family)] = codec.decode_reverse(row)

    def apply(self, operation: Operation) -> None:
        """Carry out one operation."""
        try:
            if isinstance(operation, Put):
                self._put(operation)
            else:
                self._delete(operation)
        except (KernelError, ValueError, OverflowError) as error:
            raise DatapathError(f"{operation.table} {operation.key or ''}: {error}") from error

    def counters(self) -> Counters:
        """Read the counters of all ids in use."""
        tables = self._tables
        verdicts = []
        for hook_index, hook in enumerate(HOOKS):
            for index, reason in enumerate(self._reasons):
                total = tables["verdicts"].per_cpu_sum(hook_index * len(self._reasons) + index)
                verdicts.append(
                    Verdict(hook, reason.name.lower(), reason.kind, reason.text, total["packets"], total["bytes"])
                )
        frontends = {key: Traffic(**tables["frontend_traffic"].per_cpu_sum(key)) for key in self._state.frontends}
        backends = {
            key: Traffic(**tables["backend_traffic"].per_cpu_sum(key))
            for key, row in self._state.backends.items()
            if row.state is not BackendState.FREE
        }
        entries = {
            **self._entries,
            "vips4": sum(endpoint.address.version == 4 for endpoint in self._state.vips),
            "vips6": sum(endpoint.address.version == 6 for endpoint in self._state.vips),
            "frontends": len(frontends),
            "backends": len(backends),
            "nexthops": len(self._state.nexthops),
        }
        capacity = {name: tables[name].capacity for name in entries}
        return Counters(tuple(verdicts), frontends, backends, entries, capacity)

    def sweep(self) -> Census:
        """Count live flows and remove FullNAT entries that expired long ago."""
        rules = FlowRules.of(
            self._state.frontends, self._tables["frontends"].capacity, self._state.settings, jiffies(), self._hertz
        )
        try:
            census, self._entries = sweep(self._tables, rules)
        except KernelError as error:
            raise DatapathError(f"flow tables: {error}") from error
        return census

    def _put(self, operation: Put) -> None:
        tables, state, row = self._tables, self._state, operation.row
        match operation.table, row:
            case Table.SETTINGS, Settings():
                tables["settings"].put(0, codec.encode_settings(tables["settings"].value, row, self._hertz))
                state.settings = row
            case Table.FILTER, AddressFilter():
                self._write_filter(row)
            case Table.INTERFACES, Interface():
                index = InterfaceIndex(_index(operation))
                tables["interfaces"].put(index, codec.encode_interface(tables["interfaces"].value, row))
                state.interfaces[index] = row
            case Table.NEXTHOPS, Nexthop():
                nexthop = NexthopId(_index(operation))
                tables["nexthops"].put(nexthop, codec.encode_nexthop(tables["nexthops"].value, row))
                state.nexthops[nexthop] = row
            case Table.BACKENDS, Backend():
                self._put_backend(BackendId(_index(operation)), row)
            case Table.SLOTS, tuple():
                service = ServiceId(_index(operation))
                self._swap_slots(service, cast("Slots", row))
                state.slots[service] = cast("Slots", row)
            case Table.FRONTENDS, Frontend():
                self._put_frontend(FrontendId(_index(operation)), row)
            case Table.VIPS, int():
                endpoint = _endpoint(operation)
                vips = tables.by_family("vips", endpoint.address.version)
                vips.map.update(codec.endpoint_key(vips.key, endpoint), row.to_bytes(4, "little"))
                state.vips[endpoint] = FrontendId(row)
            case Table.REVERSE, tuple():
                endpoint = _endpoint(operation)
                reverse = tables.by_family("reverse", endpoint.address.version)
                frontends = cast("tuple[FrontendId, ...]", row)
                reverse.map.update(
                    codec.endpoint_key(reverse.key, endpoint), codec.encode_reverse(reverse.value, frontends)
                )
                state.reverse[endpoint] = frontends
            case _:
                raise ValueError(f"a row of type {type(row).__name__} does not belong there")

    def _delete(self, operation: Delete) -> None:
        tables, state = self._tables, self._state
        match operation.table:
            case Table.INTERFACES:
                index = InterfaceIndex(_index(operation))
                tables["interfaces"].map.delete(index.to_bytes(4, "little"))
                state.interfaces.pop(index, None)
            case Table.NEXTHOPS:
                nexthop = NexthopId(_index(operation))
                tables["nexthops"].clear(nexthop)
                state.nexthops.pop(nexthop, None)
            case Table.SLOTS:
                service = ServiceId(_index(operation))
                tables["tables"].map.delete(service.to_bytes(4, "little"))
                state.slots.pop(service, None)
            case Table.FRONTENDS:
                frontend = FrontendId(_index(operation))
                tables["frontends"].clear(frontend)
                forget_frontend(tables, frontend)
                state.frontends.pop(frontend, None)
            case Table.VIPS:
                endpoint = _endpoint(operation)
                vips = tables.by_family("vips", endpoint.address.version)
                vips.map.delete(codec.endpoint_key(vips.key, endpoint))
                state.vips.pop(endpoint, None)
            case Table.REVERSE:
                endpoint = _endpoint(operation)
                reverse = tables.by_family("reverse", endpoint.address.version)
                reverse.map.delete(codec.endpoint_key(reverse.key, endpoint))
                state.reverse.pop(endpoint, None)
            case _:
                raise ValueError("rows of this table are never deleted")

    def _put_backend(self, backend: BackendId, row: Backend) -> None:
        tables = self._tables
        before = self._state.backends.get(backend)
        if row.state is not BackendState.FREE and (before is None or before.state is BackendState.FREE):
            tables["backend_traffic"].clear(backend)
            tables["backend_load"].clear(backend)
        tables["backends"].put(backend, codec.encode_backend(tables["backends"].value, row))
        self._state.backends[backend] = row

    def _put_frontend(self, frontend: FrontendId, row: Frontend) -> None:
        tables = self._tables
        if frontend not in self._state.frontends:
            tables["frontend_traffic"].clear(frontend)
        tables["frontends"].put(frontend, codec.encode_frontend(tables["frontends"].value, row, self._hertz))
        self._state.frontends[frontend] = row

    def _swap_slots(self, service: ServiceId, slots: Slots) -> None:
        values = codec.backend_ids(slots)
        inner = BpfMap.create(MapType.ARRAY, "slots", 4, 4, len(values), flags=_BPF_F_INNER_MAP)
        try:
            keys = np.arange(len(values), dtype="<u4")
            inner.update_batch(keys.tobytes(), values.tobytes(), len(values))
            self._tables["tables"].put(service, inner.fd.to_bytes(4, "little"))
        finally:
            inner.close()

    def _read_slots(self, service: ServiceId) -> Slots | None:
        raw = self._tables["tables"].map.lookup(service.to_bytes(4, "little"))
        if raw is None:
            return None
        inner = BpfMap.from_id(int.from_bytes(raw, "little"))
        try:
            values = b"".join(values for _, values, _ in inner.items_batch(chunk=inner.info.max_entries))
        finally:
            inner.close()
        return codec.slots_of(np.frombuffer(values, dtype="<u4"))

    def _write_filter(self, row: AddressFilter) -> None:
        table = self._tables["address_filter"]
        before = codec.encode_filter(table.value, table.capacity, self._state.filter)
        after = codec.encode_filter(table.value, table.capacity, row)
        for word in np.flatnonzero(before != after):
            table.put(int(word), after[word].tobytes())
        self._state.filter = row


def _index(operation: Operation) -> int:
    if not isinstance(operation.key, int) or operation.key <= 0:
        raise ValueError("the key must be an id from 1")
    return operation.key


def _endpoint(operation: Operation) -> Endpoint:
    if not isinstance(operation.key, Endpoint):
        raise ValueError("the key must be an endpoint")
    return operation.key


def _copy(state: KernelState) -> KernelState:
    """The caller's own dictionaries; rows are values and can be shared."""
    return KernelState(
        settings=state.settings,
        interfaces=dict(state.interfaces),
        nexthops=dict(state.nexthops),
        backends=dict(state.backends),
        slots=dict(state.slots),
        frontends=dict(state.frontends),
        vips=dict(state.vips),
        reverse=dict(state.reverse),
        filter=state.filter,
    )
