"""What sniffers saw and found, and the workers of their engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluicegate_agent.dpi.live.model import RunState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.reports.condition import ConditionStatus, ConditionType
from sluicegate_agent.reports.metrics.definition import Definition, Kind, Label, Metric, Point, one_of, single
from sluicegate_agent.reports.metrics.sample import SnifferRow, WorkerRow
from sluicegate_agent.reports.metrics.scopes import SNIFFER, WORKER

_CONDITION = Label("type", "type of the condition", tuple(ConditionType))
_OUTCOME = Label(
    "outcome",
    "sent (up to the engine), empty (of a flow that is sniffed, with nothing in it to look at), stopped, dropped (by "
    "an action), ignored (no rule wants the flow), fragment, unreadable, lost (the ring was full), no_worker (nobody "
    "reads), no_room (the table of flows took no entry)",
    ("sent", "empty", "stopped", "dropped", "ignored", "fragment", "unreadable", "lost", "no_worker", "no_room"),
)
_BY: Final = Label(
    "by",
    "verdict (of the engine), budget, pressure (the ring filled), drop (by an action)",
    ("verdict", "budget", "pressure", "drop"),
)
_RULE = Label("rule", "name of the rule in spec.sniff, else such as sniff[0]; empty for flows that none took")
_STATE = Label("state", "what became of a signature", tuple(State))
_EVENT = Label("event_type", "event_type of EVE, such as flow, alert or tls")
_RESULT = Label(
    "result",
    "written, dropped (the output's queue was full), or lost (cut off)",
    ("written", "dropped", "lost"),
)
_RUNS = Label("state", "what the process does", tuple(RunState))


def _conditions(row: SnifferRow) -> Iterable[Point]:
    return [
        ((condition.type,), float(condition.holds))
        for condition in row.view.conditions
        if condition.status is not ConditionStatus.UNKNOWN
    ]


def _packets(row: SnifferRow) -> Iterable[Point]:
    counters = row.view.counters
    yield ("sent",), counters.sent
    yield ("empty",), counters.empty
    yield ("stopped",), counters.stopped
    yield ("dropped",), counters.dropped
    yield ("ignored",), counters.ignored
    yield ("fragment",), counters.fragments
    yield ("unreadable",), counters.unreadable
    yield ("lost",), counters.lost
    yield ("no_worker",), counters.no_worker
    yield ("no_room",), counters.no_room


def _decisions(row: SnifferRow) -> Iterable[Point]:
    counters = row.view.counters
    yield ("verdict",), counters.stopped_by_verdict
    yield ("budget",), counters.stopped_by_budget
    yield ("pressure",), counters.stopped_by_pressure
    yield ("drop",), counters.dropped_by_verdict


def _rules(row: SnifferRow) -> Iterable[Point]:
    yield from (((name,), flows) for name, flows in row.view.rules)
    if row.view.rules:
        yield ("",), row.view.counters.unmatched


def _signatures(row: SnifferRow) -> Iterable[Point]:
    if row.view.signatures is not None:
        yield from (((state,), row.view.signatures.counts.get(state, 0)) for state in State)


def _output(row: SnifferRow) -> Iterable[Point]:
    output = row.view.output
    if output is not None:
        yield ("written",), output.written
        yield ("dropped",), output.dropped
        yield ("lost",), output.lost


SNIFFERS: tuple[Metric[SnifferRow], ...] = (
    Metric(
        Definition(
            "sluicegate_dpi_condition",
            Kind.GAUGE,
            "1 when a condition of the sniffer is true, 0 when it is false; no series while it is unknown.",
            SNIFFER,
            (_CONDITION,),
        ),
        _conditions,
    ),
    Metric(
        Definition(
            "sluicegate_dpi_packets_total",
            Kind.COUNTER,
            "Packets that passed the sniffer's interfaces, by what became of them; their sum is all of them.",
            SNIFFER,
            (_OUTCOME,),
        ),
        _packets,
    ),
    Metric(
        Definition(
            "sluicegate_dpi_bytes_total",
            Kind.COUNTER,
            "Bytes of packets that passed the sniffer's interfaces.",
            SNIFFER,
            unit="bytes",
        ),
        single(lambda row: row.view.counters.octets),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_sent_bytes_total",
            Kind.COUNTER,
            "Bytes that were sent up to the engine.",
            SNIFFER,
            (),
            "bytes",
        ),
        single(lambda row: row.view.counters.sent_octets),
    ),
    Metric(
        Definition("sluicegate_dpi_flows_total", Kind.COUNTER, "Flows that began, ignored ones too.", SNIFFER),
        single(lambda row: row.view.counters.opened),
    ),
    Metric(
        Definition("sluicegate_dpi_active_flows", Kind.GAUGE, "Flows that the kernel knew at the last sweep.", SNIFFER),
        single(lambda row: row.view.active_flows),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_decided_flows_total",
            Kind.COUNTER,
            "Flows at which the engine does not look any more, by what decided that.",
            SNIFFER,
            (_BY,),
        ),
        _decisions,
    ),
    Metric(
        Definition(
            "sluicegate_dpi_rule_flows_total",
            Kind.COUNTER,
            "Flows by the rule that took them; begins anew when the rules change. No series without spec.sniff.",
            SNIFFER,
            (_RULE,),
        ),
        _rules,
    ),
    Metric(
        Definition(
            "sluicegate_dpi_signatures",
            Kind.GAUGE,
            "Signatures by what became of them: loaded and rewritten ones are in force. No series without signatures.",
            SNIFFER,
            (_STATE,),
        ),
        _signatures,
    ),
    Metric(
        Definition(
            "sluicegate_dpi_events_total", Kind.COUNTER, "Events that came from the engine.", SNIFFER, (_EVENT,)
        ),
        lambda row: [((kind,), count) for kind, count in row.view.events.items()],
    ),
    Metric(
        Definition(
            "sluicegate_dpi_output_lines_total",
            Kind.COUNTER,
            "Events by what became of them at the sniffer's output. No series without spec.export.eve.",
            SNIFFER,
            (_RESULT,),
        ),
        _output,
    ),
)

WORKERS: tuple[Metric[WorkerRow], ...] = (
    Metric(
        Definition(
            "sluicegate_dpi_worker_state",
            Kind.GAUGE,
            "1 for the state that the worker is in, 0 for the others.",
            WORKER,
            (_RUNS,),
        ),
        one_of(_RUNS, lambda row: str(row.view.state.state)),
    ),
    Metric(
        Definition("sluicegate_dpi_worker_restarts_total", Kind.COUNTER, "How often it was started again.", WORKER),
        single(lambda row: row.view.state.restarts),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_worker_quarantined_total",
            Kind.COUNTER,
            "Records that ended the worker; they are kept in quarantine under the state directory.",
            WORKER,
        ),
        single(lambda row: row.view.state.quarantined),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_worker_records_total", Kind.COUNTER, "Records that its engine took and understood.", WORKER
        ),
        single(lambda row: row.view.state.engine.get("records", 0)),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_worker_lost_records_total",
            Kind.COUNTER,
            "Records that found no room in its ring, since the kernel's maps were made.",
            WORKER,
        ),
        single(lambda row: row.view.lost),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_worker_dropped_lines_total",
            Kind.COUNTER,
            "Events that the agent did not take from it in time.",
            WORKER,
        ),
        single(lambda row: row.view.state.lines_dropped),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_worker_cpu_seconds_total", Kind.COUNTER, "CPU time of its processes.", WORKER, (), "seconds"
        ),
        single(lambda row: row.view.state.cpu_seconds),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_worker_memory_bytes", Kind.GAUGE, "Resident memory of its process.", WORKER, (), "bytes"
        ),
        single(lambda row: row.view.state.memory_bytes),
    ),
    Metric(
        Definition("sluicegate_dpi_worker_ring_used_bytes", Kind.GAUGE, "What waits in its ring.", WORKER, (), "bytes"),
        single(lambda row: row.view.state.ring_used),
    ),
    Metric(
        Definition("sluicegate_dpi_worker_ring_bytes", Kind.GAUGE, "What its ring holds.", WORKER, (), "bytes"),
        single(lambda row: row.view.ring_bytes),
    ),
    Metric(
        Definition(
            "sluicegate_dpi_worker_classifies",
            Kind.GAUGE,
            "1 while it classifies flows, 0 while it looks for signatures alone.",
            WORKER,
        ),
        single(lambda row: float(bool(row.view.state.classification))),
    ),
)
