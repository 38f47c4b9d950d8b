"""The sniffer's flows, read as a whole: which are over, and must be told and removed; how many there are of each kind.

Vectorised, for a table may hold a hundred thousand rows. What ends is judged as the programs do it (bpf/sniff_flow.h).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.tables import KernelTable, KernelTables
from sluicegate_agent.dpi.capture.headers import TCP
from sluicegate_agent.sniffing.model import NO_RULE, SNIFFERS, TAPS, EndedFlow, FlowEnd, SniffState, SniffWhy, Swept

Rows = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

CLOSED_SECONDS: Final = 10
"""How long a closed connection's entry waits for late packets."""

MOST_ENDED: Final = 8192
"""Flows that one sweep ends, which takes it a tenth of a second."""

# enum sniff_flag
_FROM_SECOND, _FIN_OPENER, _FIN_OTHER, _RESET = 1, 2, 4, 8
_BOTH_FIN = _FIN_OPENER | _FIN_OTHER

_FAMILIES = {4: "sniffs4", 6: "sniffs6"}
_ADDRESS_BYTES = {4: 4, 6: 16}
_SECOND = 1_000_000_000
_GOLDEN_RATIO = 0x9E3779B1  # bpf/hash.h
_NO_FLOW = 0  # ids begin with generation 1


@dataclass(frozen=True, slots=True)
class FlowFacts:
    """What decides on a flow's life. By slot of an interface: its index and its sniffer; by number: times.

    ``idle``: jiffies, in rows TCP and others. ``handed_over``: numbers that got another owner since the sweep before,
    and whose flows were forgotten then.
    """

    tap_ifindex: Numbers
    tap_sniffer: Numbers
    idle: Numbers
    handed_over: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Moment:
    """The clocks of one sweep."""

    jiffies: int
    wall_ns: int
    hertz: int

    def age(self, last_seen: npt.NDArray[np.integer]) -> Numbers:
        """Jiffies since then."""
        wrapped = (self.jiffies - last_seen.astype(np.int64)) & 0xFFFFFFFF
        return np.where(wrapped < 1 << 31, wrapped, 0)  # "the future": a packet came after the clock was read

    def runs(self, until: npt.NDArray[np.integer]) -> Mask:
        """Is that time still to come?"""
        left: Numbers = (until.astype(np.int64) - self.jiffies) & 0xFFFFFFFF
        return (left > 0) & (left < 1 << 31)


@dataclass(frozen=True, slots=True)
class _Known:
    """Rows that a sweep left, as they were read; ``ids`` are those of all batches, `_NO_FLOW` where nobody looks."""

    batches: list[tuple[Rows, Rows]]
    ids: npt.NDArray[np.uint64]

    def row(self, index: int) -> tuple[np.void, np.void]:
        """Key and value."""
        for keys, values in self.batches:
            if index < len(keys):
                return keys[index], values[index]
            index -= len(keys)
        raise IndexError


class FlowSweeper:
    """Sweeps the tables of one set of programs; remembers a sweep's flows, so that the next one sees who vanished."""

    def __init__(self, tables: KernelTables, hertz: int) -> None:
        self._tables = {family: tables[name] for family, name in _FAMILIES.items()}
        self._hertz = hertz
        self._known: dict[int, _Known] = {}

    def sweep(self, facts: FlowFacts, workers: int, now: int, limit: int = MOST_ENDED) -> Swept:
        """Remove what is over. ``now`` in jiffies; flows go to the worker of their slot. Raises KernelError.

        Flows that nobody wants (`SniffState.IGNORE`) are removed too, and not told.
        """
        moment = _Moment(now, time.time_ns(), self._hertz)
        told: defaultdict[int, list[EndedFlow]] = defaultdict(list)
        kinds: Counter[tuple[int, int]] = Counter()
        entries, evicted, room = {}, 0, limit
        for family, table in self._tables.items():
            sweep = _TableSweep(table, family, facts, moment, room)
            ended = list(sweep.run(self._known.get(family)))
            self._known[family] = sweep.known()
            room -= sweep.removed
            entries[table.name] = sweep.rows - sweep.removed
            kinds.update(sweep.kinds)
            for flow in ended:
                evicted += flow.end is FlowEnd.EVICTED
                told[worker_of(flow.flow_id, workers)].append(flow)
        return Swept(
            ended={worker: tuple(flows) for worker, flows in told.items()},
            flows={(number, SniffState(state)): count for (number, state), count in kinds.items()},
            entries=entries,
            evicted=evicted,
            more=room <= 0,
        )


def worker_of(flow_id: int, workers: int) -> int:
    """Who gets a flow's records: sniff_send() of the programs."""
    return ((flow_id * _GOLDEN_RATIO & 0xFFFFFFFF) >> 16) % workers if workers else 0


def forget_flows(tables: KernelTables, number: int) -> None:
    """Remove all flows of a sniffer, so that its number can serve another one. Raises KernelError."""
    for name in _FAMILIES.values():
        for keys, values in tables[name].batches():
            for key in keys[values["sniffer"] == number]:
                tables[name].map.delete(key.tobytes())


