"""What the agent writes for the sniffer in the kernel: who sniffs where, by which rules, and who reads.

Every step leaves tables by which the programs can go on: rules are in place before a row names them, a row before an
interface's tap does, and nothing is removed before the last packet that may look at it is through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sluicegate_agent.datapath.codec import record
from sluicegate_agent.datapath.tables import KernelTable, KernelTables
from sluicegate_agent.dpi.sniffing.rules import SniffRule
from sluicegate_agent.kernel.grace import wait_for_programs
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_agent.sniffing.counters import clear_counters, clear_rule_flows, read_counters, read_losses
from sluicegate_agent.sniffing.flows import FlowFacts, forget_flows
from sluicegate_agent.sniffing.model import SNIFFERS, TAPS, WORKERS, Applied, SniffCounters, SnifferPlan, TableUse, Tap
from sluicegate_agent.sniffing.rulesets import CompiledRules, compile_rules
from sluicegate_agent.sniffing.slots import settle_ids
from sluicegate_agent.sniffing.versions import NoRoomError, RuleVersions, Version

_log = logging.getLogger(__name__)

_TAP_XDP = 1  # enum tap_flag
_ADAPTIVE, _SEND_EMPTY = 1, 2  # enum sniffer_flag


@dataclass(slots=True)
class _Row:
    """A sniffer's row. After a restart neither its owner nor its rules are known, only the version they became."""

    raw: bytes
    version: Version | None
    owner: str | None = None
    rules: tuple[SniffRule, ...] | None = None


