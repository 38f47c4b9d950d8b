"""What a node has once: its programs, their verdicts and tables, its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from sluicegate_agent.reports.metrics.definition import Definition, Kind, Label, Metric, Point, single
from sluicegate_agent.reports.metrics.sample import Sample
from sluicegate_agent.reports.metrics.scopes import NODE

_DIRECTIONS = {"xdp": "ingress", "tc_ingress": "ingress", "tc_egress": "egress"}

_HOOK = Label("program", "where the program looks at packets", tuple(_DIRECTIONS))
_REASON = Label("reason", "one of those in [reasons.md](reasons.md)")
_VERDICT = Label("verdict", "what became of the packet", ("pass", "punt", "forward", "drop"))
_DIRECTION = Label("direction", "of the packet on the interface", ("ingress", "egress"))
_MAP = Label("map", "name of one of about ten kernel maps")
_INTERFACE = Label("interface", "name of an interface with our programs")
_MODE = Label("mode", "how they are attached", ("xdp", "tc"))
_PROGRAM = Label("program", "name of one of about fifteen kernel programs")
_VERSION = Label("version", "version of the agent")


def _packets(sample: Sample) -> Iterable[Point]:
    return [((each.hook, each.reason.lower(), each.kind), each.packets) for each in sample.verdicts]


def _dropped(sample: Sample) -> Iterable[Point]:
    return [
        ((each.hook, each.reason.lower(), _DIRECTIONS.get(each.hook, "ingress")), each.packets)
        for each in sample.verdicts
        if each.kind == "drop"
    ]


METRICS: tuple[Metric[Sample], ...] = (
    Metric(
        Definition(
            "sluicegate_packets_total",
            Kind.COUNTER,
            "Packets seen by a program, by what became of them and why.",
            NODE,
            (_HOOK, _REASON, _VERDICT),
            series="3 per reason",
        ),
        _packets,
    ),
    Metric(
        Definition(
            "sluicegate_dropped_packets_total",
            Kind.COUNTER,
            "Packets dropped by a program, by reason.",
            NODE,
            (_HOOK, _REASON, _DIRECTION),
            series="3 per reason to drop",
        ),
        _dropped,
    ),
    Metric(
        Definition("sluicegate_half_open_flows", Kind.GAUGE, "Half-open TCP flows at the last sweep."),
        single(lambda sample: sample.status.half_open_flows),
    ),
    Metric(
        Definition("sluicegate_map_entries", Kind.GAUGE, "Entries in a kernel map.", NODE, (_MAP,)),
        lambda sample: [((name,), value) for name, value in sample.map_entries.items()],
    ),
    Metric(
        Definition("sluicegate_map_capacity", Kind.GAUGE, "Most entries that a kernel map holds.", NODE, (_MAP,)),
        lambda sample: [((name,), value) for name, value in sample.map_capacity.items()],
    ),
    Metric(
        Definition(
            "sluicegate_program_run_seconds_total",
            Kind.COUNTER,
            "Time spent in a kernel program. Stands still while the kernel's statistics are off: "
            "SLUICEGATE_PROGRAM_STATISTICS turns them on.",
            NODE,
            (_PROGRAM,),
            "seconds",
        ),
        lambda sample: [((name,), runs.seconds) for name, runs in sample.runs.items()],
    ),
    Metric(
        Definition(
            "sluicegate_program_runs_total",
            Kind.COUNTER,
            "How often a kernel program ran. Stands still while the kernel's statistics are off.",
            NODE,
            (_PROGRAM,),
        ),
        lambda sample: [((name,), runs.runs) for name, runs in sample.runs.items()],
    ),
    Metric(
        Definition(
            "sluicegate_dpi_evicted_flows_total",
            Kind.COUNTER,
            "Sniffed flows that made room for others before they ended, since the agent started.",
        ),
        single(lambda sample: sample.evicted_sniffed_flows),
    ),
    Metric(
        Definition(
            "sluicegate_xdp_attach_info",
            Kind.GAUGE,
            "1 per interface with our programs.",
            NODE,
            (_INTERFACE, _MODE),
            series="1 per interface",
        ),
        lambda sample: [((each.name, each.mode), 1) for each in sample.status.interfaces],
    ),
    Metric(
        Definition(
            "sluicegate_config_stale",
            Kind.GAUGE,
            "1 while a file has errors and what was read before stays in force.",
        ),
        single(lambda sample: float(sample.config_stale)),
    ),
    Metric(
        Definition("sluicegate_config_generation", Kind.GAUGE, "Configurations taken over since the agent started."),
        single(lambda sample: sample.config_generation),
    ),
    Metric(
        Definition(
            "sluicegate_reconcile_failures_total",
            Kind.COUNTER,
            "Operations that the kernel refused; they are tried again.",
        ),
        single(lambda sample: sample.reconcile_failures),
    ),
    Metric(
        Definition(
            "sluicegate_overrides",
            Kind.GAUGE,
            "Backends on which an operator's word is in force, such as drain.",
        ),
        single(lambda sample: sample.overrides),
    ),
    Metric(
        Definition(
            "sluicegate_metrics_backends_left_out",
            Kind.GAUGE,
            "Backends without series of their own, because there are more than SLUICEGATE_METRICS_BACKENDS.",
        ),
        single(lambda sample: sample.left_out),
    ),
    Metric(
        Definition("sluicegate_build_info", Kind.GAUGE, "1, with the agent's version.", NODE, (_VERSION,)),
        lambda _sample: [((version("sluicegate"),), 1)],
    ),
)
