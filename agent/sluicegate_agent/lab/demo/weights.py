"""The second act: the same load at the same time with static Maglev and with dynamic weights, on uneven backends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from rich.console import RenderableType

from sluicegate_agent.cli.document import Port, Status
from sluicegate_agent.lab.agent import AgentProcess, backends, load_balancer, programmed
from sluicegate_agent.lab.demo.place import place
from sluicegate_agent.lab.demo.screen import Screen
from sluicegate_agent.lab.demo.weights_script import (
    CHANGES,
    CORES,
    DYNAMIC,
    FAILING,
    PATIENCE_SECONDS,
    REQUESTS_PER_SECOND,
    SLOWED,
    SLOWER,
    STATIC,
    WORK_SECONDS,
    Phase,
    Row,
    Started,
    Weight,
    complaints,
    rows,
)
from sluicegate_agent.lab.demo.weights_view import SideNow, WeightsFrame, comparison, duration
from sluicegate_agent.lab.outcomes import Figures, Outcome, figures
from sluicegate_agent.lab.processes import EmulatedServer, OpenLoopProcess, emulated_servers
from sluicegate_agent.lab.rig import Rig, RigOptions
from sluicegate_agent.lab.wire import target

_VIPS = {STATIC: IPv4Address("203.0.113.21"), DYNAMIC: IPv4Address("203.0.113.22")}
_PORTS = {STATIC: 8081, DYNAMIC: 8082}  # a pool's servers share the hosts with the other pool's, not their cores
_SETTINGS: Mapping[str, dict[str, object]] = {
    STATIC: {"algorithm": "Maglev"},
    DYNAMIC: {"algorithm": "LeastLoad", "dynamicWeights": {"type": "Passive"}},
}

_TICK_SECONDS = 0.25
_STATUS_SECONDS = 0.5
_WINDOW_SECONDS = 3.0
_LATE_SECONDS = 0.1
_HIGHLIGHT = 0.75  # of a phase: by then the weights have moved


@dataclass(frozen=True, slots=True)
class WeightsSummary:
    """What the act showed."""

    rows: tuple[Row, ...]
    complaints: tuple[str, ...]
    highlight: WeightsFrame

    def results(self) -> RenderableType:
        """Both sides by phase."""
        return comparison(self.rows)

    def moral(self) -> str:
        """What it means, in words."""
        by_phase = {row.phase: row for row in self.rows}
        slow, hole = by_phase[Phase.SLOW], by_phase[Phase.HOLE]
        lag = max(max(row.static.worst_lag, row.dynamic.worst_lag) for row in self.rows)
        busy = " The machine was busy with other things: take the figures with care." if lag > _LATE_SECONDS else ""
        return (
            f"While {SLOWED} was {SLOWER} times slower: p99 {_told(slow.static)} with static Maglev,"
            f" {_told(slow.dynamic)} with dynamic weights.\n"
            f"{FAILING}, which failed fast, cost {hole.static.failed} requests there and {hole.dynamic.failed} here.\n"
            "Same requests at the same time, equal weights configured on both sides; latency counts from the planned"
            f" time, a failure (no answer within {PATIENCE_SECONDS:g} s is one) as ∞."
            f" The load was at most {duration(lag)} late.{busy}"
        )


def _told(seen: Figures) -> str:
    return f"{duration(seen.p99)} ({seen.failed} of {seen.requests} requests failed)"


def perform(screen: Screen, *, scale: float = 1.0) -> WeightsSummary:
    """Play the act once, each phase ``scale`` times as long as planned, and leave nothing behind.

    Raises:
        LabError: a part did not come up; the message says which and why.
    """
    with place(RigOptions(backends=len(CORES))) as (built, agent):
        screen.note("network: a client, a balancer and four hosts; on each a backend for either side")
        pools = {
            side: {host.name: EmulatedServer(host, cores=CORES[host.name], port=port) for host in built.backends}
            for side, port in _PORTS.items()
        }
        with emulated_servers(server for pool in pools.values() for server in pool.values()):
            return _Performance(screen, built, pools, agent, scale).perform()


class _Performance:
    """One run on a built network."""

    def __init__(
        self,
        screen: Screen,
        built: Rig,
        pools: Mapping[str, Mapping[str, EmulatedServer]],
        agent: AgentProcess,
        scale: float,
    ) -> None:
        self._screen = screen
        self._rig = built
        self._pools = pools
        self._agent = agent
        self._scale = scale
        self._outcomes: list[Outcome] = []
        self._recent: deque[Outcome] = deque()
        self._started: list[Started] = []
        self._rows: tuple[Row, ...] = ()
        self._weights: dict[str, Weight] = {}
        self._at_end: dict[Phase, dict[str, Weight]] = {}
        self._awaited: tuple[str, float, float] | None = None  # a backend, the weight it is to fall below, since when

    def perform(self) -> WeightsSummary:
        """All phases in order."""
        self._agent.configure(*(self._load_balancer(side) for side in _VIPS))
        self._screen.note(f"agent: sluicegate run -f {self._agent.config.name}; compiling and loading its programs")
        self._agent.start()
        took = self._agent.wait_until("all backends take traffic", self._ready)
        self._screen.note(
            f"agent: ready after {took:.1f} s. {_VIPS[STATIC]}: Maglev, {_VIPS[DYNAMIC]}: LeastLoad, weights Passive;"
            f" {REQUESTS_PER_SECOND:g} requests per second to each"
        )
        sides = {side: target(address, 80) for side, address in _VIPS.items()}
        load = OpenLoopProcess(
            self._rig.client, sides, rate=REQUESTS_PER_SECOND, work=WORK_SECONDS, timeout=PATIENCE_SECONDS
        )

        highlights = {phase: self._phase(phase, load) for phase in Phase}
        self._outcomes += load.finish()
        self._rows = rows(self._outcomes, self._started)
        return WeightsSummary(self._rows, tuple(complaints(self._rows, self._at_end)), highlights[Phase.SLOW])

    def _load_balancer(self, side: str) -> dict[str, object]:
        changes = {
            "addresses": [str(_VIPS[side])],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": _PORTS[side]}],
            "backends": {"static": [{"address": str(host.address4)} for host in self._rig.backends]},
            **_SETTINGS[side],
        }
        return load_balancer(self._rig.backends, self._rig.client_port, name=side, changes=changes)

    def _ready(self, status: Status) -> bool:
        found = backends(status)
        return (
            programmed(status)
            and len(found) == len(_VIPS) * len(CORES)
            and all(backend.state == "active" and backend.health == "up" for backend in found)
        )

    def _begin(self, phase: Phase) -> float:
        """Begin a phase with its change; gives the time."""
        now = time.monotonic()
        self._started.append(Started(phase, now))
        self._awaited = None
        if change := CHANGES.get(phase):
            for pool in self._pools.values():
                pool[change.backend].command(change.command)
            self._event(change.text)
            if change.harmful and (weight := self._weights.get(change.backend)):
                self._awaited = (change.backend, weight.effective / 2, now)
        return now

    def _phase(self, phase: Phase, load: OpenLoopProcess) -> WeightsFrame:
        """Play and watch one phase; gives a frame of its second half."""
        began = self._begin(phase)
        seconds, next_status, highlight = phase.seconds * self._scale, 0.0, None
        while (after := time.monotonic() - began) < seconds:
            fresh = load.take()
            self._outcomes += fresh
            self._recent += fresh
            if after >= next_status:
                self._watch_agent()
                self._rows = rows(self._outcomes, self._started)
                next_status = after + _STATUS_SECONDS
            frame = self._frame(phase)
            self._screen.show(frame)
            if highlight is None and after >= seconds * _HIGHLIGHT:
                highlight = frame
            time.sleep(_TICK_SECONDS)
        self._at_end[phase] = dict(self._weights)
        return highlight or self._frame(phase)

    def _watch_agent(self) -> None:
        """Note what the agent says of the dynamic side's weights."""
        status = self._agent.status()
        if status is None:
            return
        names = {str(host.address4): host.name for host in self._rig.backends}
        for backend in _port(status).backends:
            said = backend.weights
            effective = backend.effective_weight if said is None else said.effective
            reason = "" if said is None else said.reason
            self._weights[names[backend.address]] = Weight(backend.weight, effective, reason)
        if self._awaited is not None:
            name, below, since = self._awaited
            if (weight := self._weights[name]).effective < below:
                self._event(
                    f"agent: the weight of {name} is {weight.effective:.0f}, less than half of what it was, after"
                    f" {time.monotonic() - since:.1f} s: {weight.reason}"
                )
                self._awaited = None

    def _frame(self, phase: Phase) -> WeightsFrame:
        now = time.monotonic()
        while self._recent and self._recent[0].ended < now - _WINDOW_SECONDS:
            self._recent.popleft()
        sides = {}
        for side in _VIPS:
            seen = [one for one in self._recent if one.side == side]
            by_backend = {name: figures(one for one in seen if one.backend == name) for name in CORES}
            sides[side] = SideNow(figures(seen), by_backend)
        elapsed = now - self._started[0].at
        return WeightsFrame(elapsed, phase, _WINDOW_SECONDS, sides, dict(self._weights), self._rows)

    def _event(self, text: str) -> None:
        self._screen.note(f"{time.monotonic() - self._started[0].at:5.1f} s  {text}")


def _port(status: Status) -> Port:
    """The one port of the dynamic side."""
    (balancer,) = [one for one in status.loadbalancers if one.name == DYNAMIC]
    (port,) = balancer.ports
    return port