class SniffTables:
    """The sniffer's tables of one set of programs. Starts with what is there: flows and taps outlive the agent.

    Blocks for tens of milliseconds when something is taken away. Not for several threads at once.
    """

    def __init__(self, tables: KernelTables, hertz: int) -> None:
        """Read the tables. Raises KernelError."""
        self._tables = tables
        self._hertz = hertz
        self._rows: dict[int, _Row] = {}
        self._taps: dict[int, Tap] = {}
        self._handed_over: set[int] = set()
        self._doubtful = False  # whether the last call broke off
        self._versions = self._adopt()
        if removed := settle_ids(tables):
            _log.warning("gave up %d sniffed flows: there are fewer verdict words than before", removed)
        self.refresh_clock()

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Interfaces that are sniffed, as the kernel has them."""
        return tuple(self._taps.values())

    @property
    def numbers(self) -> frozenset[int]:
        """Sniffers that have a row."""
        return frozenset(self._rows)

    def apply(self, plans: Sequence[SnifferPlan], taps: Sequence[Tap]) -> Applied:
        """Make the kernel sniff so and not otherwise. Raises KernelError; the next call then begins with reading."""
        if self._doubtful:
            self._read_again()
        self._doubtful = True
        refused: dict[int, str] = {}
        stale = self._put_rows(plans, refused)
        gone = self._without_plan(plans)
        refused_taps = self._put_taps(taps, gone)
        self._remove(gone, stale)
        if refused and (gone or stale):  # what was removed made room
            again = [plan for plan in plans if plan.number in refused]
            refused.clear()
            stale = self._put_rows(again, refused)
            refused_taps = self._put_taps(taps, frozenset())
            self._remove((), stale)
        self._doubtful = False
        return Applied(refused, refused_taps)

    def clear(self) -> None:
        """Sniff nothing, and forget all rules. Raises KernelError."""
        self.apply((), ())

    def set_readers(self, workers: int, ring_bytes: int) -> None:
        """How many rings are read, of which size; 0: nobody reads, and nothing is sent up. Raises KernelError."""
        table = self._tables["sniff_settings"]
        row = record(table.value)
        row["clock_offset"] = _clock_offset()
        row["workers"] = workers
        row["ring_bytes"] = ring_bytes
        row["cpus"] = possible_cpus()
        row["hertz"] = self._hertz
        table.put(0, row.tobytes())

    def refresh_clock(self) -> None:
        """Tell the programs the time of day again: it drifts from the clock that they have. Raises KernelError."""
        workers, ring_bytes = self.readers
        self.set_readers(workers, ring_bytes)

    @property
    def readers(self) -> tuple[int, int]:
        """Rings that are read and their size, as the kernel has it."""
        row = self._tables["sniff_settings"].get(0)
        return (0, 0) if row is None else (int(row["workers"]), int(row["ring_bytes"]))

    def flow_facts(self) -> FlowFacts:
        """What the next sweep goes by; call it once for each."""
        ifindex, sniffer = np.zeros(TAPS, np.int64), np.zeros(TAPS, np.int64)
        for slot, tap in self._taps.items():
            ifindex[slot], sniffer[slot] = tap.ifindex, tap.sniffer
        idle = np.zeros((2, SNIFFERS), np.int64)
        for number, row in self._rows.items():
            decoded = np.frombuffer(row.raw, self._tables["sniffers"].value)[0]
            idle[:, number] = decoded["tcp_idle"], decoded["other_idle"]
        handed_over, self._handed_over = frozenset(self._handed_over), set()
        return FlowFacts(ifindex, sniffer, idle, handed_over)

    def counters(self) -> dict[int, SniffCounters]:
        """By number of the sniffer. Raises KernelError."""
        rules = {number: len(row.rules or ()) for number, row in self._rows.items()}
        return read_counters(self._tables, rules)

    def losses(self) -> tuple[int, ...]:
        """Records that found no room in the ring of each worker, since the programs were first loaded.

        Of all that have a reader, and of those before them that lost some when they had one.
        """
        totals = read_losses(self._tables, WORKERS)
        last = max((worker + 1 for worker, total in enumerate(totals) if total), default=0)
        return totals[: max(last, self.readers[0])]

    def use(self) -> Mapping[str, TableUse]:
        """How full the tables of rules are."""
        return self._versions.use()

    def _put_rows(self, plans: Iterable[SnifferPlan], refused: dict[int, str]) -> list[int]:
        """Rows of plans that are new or changed. Returns the versions that these no longer name."""
        stale = []
        for plan in plans:
            row = self._rows.get(plan.number)
            try:
                version = self._version_of(plan, row)
            except (NoRoomError, ValueError) as error:
                refused[plan.number] = str(error)
                continue
            raw = self._encode(plan, version)
            changed_hands = row is None or row.owner not in {None, plan.owner}
            if changed_hands:
                clear_counters(self._tables, plan.number)
                self._handed_over.add(plan.number)
            elif row is not None and version != row.version:
                clear_rule_flows(self._tables, plan.number)
            if row is None or raw != row.raw:
                self._tables["sniffers"].put(plan.number, raw)
            if changed_hands:
                forget_flows(self._tables, plan.number)  # they were judged by the rules of another
            if row is not None and row.version is not None and version != row.version:
                stale.append(row.version.table)
            self._rows[plan.number] = _Row(raw, version, plan.owner, plan.rules)
        return stale

    def _version_of(self, plan: SnifferPlan, row: _Row | None) -> Version | None:
        """The plan's rules in the kernel; None when there are none, so that everything is sniffed."""
        if not plan.rules:
            return None
        if row is not None and row.rules == plan.rules:
            return row.version
        compiled: CompiledRules = compile_rules(plan.rules)
        unknown = row.version if row is not None and row.rules is None else None
        if unknown is not None and self._versions.content(unknown) == compiled:
            return unknown
        return self._versions.write(compiled)

    def _without_plan(self, plans: Iterable[SnifferPlan]) -> frozenset[int]:
        """Numbers whose row belongs to nobody any more, or to another than the plan whose rules did not fit."""
        owners = {plan.number: plan.owner for plan in plans}
        return frozenset(
            number
            for number, row in self._rows.items()
            if number not in owners or row.owner not in {None, owners[number]}
        )

    def _put_taps(self, taps: Iterable[Tap], gone: frozenset[int]) -> dict[int, str]:
        wanted: dict[int, Tap] = {}
        refused: dict[int, str] = {}
        for tap in taps:
            other = wanted.get(tap.ifindex % TAPS)
            if tap.sniffer not in self._rows or tap.sniffer in gone:
                refused[tap.ifindex] = f"its sniffer, number {tap.sniffer}, is not in the kernel"
            elif other is not None:
                refused[tap.ifindex] = (
                    f"interface {tap.ifindex} and interface {other.ifindex} cannot both be sniffed: their indices "
                    f"differ by a multiple of {TAPS}; create one of them anew"
                )
            else:
                wanted[tap.ifindex % TAPS] = tap
        table = self._tables["taps"]
        for slot, tap in wanted.items():
            if self._taps.get(slot) != tap:
                table.put(slot, _encode_tap(table, tap))
                self._taps[slot] = tap
        for slot in self._taps.keys() - wanted.keys():
            table.clear(slot)
            del self._taps[slot]
        return refused

    def _remove(self, gone: Iterable[int], stale: Iterable[int]) -> None:
        """Rows of sniffers that no tap names, and versions that no row does."""
        versions = list(stale)
        numbers = [*gone]
        for number in numbers:
            row = self._rows[number]
            versions += [] if row.version is None else [row.version.table]
        if not numbers and not versions:
            return
        wait_for_programs()
        for number in numbers:
            self._tables["sniffers"].clear(number)
            del self._rows[number]
        self._versions.remove(versions)

    def _adopt(self) -> RuleVersions:
        """Start from what is in the kernel, and remove versions that a killed agent left half-written."""
        versions = RuleVersions(self._tables)
        table = self._tables["sniffers"]
        self._rows.clear()
        for number, row in enumerate(table.head(SNIFFERS)):
            if int(row["max_packets"]):
                version = _version_in(row)
                self._rows[number] = _Row(row.tobytes(), version)
                if version is not None:
                    versions.keep(version)
        self._taps.clear()
        for slot, row in enumerate(self._tables["taps"].head(TAPS)):
            if int(row["ifindex"]):
                self._taps[slot] = Tap(int(row["ifindex"]), int(row["sniffer"]), bool(int(row["flags"]) & _TAP_XDP))
        named = {row.version.table for row in self._rows.values() if row.version is not None}
        versions.remove([table for table in versions if table not in named])
        return versions

    def _read_again(self) -> None:
        """After a failure: what is in the kernel is what counts; owners are who they were."""
        before = dict(self._rows)
        self._versions = self._adopt()
        for number, row in self._rows.items():
            if number in before:
                row.owner = before[number].owner

    def _encode(self, plan: SnifferPlan, version: Version | None) -> bytes:
        row = record(self._tables["sniffers"].value)
        if version is not None:
            row["table"] = version.table
            row["ignored"] = version.ignored
            row["protocols"] = version.protocols
        row["max_packets"] = plan.budget.max_packets
        row["payload_packets"] = plan.budget.payload_packets
        row["payload_bytes"] = plan.budget.payload_bytes
        row["tcp_idle"] = round(plan.tcp_idle_seconds * self._hertz)
        row["other_idle"] = round(plan.other_idle_seconds * self._hertz)
        row["flags"] = (_ADAPTIVE if plan.adaptive else 0) | (_SEND_EMPTY if plan.send_empty else 0)
        return row.tobytes()


def _encode_tap(table: KernelTable, tap: Tap) -> bytes:
    row = record(table.value)
    row["ifindex"] = tap.ifindex
    row["sniffer"] = tap.sniffer
    row["flags"] = _TAP_XDP if tap.xdp else 0
    return row.tobytes()


def _version_in(row: np.void) -> Version | None:
    table = int(row["table"])
    return Version(table, tuple(row["protocols"].tolist()), int(row["ignored"])) if table else None


def _clock_offset() -> int:
    """Wall clock less the clock of ``bpf_ktime_get_ns``, in ns."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