class _TableSweep:
    """One walk over one table."""

    def __init__(self, table: KernelTable, family: int, facts: FlowFacts, moment: _Moment, room: int) -> None:
        self._table, self._family, self._facts, self._moment, self._room = table, family, facts, moment, room
        self._batches: list[tuple[Rows, Rows]] = []
        self._ids: list[npt.NDArray[np.uint64]] = []
        self._ended: set[int] = set()
        self.kinds: Counter[tuple[int, int]] = Counter()
        self.rows = self.removed = 0

    def run(self, before: _Known | None) -> Iterator[EndedFlow]:
        """Flows that ended, of those that somebody looked at."""
        for keys, values in self._table.batches():
            self.rows += len(keys)
            over = self._over(keys, values)
            stays = np.ones(len(keys), np.bool_)
            for index in np.flatnonzero(over)[: max(self._room - self.removed, 0)]:
                value = self._remove_if_unchanged(keys[index], values[index])
                if value is not None:
                    stays[index] = False
                    if value["state"] != SniffState.IGNORE:
                        yield self._flow(keys[index], value, _ENDS[int(over[index])])
            self._batches.append((keys, values))
            self._ids.append(np.where(stays & (values["state"] != SniffState.IGNORE), values["id"], _NO_FLOW))
            self._count(values["sniffer"][stays], values["state"][stays])
        if before is not None:
            yield from self._vanished(before)

    def known(self) -> _Known:
        """What the next sweep compares with."""
        return _Known(self._batches, np.concatenate([np.zeros(0, np.uint64), *self._ids]))

    def _over(self, keys: Rows, values: Rows) -> npt.NDArray[np.int8]:
        """For every row why it is over, as an index of ``_ENDS``; 0 when it is not."""
        facts, moment = self._facts, self._moment
        number = values["sniffer"].astype(np.int64) % SNIFFERS
        ifindex = keys["ifindex"].astype(np.int64)
        slot = ifindex % TAPS
        tapped = (facts.tap_ifindex[slot] == ifindex) & (facts.tap_sniffer[slot] == number)
        age = moment.age(values["last_seen"])
        limit = np.where(keys["protocol"] == TCP, facts.idle[0][number], facts.idle[1][number])
        flags = values["flags"]
        closed = ((flags & _RESET) != 0) | ((flags & _BOTH_FIN) == _BOTH_FIN)
        held = (values["state"] == SniffState.DROP) & moment.runs(values["until"])
        found: npt.NDArray[np.int8] = np.select(
            [~tapped, held, age > limit, closed & (age > CLOSED_SECONDS * moment.hertz)], [3, 0, 1, 2], 0
        ).astype(np.int8)
        return found

    def _remove_if_unchanged(self, key: np.void, value: np.void) -> np.void | None:
        """The row as it was removed; None when it is another by now."""
        raw = self._table.map.lookup(key.tobytes())
        if raw is None:
            return None
        present: np.void = np.frombuffer(raw, self._table.value)[0]
        if present["id"] != value["id"] or present["last_seen"] != value["last_seen"]:
            return None
        if not self._table.map.delete(key.tobytes()):
            return None
        self.removed += 1
        self._ended.add(int(value["id"]))
        return present

    def _vanished(self, before: _Known) -> Iterator[EndedFlow]:
        """Flows of the sweep before that neither are in the table any more nor were removed by this one."""
        for index in np.flatnonzero(~np.isin(before.ids, self.known().ids) & (before.ids != _NO_FLOW)):
            flow_id = int(before.ids[index])
            if flow_id in self._ended:
                continue
            key, value = before.row(int(index))
            raw = self._table.map.lookup(key.tobytes())
            now_there = _NO_FLOW if raw is None else int(np.frombuffer(raw, self._table.value)[0]["id"])
            if now_there == flow_id:
                continue  # the walk missed it
            self._ended.add(flow_id)
            end = FlowEnd.EVICTED if now_there == _NO_FLOW else FlowEnd.REUSED
            yield self._flow(key, value, FlowEnd.UNTAPPED if int(value["sniffer"]) in self._facts.handed_over else end)

    def _count(self, numbers: npt.NDArray[np.integer], states: npt.NDArray[np.integer]) -> None:
        counts = np.bincount(numbers.astype(np.int64) << 8 | states)
        for kind in np.flatnonzero(counts).tolist():
            self.kinds[kind >> 8, kind & 0xFF] += int(counts[kind])

    def _flow(self, key: np.void, value: np.void, end: FlowEnd) -> EndedFlow:
        size = _ADDRESS_BYTES[self._family]
        packed = key.tobytes()
        ends = (packed[:size], packed[size : 2 * size])
        ports = [int(port) for port in key["port"].byteswap()]
        flags = int(value["flags"])
        first = 1 if flags & _FROM_SECOND else 0
        rule = int(value["rule"])
        idle = int(self._moment.age(np.array([value["last_seen"]]))[0])
        return EndedFlow(
            flow_id=int(value["id"]),
            family=self._family,
            client=ends[first],
            server=ends[1 - first],
            ports=(ports[first], ports[1 - first]),
            protocol=int(key["protocol"]),
            ifindex=int(key["ifindex"]),
            packets=(int(value["packets"][0]), int(value["packets"][1])),
            octets=(int(value["octets"][0]), int(value["octets"][1])),
            first_ns=int(value["first_ns"]),
            last_ns=max(self._moment.wall_ns - idle * _SECOND // self._moment.hertz, int(value["first_ns"])),
            state=SniffState(int(value["state"])),
            why=SniffWhy(int(value["why"])),
            sent=int(value["sent"]),
            closing=bool(flags & (_BOTH_FIN | _RESET)),
            sniffer=int(value["sniffer"]),
            rule=None if rule == NO_RULE else rule,
            tcp_flags=(int(value["tcp_flags"][0]), int(value["tcp_flags"][1])),
            tunnel=int(key["tunnel"]),
            end=end,
        )


_ENDS = {1: FlowEnd.IDLE, 2: FlowEnd.CLOSED, 3: FlowEnd.UNTAPPED}
"""By what `_TableSweep._over` says."""
