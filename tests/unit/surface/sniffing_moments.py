"""Moments of an agent with a sniffer: the configuration is real, what kernel and engine say is made up."""

from __future__ import annotations

from dataclasses import replace

import yaml
from surface_moments import ETH0, configured, moment, network

from sluicegate_agent.attach import Attached, Mode
from sluicegate_agent.dpi.events.hub import OutputState
from sluicegate_agent.dpi.live.model import RunState, WorkerState
from sluicegate_agent.planning.attachments import sniffed_interfaces
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.sniffing.assignment import Place
from sluicegate_agent.sniffing.model import SniffCounters, SniffState
from sluicegate_agent.sniffing.state import SnifferState, SniffingState
from sluicegate_api.common import ObjectKey

EDGE = ObjectKey("shop", "edge")
WORKER = WorkerState(0, RunState.RUNNING, pid=77, classification="5.0.0", cpu_seconds=2.0)
COUNTERS = SniffCounters(packets=200_000, octets=9_000_000, sent=4_000, stopped=190_000, empty=6_000, opened=50)
OUTPUT = OutputState("shop/edge", "File", "/var/log/eve.json", written=9)


def sniffer(name: str = "edge", **spec: object) -> str:
    """The YAML of a sniffer."""
    head = {"apiVersion": "sluicegate.io/v1alpha1", "kind": "DpiSniffer"}
    spec.setdefault("export", {"eve": {"type": "File", "path": "/var/log/eve.json"}})
    return yaml.safe_dump({**head, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})


def working(**changes: object) -> SnifferState:
    """One that works: a lot passed, little was sent up."""
    known: dict[str, object] = {
        "place": Place(1, {ETH0: "it holds a default route"}),
        "counters": COUNTERS,
        "active": {SniffState.SNIFF: 2, SniffState.STOP: 5},
        "output": OUTPUT,
        "events": {"flow": 9},
    }
    return SnifferState(**(known | changes))  # type: ignore[arg-type]


def sniffing(text: str | None = None, *, more: dict[str, object] | None = None, **state: object) -> Situation:
    """An agent that runs that sniffer; ``state`` changes what is known of it, ``more`` of all sniffers."""
    situation = moment(configured(text or sniffer()))
    place = Place(1, sniffed_interfaces(situation.configuration.sniffers.accepted[0].object, network())[0])
    known: dict[str, object] = {
        "sniffers": {EDGE: working(**({"place": place} | state))},
        "sniffed": {ETH0: EDGE},
        "engine_problem": "",
        "workers": (WORKER,),
        "ring_lost": (0,),
        "ring_bytes": 1 << 24,
        "seen": 200_000,
    }
    return replace(
        situation,
        attached={ETH0: Attached(ETH0, "eth0", Mode.XDP, "", "xdp_main")},
        sniffing=SniffingState(**(known | (more or {}))),  # type: ignore[arg-type]
    )
