"""What people and scrapers are shown of a sniffer, typed. JSON keys are the camelCase of the names here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from sluicegate_agent.dpi.events.hub import OutputState
from sluicegate_agent.dpi.live.model import WorkerState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.reports.condition import Condition, WithConditions
from sluicegate_agent.sniffing.model import SniffCounters
from sluicegate_agent.sniffing.state import Signatures


@dataclass(frozen=True, slots=True)
class SniffedInterface:
    """An interface that a sniffer wants. ``mode`` is xdp or tc, where incoming packets are met; empty without programs.

    ``sniffed``: the kernel copies packets of it for this sniffer; ``reason`` says why it is wanted, or why not sniffed.
    """

    name: str
    mode: str
    sniffed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A process of the engine. All sniffers share them; ``lost`` are records that its ring had no room for."""

    state: WorkerState
    ring_bytes: int
    lost: int


@dataclass(frozen=True, slots=True)
class SnifferView(WithConditions):
    """One sniffer. ``source`` is the file it comes from.

    ``rules`` are flows by the name of the rule that took them. ``seconds_per_million`` is the engine's CPU time for a
    million packets on the wire, of all sniffers together. ``empty`` gives for each part that holds nothing the reason;
    ``notes`` say what else is worth knowing, ``missing`` which interfaces it names are not there.
    """

    namespace: str
    name: str
    source: str
    conditions: tuple[Condition, ...]
    interfaces: tuple[SniffedInterface, ...] = ()
    counters: SniffCounters = field(default_factory=SniffCounters)
    active_flows: int = 0
    rules: tuple[tuple[str, int], ...] = ()
    workers: tuple[WorkerView, ...] = ()
    signatures: Signatures | None = None
    classification: str = ""
    output: OutputState | None = None
    events: Mapping[str, int] = field(default_factory=dict)
    seconds_per_million: float | None = None
    empty: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def sniffer_json(sniffer: SnifferView) -> dict[str, object]:
    """One entry of ``sniffers`` in ``status -o json``."""
    counters = sniffer.counters
    return {
        "namespace": sniffer.namespace,
        "name": sniffer.name,
        "source": sniffer.source,
        "ready": sniffer.ready,
        "conditions": [asdict(condition) for condition in sniffer.conditions],
        "interfaces": [asdict(interface) for interface in sniffer.interfaces],
        "sentShare": counters.share_sent,
        "packets": counters.packets,
        "bytes": counters.octets,
        "sent": counters.sent,
        "sentBytes": counters.sent_octets,
        "empty": counters.empty,
        "stopped": counters.stopped,
        "dropped": counters.dropped,
        "ignored": counters.ignored,
        "fragments": counters.fragments,
        "unreadable": counters.unreadable,
        "lost": counters.lost,
        "noWorker": counters.no_worker,
        "noRoom": counters.no_room,
        "flows": counters.opened,
        "activeFlows": sniffer.active_flows,
        "decidedFlows": {
            "budget": counters.stopped_by_budget,
            "verdict": counters.stopped_by_verdict,
            "pressure": counters.stopped_by_pressure,
            "drop": counters.dropped_by_verdict,
        },
        "rules": [{"name": name, "flows": flows} for name, flows in sniffer.rules],
        "unmatchedFlows": counters.unmatched,
        "workers": [_worker_json(worker) for worker in sniffer.workers],
        "cpuSecondsPerMillionPackets": sniffer.seconds_per_million,
        "signatures": None if sniffer.signatures is None else _signatures_json(sniffer.signatures),
        "classification": sniffer.classification or None,
        "output": None if sniffer.output is None else _output_json(sniffer.output),
        "events": dict(sniffer.events),
        "reasons": dict(sniffer.empty),
        "notes": list(sniffer.notes),
    }


def _worker_json(worker: WorkerView) -> dict[str, object]:
    state = worker.state
    return {
        "number": state.number,
        "state": str(state.state),
        "reason": state.reason,
        "pid": state.pid,
        "restarts": state.restarts,
        "quarantined": state.quarantined,
        "cpuSeconds": state.cpu_seconds,
        "memoryBytes": state.memory_bytes,
        "ringBytes": worker.ring_bytes,
        "ringUsed": state.ring_used,
        "lost": worker.lost,
        "lines": state.lines,
        "linesDropped": state.lines_dropped,
        "endsDropped": state.ends_dropped,
        "records": state.engine.get("records", 0),
    }


def _signatures_json(signatures: Signatures) -> dict[str, object]:
    return {
        **{str(state): signatures.counts.get(state, 0) for state in State},
        "loading": signatures.loading,
        "error": signatures.error,
        "examples": list(signatures.examples),
    }


def _output_json(output: OutputState) -> dict[str, object]:
    return {
        "type": output.type,
        "path": output.path,
        "written": output.written,
        "dropped": output.dropped,
        "lost": output.lost,
        "queued": output.queued,
        "problem": output.problem,
    }
