"""The flow tables, read as a whole: who is alive, what may go. Vectorised: a table holds up to millions of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.model import (
    BackendId,
    ForwardingMode,
    Frontend,
    FrontendId,
    Protocol,
    Settings,
)
from sluicegate_agent.datapath.protocol import Census
from sluicegate_agent.datapath.tables import KernelTable, KernelTables

# enum flow_state in bpf/types.h
ESTABLISHED = 1
CLIENT_FIN = 4
BACKEND_FIN = 8
RESET = 16
COUNTED_CLOSED = 32
WAITING = 256
_BOTH_FIN = CLIENT_FIN | BACKEND_FIN

_FAMILIES = (4, 6)

# An entry is removed only this many timeouts after its last packet. The kernel takes it for dead after one, so none of
# its packets can be on the way through a program any more when it goes.
_GRACE = 2


@dataclass(slots=True)
class _Tally:
    backends: Counter[int] = field(default_factory=Counter)
    unclosed: Counter[int] = field(default_factory=Counter)
    waiting: Counter[int] = field(default_factory=Counter)
    frontends: Counter[int] = field(default_factory=Counter)
    half_open: int = 0
    removed: int = 0
    entries: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Judged:
    """What the rules say of some rows: age and time limit in jiffies, and in which stage of life each one is.

    A row is ``live`` when it is neither closed nor older than its limit: only such flows are counted.
    """

    age: npt.NDArray[np.int64]
    limit: npt.NDArray[np.int64]
    closed: npt.NDArray[np.bool_]
    half_open: npt.NDArray[np.bool_]
    live: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FlowRules:
    """What decides a flow's life: timeouts per frontend id in jiffies, and the clock."""

    now: int
    idle: npt.NDArray[np.int64]
    tcp: npt.NDArray[np.bool_]
    full_nat: npt.NDArray[np.bool_]
    half_open: int
    closed: int

    @classmethod
    def of(
        cls, frontends: Mapping[FrontendId, Frontend], capacity: int, settings: Settings, now: int, hertz: int
    ) -> FlowRules:
        """Lay the frontends out as arrays of ``capacity`` rows. A frontend that is gone has a timeout of zero."""
        idle = np.zeros(capacity, dtype=np.int64)
        tcp = np.zeros(capacity, dtype=np.bool_)
        full_nat = np.zeros(capacity, dtype=np.bool_)
        for frontend_id, frontend in frontends.items():
            idle[frontend_id] = round(frontend.idle_seconds * hertz)
            tcp[frontend_id] = frontend.endpoint.protocol is Protocol.TCP
            full_nat[frontend_id] = frontend.mode is ForwardingMode.FULL_NAT
        return cls(
            now,
            idle,
            tcp,
            full_nat,
            round(settings.half_open_seconds * hertz),
            round(settings.closed_rest_seconds * hertz),
        )

    def judge(self, frontends: npt.NDArray[np.int64], values: npt.NDArray[np.void]) -> Judged:
        """Apply ``state_is_closed()`` and ``state_is_expired()`` of bpf/flow.h to rows of ``flows`` or ``nat``.

        ``frontends`` gives the frontend of each row.
        """
        wrapped = (self.now - values["last_seen"].astype(np.int64)) & 0xFFFFFFFF
        age = np.where(wrapped < 1 << 31, wrapped, 0)  # "the future": a packet came after `now` was read
        state = values["state"]
        tcp = self.tcp[frontends]
        closed = tcp & (((state & RESET) != 0) | ((state & _BOTH_FIN) == _BOTH_FIN))
        half_open = tcp & ~closed & ((state & ESTABLISHED) == 0)
        limit: npt.NDArray[np.int64] = np.where(
            closed, self.closed, np.where(half_open, self.half_open, self.idle[frontends])
        )
        return Judged(age, limit, closed, half_open, ~closed & (age <= limit))


def sweep(tables: KernelTables, rules: FlowRules) -> tuple[Census, dict[str, int]]:
    """Count live flows, remove FullNAT entries that are long dead. Also returns the entries of each table.

    A DNAT flow lives in ``flows``; a FullNAT flow in ``nat``, and its row in ``flows`` is a cache that the LRU removes.
    """
    tally = _Tally()
    for family in _FAMILIES:
        flows = tables.by_family("flows", family)
        for keys, values in flows.batches():
            tally.entries[flows.name] += len(keys)
            frontends = keys["frontend"].astype(np.int64)
            _count(tally, rules, frontends, values, ~rules.full_nat[frontends])
        nat = tables.by_family("nat", family)
        for keys, values in nat.batches():
            tally.entries[nat.name] += len(keys)
            frontends = values["frontend"].astype(np.int64)
            age, limit = _count(tally, rules, frontends, values, np.ones(len(keys), dtype=np.bool_))
            for index in np.flatnonzero(age > limit * _GRACE):
                tally.removed += _remove_if_unchanged(nat, keys[index], values[index])
    return (
        Census(
            flows={BackendId(key): count for key, count in tally.backends.items()},
            frontend_flows={FrontendId(key): count for key, count in tally.frontends.items()},
            half_open=tally.half_open,
            unclosed={BackendId(key): count for key, count in tally.unclosed.items()},
            waiting={BackendId(key): count for key, count in tally.waiting.items()},
            removed=tally.removed,
        ),
        dict(tally.entries),
    )


def forget_frontend(tables: KernelTables, frontend: FrontendId) -> None:
    """Remove all flows of a frontend, so that its id can serve another one."""
    for family in _FAMILIES:
        flows = tables.by_family("flows", family)
        nat = tables.by_family("nat", family)
        for keys, _ in flows.batches():
            for key in keys[keys["frontend"] == frontend]:
                flows.map.delete(key.tobytes())
        for keys, values in nat.batches():
            for key in keys[values["frontend"] == frontend]:
                nat.map.delete(key.tobytes())


def _count(
    tally: _Tally,
    rules: FlowRules,
    frontends: npt.NDArray[np.int64],
    values: npt.NDArray[np.void],
    counted: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Add live flows to the tally. Returns age and time limit of every row, in jiffies."""
    judged = rules.judge(frontends, values)
    live = counted & judged.live
    for key, count in zip(*np.unique(values["backend"][live], return_counts=True), strict=True):
        tally.backends[int(key)] += int(count)
    state = values["state"]
    for rows, counter in (
        (live & ((state & COUNTED_CLOSED) == 0), tally.unclosed),
        (live & ((state & WAITING) != 0), tally.waiting),
    ):
        for key, count in zip(*np.unique(values["backend"][rows], return_counts=True), strict=True):
            counter[int(key)] += int(count)
    for key, count in zip(*np.unique(frontends[live], return_counts=True), strict=True):
        tally.frontends[int(key)] += int(count)
    tally.half_open += int(np.count_nonzero(live & judged.half_open))
    return judged.age, judged.limit


def _remove_if_unchanged(table: KernelTable, key: np.void, value: np.void) -> bool:
    raw = table.map.lookup(key.tobytes())
    if raw is None:
        return False
    present = np.frombuffer(raw, dtype=table.value)[0]
    if present["last_seen"] != value["last_seen"] or present["state"] != value["state"]:
        return False
    return table.map.delete(key.tobytes())
