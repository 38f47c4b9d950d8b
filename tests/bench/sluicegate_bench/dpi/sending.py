"""The replay through the twin of the kernel's part: what goes up, and what the engine makes of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import yaml

from sluicegate_agent.dpi.capture.files import open_capture, open_file
from sluicegate_agent.dpi.configuration import offline_limits, sniff_policy
from sluicegate_agent.dpi.engine import Engine
from sluicegate_agent.dpi.engine_model import Batch, Event, Kind, Policy, Reason
from sluicegate_agent.dpi.events.lines import EveLines, FlowTotals, Origin
from sluicegate_agent.dpi.events.outputs import FileOutput, Nowhere
from sluicegate_agent.dpi.live.story import Story
from sluicegate_agent.dpi.offline import OfflineRun
from sluicegate_agent.dpi.offline_engine import OfflineEngine, open_engine
from sluicegate_agent.dpi.records import MemoryRing
from sluicegate_agent.dpi.sniffing.sniffer import Budget, Outcome
from sluicegate_api.dpisniffer import DpiSniffer
from sluicegate_bench.dpi import rules
from sluicegate_bench.dpi.mix import Mix

_BOUNDLESS = Budget(1 << 40, 1 << 40, 1 << 40)
_RECORDS = 4096
_RING_BYTES = 8 << 20


class FlowKey(NamedTuple):
    """The client's end of a flow comes first. IPv4."""

    client: bytes
    client_port: int
    server: bytes
    server_port: int
    protocol: int


@dataclass(slots=True)
class Findings:
    """What the engine said of each flow."""

    labels: dict[FlowKey, str] = field(default_factory=dict)
    alerts: set[tuple[FlowKey, int]] = field(default_factory=set)


@dataclass(slots=True)
class Sent:
    """One pass. ``rings``: what the ring held each time the engine came. Packets are of the wire."""

    packets: int
    records: int
    rings: tuple[bytes, ...]
    findings: Findings
    sent_by_part: Counter[str]
    outcomes: dict[str, int]

    @property
    def share(self) -> float:
        """Of all packets, those that went up."""
        return self.records / self.packets


def document(directory: Path) -> dict[str, object]:
    """The sniffer of this benchmark, but for where: defaults, the hundred rules, events of all types into a file."""
    file = directory / "bench.rules"
    file.write_text(rules.text(), encoding="utf-8")
    return {
        "apiVersion": "sluicegate.io/v1alpha1",
        "kind": "DpiSniffer",
        "metadata": {"name": "bench", "namespace": "bench"},
        "spec": {
            "signatures": {"files": [str(file)]},
            "export": {"eve": {"type": "File", "path": str(directory / "eve.json")}},
        },
    }


def sniffer(directory: Path) -> DpiSniffer:
    """The same as the agent reads it."""
    return DpiSniffer.model_validate(yaml.safe_load(yaml.safe_dump(document(directory))))


@contextmanager
def engine(directory: Path) -> Iterator[OfflineEngine]:
    """An engine with the hundred rules.

    Raises RuntimeError when a rule is refused or classification is off: figures would mean something else.
    """
    with open_engine(sniffer(directory), offline_limits(), directory) as opened:
        if opened.refused or len(opened.signatures) != len(rules.rules()):
            raise RuntimeError(f"{len(opened.signatures)} of {len(rules.rules())} rules are in force")
        if opened.classification_reason:
            raise RuntimeError(f"classification is off: {opened.classification_reason}")
        yield opened


def send(mix: Mix, directory: Path, *, everything: bool = False) -> Sent:
    """One pass with the sniffer's defaults; with ``everything`` the engine is given every packet, whatever it says."""
    spec = sniffer(directory).spec
    with engine(directory) as opened:
        policy = replace(sniff_policy(spec), send_empty=opened.send_empty)
        if everything:
            policy = replace(policy, budget=_BOUNDLESS, send_empty=True)
            opened.engine.set_policy(0, Policy(max_packets=0, payload_packets=0, payload_bytes=0))
        recorder = _Recorder(opened.engine, obey=not everything)
        run = _Run(policy, recorder, EveLines(Origin("bench/bench", "bench"), opened.engine), Nowhere())
        run.mix = mix
        with open_file(mix.path) as file:
            run.run(open_capture(file, mix.path.name))
        counters = run.sniffer.counters
        outcomes = {outcome.name.lower(): counters.packets[outcome] for outcome in Outcome}
        sent = counters.packets[Outcome.SENT]
        return Sent(counters.seen, sent, tuple(recorder.rings), recorder.findings, run.sent_by_part, outcomes)


