"""A sample in which every metric has a value, and how it looks when it is scraped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sluicegate_agent.datapath.protocol import ProgramRuns, Traffic, Verdict
from sluicegate_agent.dpi.events.hub import OutputState
from sluicegate_agent.dpi.live.model import RunState, WorkerState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.health.durations import Durations
from sluicegate_agent.health.model import Health, HealthState
from sluicegate_agent.reports.condition import Condition, ConditionStatus, ConditionType
from sluicegate_agent.reports.metrics import Sample
from sluicegate_agent.reports.metrics.exposition import exposition
from sluicegate_agent.reports.sniffer_view import SniffedInterface, SnifferView, WorkerView
from sluicegate_agent.reports.view import (
    AddressView,
    BackendView,
    InterfaceView,
    LoadBalancerView,
    PortView,
    StatusView,
)
from sluicegate_agent.signals.model import Histogram, Latencies, Load, Reading, Report
from sluicegate_agent.sniffing.model import SniffCounters
from sluicegate_agent.sniffing.state import Signatures
from sluicegate_agent.weights.model import Decision, Override

LATENCIES = Latencies(Histogram(tuple(range(24))), Histogram(tuple(reversed(range(24)))))
LOAD = Load(opened=9, closed=4, requests=30, responses=29, resets=2, unanswered=3, empty_closes=1)
WORKER = WorkerState(
    0,
    RunState.RUNNING,
    pid=77,
    restarts=2,
    quarantined=1,
    classification="5.0.0",
    engine={"records": 20},
    cpu_seconds=1.5,
)
DECISION = Decision(81_000, 0.9, 0.95, 0.1, 0.5, "", "warming up", (), 0.012)


def backend(address: str = "10.0.0.1", **changes: object) -> BackendView:
    """A backend of which everything is known."""
    known: dict[str, object] = {
        "address": address,
        "port": 8080,
        "state": "active",
        "health": "up",
        "reason": "",
        "weight": 100,
        "effective_weight": 81.5,
        "traffic": Traffic(4, 400, 3, 300, 2, 0),
        "active_flows": 7,
        "decision": DECISION,
        "override": Override(1_800_000_000.0),
        "load": LOAD,
        "latencies": LATENCIES,
        "signal": Reading(Report(utilization=0.6, rps=50.0), 100.0, "", 4),
        "signal_age": 1.5,
    }
    return BackendView(**(known | changes))  # type: ignore[arg-type]


def port(*backends: BackendView, **changes: object) -> PortView:
    """A TCP port in FullNAT."""
    known: dict[str, object] = {
        "name": "http",
        "protocol": "TCP",
        "port": 80,
        "algorithm": "LeastLoad",
        "mode": "FullNAT",
        "addresses": (AddressView("203.0.113.10", programmed=True, reason="", traffic=Traffic(dropped=6)),),
        "backends": backends,
    }
    return PortView(**(known | changes))  # type: ignore[arg-type]


def balancer(*ports: PortView, name: str = "web") -> LoadBalancerView:
    """Ready, and nothing else is known."""
    ready = Condition(ConditionType.READY, ConditionStatus.TRUE, "Ready", "")
    paused = Condition(ConditionType.PAUSED, ConditionStatus.UNKNOWN, "Paused", "")
    return LoadBalancerView("shop", name, "a.yaml", (ready, paused), ports)


def sniffer(**changes: object) -> SnifferView:
    """A sniffer of which everything is known."""
    known: dict[str, object] = {
        "conditions": (Condition(ConditionType.READY, ConditionStatus.TRUE, "Ready", ""),),
        "interfaces": (SniffedInterface("eth0", "xdp", sniffed=True, reason=""),),
        "counters": SniffCounters(
            100, 9000, 20, 1800, 30, 40, 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15, rule_flows=(8,), unmatched=9
        ),
        "active_flows": 10,
        "rules": (("web", 8),),
        "workers": (WorkerView(WORKER, 1 << 24, 5),),
        "signatures": Signatures({State.LOADED: 3, State.REFUSED: 1}),
        "classification": "5.0.0",
        "output": OutputState("shop/edge", "File", "/var/log/eve.json", 21, 22, 23),
        "events": {"flow": 6, "alert": 1},
    }
    return SnifferView("shop", "edge", "a.yaml", **(known | changes))  # type: ignore[arg-type]


def health(address: str = "10.0.0.1") -> dict[tuple[str, str, str, str, int], Health]:
    """Checks of the backend with that address."""
    found = Health(
        HealthState.UP, "connected", 0.0, None, None, 10, 3, 1, Durations().with_one(0.003).with_one(2.0), 2, 1
    )
    return {("shop", "web", "http", address, 8080): found}


def sample(*backends: BackendView) -> Sample:
    """One load balancer with these backends, or with one of which everything is known."""
    return Sample(
        status=StatusView(
            interfaces=(InterfaceView("eth0", "xdp", "", "xdp_main"),),
            loadbalancers=(balancer(port(*(backends or (backend(),)))),),
            sniffers=(sniffer(),),
            half_open_flows=5,
        ),
        verdicts=(Verdict("xdp", "no_flow", "drop", "unknown connection", 3, 180),),
        map_entries={"flows4": 2},
        map_capacity={"flows4": 10},
        runs={"xdp_main": ProgramRuns(1.25, 1000)},
        health=health(),
        config_generation=4,
    )


def scraped(shown: Sample, most_backends: int = 1000) -> str:
    """The text of a scrape, without the way over HTTP."""
    return "".join(exposition(replace(shown, most_backends=most_backends)))


def values(text: str, name: str) -> dict[str, float]:
    """Series of that name: labels but for those that name the backend, sorted, and the value."""
    found = {}
    for line in text.splitlines():
        if line.startswith((f"{name}{{", f"{name} ")):
            labels, _, value = line.removeprefix(name).rpartition(" ")
            found[",".join(_telling(labels.strip("{}")))] = float(value)
    return found


def _telling(labels: str) -> Iterable[str]:
    common = ("namespace=", "loadbalancer=", "port=", "protocol=", "backend=", "sniffer=", "worker=")
    return (label for label in filter(None, labels.split(",")) if not label.startswith(common))
