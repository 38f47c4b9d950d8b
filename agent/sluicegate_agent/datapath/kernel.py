"""The data path in the kernel: rows of pinned maps."""

from __future__ import annotations

from sluicegate_agent.datapath.flows import FlowRules, sweep
from sluicegate_agent.datapath.invariants import copy, write
from sluicegate_agent.datapath.model import (
    BackendState,
    KernelState,
    Operation,
    Put,
    Table,
)
from sluicegate_agent.datapath.protocol import Census, Counters, DatapathError, Traffic, Verdict
from sluicegate_agent.datapath.stores import stores
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader.manifest import Manifest

HOOKS = ("xdp", "tc_ingress", "tc_egress")
"""``enum hook`` in bpf/reasons.h."""

_SINGLE = frozenset({Table.SETTINGS, Table.FILTER})


class KernelDatapath:
    """Implements :class:`~sluicegate_agent.datapath.protocol.Datapath` on the maps of one manifest.

    Who uses which id is remembered from the last :meth:`observe` and every operation since, so that counters of ids
    in use alone are read.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._tables = KernelTables(manifest)
        self._reasons = manifest.reasons
        self._hertz = hertz()
        self._stores = stores(self._tables, self._hertz)
        self._state = KernelState()
        self._entries: dict[str, int] = {}
        self.observe()

    def close(self) -> None:
        """Close all descriptors; what is pinned stays."""
        self._tables.close()

    def observe(self) -> KernelState:
        """Read all tables back."""
        try:
            self._state = self._read()
            return copy(self._state)
        except KernelError as error:
            raise DatapathError(f"reading the tables: {error}") from error

    def apply(self, operation: Operation) -> None:
        """Carry out one operation."""
        store = self._stores[operation.table]
        try:
            if isinstance(operation, Put):
                store.put(operation.key, operation.row)
            else:
                store.delete(operation.key)
        except (KernelError, ValueError, OverflowError) as error:
            raise DatapathError(f"{operation.table} {operation.key or ''}: {error}") from error
        write(self._state, operation)

    def counters(self) -> Counters:
        """Read the counters of all ids in use."""
        tables, state = self._tables, self._state
        verdicts = []
        for hook_index, hook in enumerate(HOOKS):
            for index, reason in enumerate(self._reasons):
                total = tables["verdicts"].per_cpu_sum(hook_index * len(self._reasons) + index)
                verdicts.append(
                    Verdict(hook, reason.name.lower(), reason.kind, reason.text, total["packets"], total["bytes"])
                )
        frontends = {key: Traffic(**tables["frontend_traffic"].per_cpu_sum(key)) for key in state.frontends}
        backends = {
            key: Traffic(**tables["backend_traffic"].per_cpu_sum(key))
            for key, row in state.backends.items()
            if row.state is not BackendState.FREE
        }
        entries = {
            **self._entries,
            "vips4": sum(endpoint.address.version == 4 for endpoint in state.vips),
            "vips6": sum(endpoint.address.version == 6 for endpoint in state.vips),
            "frontends": len(frontends),
            "backends": len(backends),
            "nexthops": len(state.nexthops),
        }
        capacity = {name: tables[name].capacity for name in entries}
        return Counters(tuple(verdicts), frontends, backends, entries, capacity)

    def sweep(self) -> Census:
        """Count live flows, remove FullNAT entries that are long dead, correct the counts that LeastLoad compares."""
        rules = FlowRules.of(
            self._state.frontends, self._tables["frontends"].capacity, self._state.settings, jiffies(), self._hertz
        )
        try:
            census, self._entries = sweep(self._tables, rules)
            self._correct_counts(census)
        except KernelError as error:
            raise DatapathError(f"flow tables: {error}") from error
        return census

    def _correct_counts(self, census: Census) -> None:
        """Bring the counts half-way to what the sweep counted.

        Opened less closed misses what was evicted, never closed, or removed. Half a step, because the sweep itself
        takes time: a full one would swing.
        """
        for backend, row in self._state.backends.items():
            if row.state is BackendState.FREE:
                continue
            load, fix = self._tables["backend_load"].get(backend), self._tables["backend_fix"].get(backend)
            if load is None or fix is None:
                continue
            present = int(fix["value"])
            error = census.flows.get(backend, 0) - (int(load["opened"]) - int(load["closed"]) + present)
            step = error // 2 if abs(error) > 1 else error
            if step:
                self._tables["backend_fix"].put(backend, (present + step).to_bytes(8, "little", signed=True))

    def _read(self) -> KernelState:
        state = KernelState()
        for table, store in self._stores.items():
            rows = dict(store.rows())
            setattr(state, table.value, rows.get(None) if table in _SINGLE else rows)
        return state