def engine_seconds(sent: Sent, directory: Path, *, events: bool) -> float:
    """CPU time of the engine for the same records; with ``events``, lines of EVE JSON are made and written too."""
    with engine(directory) as opened:
        output = FileOutput(directory / "engine-eve.json", fresh=True)
        listener = Writer()
        story = Story(EveLines(Origin("bench/bench", "bench"), opened.engine, opened.signatures), listener)
        native, ring = opened.engine, MemoryRing(_RING_BYTES)
        words = bytearray(8 << 16)
        native.use_verdicts(words)
        started = time.process_time()
        for content in sent.rings:
            ring.memory[: len(content)] = content
            ring.produced = len(content)
            while ring.produced:
                batch = native.run(ring, _RECORDS)
                if events:
                    story.take(batch)
            if listener.lines:
                output.write(listener.lines)
                listener.lines = []
        while len(batch := native.flush(1 << 62, _RECORDS)) or batch.taken:
            if events:
                story.take(batch)
        story.close()
        output.write(listener.lines)
        spent = time.process_time() - started
        output.close()
        return spent


class _Run(OfflineRun):
    """Notes how many packets of each part went up."""

    mix: Mix

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.sent_by_part: Counter[str] = Counter()

    def flow(self, event: Event, totals: FlowTotals) -> None:
        super().flow(event, totals)
        self.sent_by_part[self.mix.part_of(event.client[:4]).name] += totals.records


class _Recorder:
    """An engine that notes what it is given and what it says."""

    def __init__(self, real: Engine, *, obey: bool) -> None:
        self._real = real
        self._obey = obey
        self.rings: list[bytes] = []
        self.findings = Findings()

    def run(self, ring: MemoryRing, max_records: int = _RECORDS) -> Batch:
        if not ring.consumed and self._obey:
            self.rings.append(bytes(ring.memory[: ring.produced]))
        return self._noted(self._real.run(ring, max_records))

    def end(self, flow_id: int, now_ns: int) -> Batch:
        return self._noted(self._real.end(flow_id, now_ns))

    def drop(self, flow_id: int, seconds: int, reason: Reason, now_ns: int) -> Batch:
        return self._noted(self._real.drop(flow_id, seconds, reason, now_ns))

    def flush(self, now_ns: int, max_flows: int = _RECORDS) -> Batch:
        return self._noted(self._real.flush(now_ns, max_flows))

    def use_verdicts(self, words: bytearray) -> None:
        self._real.use_verdicts(words if self._obey else bytearray(len(words)))

    def stats(self) -> dict[str, int]:
        return self._real.stats()

    def protocol_name(self, number: int) -> str:
        return self._real.protocol_name(number)

    def _noted(self, batch: Batch) -> Batch:
        for event in batch:
            key = FlowKey(event.client[:4], event.client_port, event.server[:4], event.server_port, event.l4_proto)
            if event.kind == Kind.ALERT:
                self.findings.alerts.add((key, event.rule))
            elif event.kind == Kind.END:
                names = dict.fromkeys(self.protocol_name(one) for one in (event.master, event.app) if one)
                self.findings.labels[key] = ".".join(names)
        return batch


class Writer:
    """Hears a story and keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def line(self, _: str, line: bytes) -> None:
        """A whole line."""
        self.lines.append(line)

    def alert(self, sid: int, action: str) -> None:
        """The line is enough."""

    def flow(self, event: Event, totals: FlowTotals) -> None:
        """The line is enough."""

    def drop(self, event: Event, seconds: int, reason: Reason) -> None:
        """No action asks for it here."""
