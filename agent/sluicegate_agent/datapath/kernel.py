"""The data path in the kernel: rows of pinned maps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

from sluicegate_agent.datapath.flows import FlowRules, sweep
from sluicegate_agent.datapath.invariants import copy, write
from sluicegate_agent.datapath.loads import read_latencies, read_loads
from sluicegate_agent.datapath.model import (
    BackendId,
    BackendState,
    KernelState,
    Operation,
    Put,
    Table,
)
from sluicegate_agent.datapath.protocol import Census, Counters, DatapathError, ProgramRuns, Traffic, Verdict
from sluicegate_agent.datapath.stores import stores
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.libbpf import KernelError, Program
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.signals.model import Latencies, Load

HOOKS = ("xdp", "tc_ingress", "tc_egress")
"""``enum hook`` in bpf/reasons.h."""

_FREE = BackendState.FREE
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
        self._forgotten: dict[BackendId, int] = {}
        self._programs = {name: Program.open(program.path) for name, program in manifest.programs.items()}
        self.observe()

    def close(self) -> None:
        """Close all descriptors; what is pinned stays."""
        self._tables.close()
        for program in self._programs.values():
            program.close()

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
        if operation.table is Table.BACKENDS and self._state.backends[cast("BackendId", operation.key)].state is _FREE:
            self._forgotten.pop(cast("BackendId", operation.key), None)

    def counters(self) -> Counters:
        """Read the counters of all ids in use."""
        tables, state = self._tables, self._state
        verdicts = []
        stride = tables["verdicts"].capacity // len(HOOKS)
        for hook_index, hook in enumerate(HOOKS):
            for index, reason in enumerate(self._reasons):
                total = tables["verdicts"].per_cpu_sum(hook_index * stride + index)
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
        return Counters(
            tuple(verdicts), frontends, backends, entries, capacity, self.loads(), self.latencies(), self._runs()
        )

    def loads(self, wanted: Collection[BackendId] | None = None) -> Mapping[BackendId, Load]:
        """The load of backends in use: of the ``wanted``, or of all."""
        tables = self._tables
        try:
            return read_loads(tables["backend_load"], tables["backend_fix"], self._forgotten, self._in_use(wanted))
        except KernelError as error:
            raise DatapathError(f"loads: {error}") from error

    def latencies(self) -> Mapping[BackendId, Latencies]:
        """Histograms of all backends in use."""
        try:
            return read_latencies(self._tables["backend_latency"], self._in_use(None))
        except KernelError as error:
            raise DatapathError(f"latencies: {error}") from error

    def _in_use(self, wanted: Collection[BackendId] | None) -> list[BackendId]:
        present = self._state.backends
        some = present if wanted is None else [key for key in wanted if key in present]
        return [key for key in some if present[key].state is not BackendState.FREE]

    def _runs(self) -> dict[str, ProgramRuns]:
        infos = {name: program.info for name, program in self._programs.items()}
        return {name: ProgramRuns(info.run_ns / 1e9, info.run_count) for name, info in infos.items()}

    def sweep(self) -> Census:
        """Count live flows, remove FullNAT entries that are long dead, correct the counts that LeastLoad compares."""
        rules = FlowRules.of(
            self._state.frontends, self._tables["frontends"].capacity, self._state.settings, jiffies(), self._hertz
        )
        try:
            before = self.loads()
            census, self._entries = sweep(self._tables, rules)
            self._correct_counts(census, before, self.loads())
        except KernelError as error:
            raise DatapathError(f"flow tables: {error}") from error
        return census

    def _correct_counts(
        self, census: Census, before: Mapping[BackendId, Load], after: Mapping[BackendId, Load]
    ) -> None:
        """Bring the counts in line with what the sweep found, as far as it can be told from what came meanwhile.

        Opened less closed misses what was evicted, never closed, or removed, and so do requests less responses, which
        only user space reads: their correction stays here. Traffic goes on during a sweep, so what it found may be any
        number between the least and the most that the counts before and after it allow: within those nothing is
        wrong. A flow too many would keep a small backend from all new ones.
        """
        for key, first in before.items():
            last = after[key]
            error = _outside(
                census.unclosed.get(key, 0),
                first.opened - last.closed + first.fix,
                last.opened - first.closed + first.fix,
            )
            if error:
                self._tables["backend_fix"].put(key, (first.fix + error).to_bytes(8, "little", signed=True))
            self._forgotten[key] = first.forgotten - _outside(
                census.waiting.get(key, 0),
                first.requests - last.responses - last.abandoned - first.forgotten,
                last.requests - first.responses - first.abandoned - first.forgotten,
            )

    def _read(self) -> KernelState:
        state = KernelState()
        for table, store in self._stores.items():
            rows = dict(store.rows())
            setattr(state, table.value, rows.get(None) if table in _SINGLE else rows)
        return state


def _outside(found: int, least: int, most: int) -> int:
    """How far a number is above or below what is possible; 0 within."""
    return found - min(max(found, least), most)
