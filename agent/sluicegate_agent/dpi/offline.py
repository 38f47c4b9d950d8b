"""A capture through sniffer and engine: the whole way of a packet, without a kernel.

The engine gets records in batches of a millisecond of the capture's time, which is about how late a live verdict
comes. So the share of packets that goes up is what the kernel would send.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from sluicegate_agent.dpi.actions import ActionTable
from sluicegate_agent.dpi.capture.files import Reader
from sluicegate_agent.dpi.capture.model import Ending
from sluicegate_agent.dpi.capture.tunnels import innermost
from sluicegate_agent.dpi.engine_model import Batch, Detail, Event, Reason
from sluicegate_agent.dpi.events.lines import EveLines, FlowTotals, reason_word
from sluicegate_agent.dpi.events.outputs import Output
from sluicegate_agent.dpi.live.story import Story
from sluicegate_agent.dpi.records import MemoryRing
from sluicegate_agent.dpi.sniffing.flows import End, Flow, State, Why
from sluicegate_agent.dpi.sniffing.sniffer import DEFAULT_CAPACITY, Sniffer, SniffPolicy

BATCH_NS = 1_000_000
RING_BYTES = 4 << 20
_LARGEST_RECORD = 1 << 17
_PROGRESS_EVERY = 4096
_PER_CALL = 4096
_LAYERS = frozenset({"tls", "http", "dns"})
_STATES = {State.IGNORE: "ignore", State.SNIFF: "sniff", State.STOP: "stop", State.DROP: "drop"}


class RecordEngine(Protocol):
    """The part of the engine that is needed here."""

    def run(self, ring: MemoryRing, max_records: int = ...) -> Batch:
        """Take records."""
        ...

    def end(self, flow_id: int, now_ns: int) -> Batch:
        """End one flow."""
        ...

    def drop(self, flow_id: int, seconds: int, reason: Reason, now_ns: int) -> Batch:
        """Drop one flow."""
        ...

    def flush(self, now_ns: int, max_flows: int = ...) -> Batch:
        """End flows, idle or not."""
        ...

    def use_verdicts(self, words: bytearray) -> None:
        """Write verdicts here."""
        ...

    def stats(self) -> dict[str, int]:
        """Counters."""
        ...

    def protocol_name(self, number: int) -> str:
        """Of a protocol or application."""
        ...


@dataclass(slots=True)
class LabelTotals:
    """Flows of one label, and all their packets and bytes on the wire, sent up or not."""

    flows: int = 0
    packets: int = 0
    octets: int = 0
    records: int = 0


@dataclass(slots=True)
class Findings:
    """What came of a capture. ``alerts`` by name; ``unreadable`` packets by reason."""

    packets: int = 0
    octets: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    labels: dict[str, LabelTotals] = field(default_factory=dict)
    alerts: Counter[tuple[int, str]] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    ending: Ending = field(default_factory=lambda: Ending("", 0))
    first_ns: int = 0
    last_ns: int = 0
    interrupted: bool = False


class OfflineRun:
    """One capture, one sniffer, one engine. Use once; `findings` grow while it runs. The story's listener."""

    def __init__(
        self,
        policy: SniffPolicy,
        engine: RecordEngine,
        lines: EveLines,
        output: Output,
        *,
        actions: ActionTable | None = None,
        messages: Callable[[int], str] = str,
    ) -> None:
        """``messages``: what a signature id is called in the summary."""
        self.ring = MemoryRing(RING_BYTES)
        self.sniffer = Sniffer(policy, self.ring, self._flow_ended)
        self.findings = Findings()
        self._engine = engine
        self._lines = lines
        self._output = output
        self._story = Story(lines, self, actions, DEFAULT_CAPACITY)
        self._messages = messages
        self._to_end: list[int] = []
        self._pending: list[bytes] = []
        engine.use_verdicts(self.sniffer.verdicts)

    def run(self, reader: Reader, progress: Callable[[int], None] = lambda _: None) -> Findings:
        """Read to the end, or as far as it goes. ``progress`` hears how many packets were read."""
        findings, see = self.findings, self.sniffer.see
        batch, names = 0, 0
        try:
            for packet in reader:
                findings.packets += 1
                findings.octets += packet.wire_length
                if not 0 <= packet.time - batch < BATCH_NS or self.ring.produced > RING_BYTES - _LARGEST_RECORD:
                    self._drain()
                    batch = packet.time
                if packet.interface >= names:
                    names = len(reader.interfaces)
                    self._lines.name_interfaces(reader.interfaces)
                if not findings.first_ns:
                    findings.first_ns = packet.time
                findings.last_ns = max(findings.last_ns, packet.time)
                found = innermost(packet.link, packet.data)
                if isinstance(found, str):
                    findings.unreadable[found] += 1
                else:
                    see(found, packet.time, packet.interface, packet.wire_length, packet.data)
                if findings.packets % _PROGRESS_EVERY == 0:
                    self.sniffer.flows.expire(self.sniffer.now)
                    progress(findings.packets)
            findings.ending = reader.ending
        except KeyboardInterrupt:
            findings.interrupted = True
            findings.ending = Ending("interrupted", reader.position)
        except OSError as error:
            findings.ending = Ending(f"the file cannot be read further ({error.strerror})", reader.position)
        if reader.damaged:
            findings.unreadable["the capture's block contradicts itself"] += reader.damaged
        self._finish()
        return findings

    def _flow_ended(self, flow: Flow, end: End) -> None:
        if flow.state is State.IGNORE:
            return
        self._story.over(flow.flow_id, partial(_from_flow, flow, end))
        self._to_end.append(flow.flow_id)

    def _drain(self) -> None:
        """Let the engine have what is in the ring, then end what ended meanwhile."""
        while self.ring.produced:
            self._story.take(self._engine.run(self.ring, _PER_CALL))
        if self._to_end:
            now = self.sniffer.now
            for flow_id in self._to_end:
                self._story.take(self._engine.end(flow_id, now))
                self._story.settle(flow_id)
            self._to_end.clear()
        if self._pending:
            self._output.write(self._pending)
            self._pending = []

    def _finish(self) -> None:
        self._drain()
        self.sniffer.flows.end_all()
        self._drain()
        while len(batch := self._engine.flush(self.sniffer.now, _PER_CALL)) or batch.taken:
            self._story.take(batch)
        self._story.close()
        self.line("stats", self._lines.stats(self.sniffer.now, self.stats()))
        self._output.write(self._pending)
        self._pending = []

    def stats(self) -> dict[str, dict[str, int]]:
        """Counters of all parts, as the stats event has them."""
        counters, findings = self.sniffer.counters, self.findings
        sent, stopped, dropped, ignored, fragments, lost, empty = counters.packets
        return {
            "capture": {
                "packets": findings.packets,
                "bytes": findings.octets,
                "unreadable": findings.unreadable.total(),
            },
            "sniffing": {
                "sent": sent,
                "stopped": stopped,
                "dropped": dropped,
                "ignored": ignored,
                "fragments": fragments,
                "lost": lost,
                "empty": empty,
                "flows": self.sniffer.flows.opened,
                "flows_evicted": self.sniffer.flows.evicted,
                "stopped_by_budget": counters.stopped_by_budget,
                "stopped_by_verdict": counters.stopped_by_verdict,
                "dropped_by_verdict": counters.dropped_by_verdict,
            },
            "engine": self._engine.stats(),
        }

    def line(self, kind: str, line: bytes) -> None:
        """One for the output."""
        self._pending.append(line)
        self.findings.events["layer" if kind in _LAYERS else kind] += 1

    def alert(self, sid: int, action: str) -> None:
        """For the summary."""
        self.findings.alerts[sid, f"action {action}" if action else self._messages(sid)] += 1

    def flow(self, event: Event, totals: FlowTotals) -> None:
        """For the summary."""
        counts = self.findings.labels.setdefault(self.label(event), LabelTotals())
        counts.flows += 1
        counts.packets += sum(totals.packets)
        counts.octets += sum(totals.octets)
        counts.records += totals.records

    def drop(self, event: Event, seconds: int, reason: Reason) -> None:
        """What an action asks for."""
        self._story.take(self._engine.drop(event.flow_id, seconds, reason, event.ts_ns))

    def label(self, event: Event) -> str:
        """Master and application as nDPI spells them: "TLS.Google"."""
        names = [self._engine.protocol_name(number) for number in (event.master, event.app) if number]
        return ".".join(dict.fromkeys(names)) or "Unknown"


def _from_flow(flow: Flow, end: End, detail: Detail) -> FlowTotals:
    reason = "budget" if flow.why is Why.BUDGET else reason_word(detail.reason)
    return FlowTotals(
        flow.packets,
        flow.octets,
        flow.first_seen,
        flow.last_seen,
        flow.closing,
        "shutdown" if end is End.CAPTURE else end.value,
        flow.sent,
        _STATES[flow.state],
        reason,
    )
