"""The first act: a backend is killed, one joins, the agent is killed; what did it cost? Phase by phase."""

from __future__ import annotations

import copy
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from rich.console import RenderableType

from sluicegate_agent.lab.agent import AgentProcess, backends, load_balancer
from sluicegate_agent.lab.demo.failover_script import NOTICE_SECONDS, Cast, Phase, Record, complaints
from sluicegate_agent.lab.demo.failover_view import BackendRow, FailoverFrame, results
from sluicegate_agent.lab.demo.place import place
from sluicegate_agent.lab.demo.screen import Screen
from sluicegate_agent.lab.processes import BackendServer, LoadProcess, servers
from sluicegate_agent.lab.rig import VIP4, VIP6, Rig, RigOptions
from sluicegate_agent.lab.tally import Tally

_REQUESTS_PER_SECOND = 300.0
_LONG_CONNECTIONS = 12
_TICK_SECONDS = 0.25
_STATUS_SECONDS = 0.5
_RATE_WINDOW_SECONDS = 2.0
_WITHOUT_AGENT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class FailoverSummary:
    """What the act showed; ``frames`` are from the middle of each phase."""

    records: tuple[Record, ...]
    complaints: tuple[str, ...]
    frames: tuple[FailoverFrame, ...]

    @property
    def highlight(self) -> FailoverFrame:
        """The moment after the backend's death."""
        return self.frames[list(Phase).index(Phase.BACKEND_KILLED)]

    def results(self) -> RenderableType:
        """Requests and failures per phase."""
        return results(self.records)

    def moral(self) -> str:
        """What the killed backend cost, and that nothing else did."""
        killed = next(record for record in self.records if record.phase is Phase.BACKEND_KILLED)
        last = f"the last one {killed.last_failure:.1f} s after it died" if killed.last_failure is not None else "none"
        return (
            f"Only the killed backend cost anything: {killed.tally.failed} requests that were sent to it before its"
            f" health checks failed ({last}; at most {NOTICE_SECONDS:g} s are allowed).\n"
            "A backend that joins and an agent that is killed cost nothing: no request failed, no connection broke."
        )


def perform(screen: Screen) -> FailoverSummary:
    """Play the act once, and leave nothing behind.

    Raises:
        LabError: a part did not come up; the message says which and why.
    """
    with place(RigOptions(backends=4)) as (built, agent):
        screen.note("network: a client, a balancer and four backends, each in a network namespace of its own")
        with servers(built.backends) as running:
            return _Performance(screen, built, running, agent).perform()


class _Performance:
    """One run on a built network."""

    def __init__(self, screen: Screen, built: Rig, running: tuple[BackendServer, ...], agent: AgentProcess) -> None:
        self._screen = screen
        self._rig = built
        self._agent = agent
        self._initial, self._newcomer = built.backends[:3], built.backends[3]
        self._victim = running[1]
        self._cast = Cast(tuple(host.name for host in self._initial), self._victim.host.name, self._newcomer.name)
        self._records: list[Record] = []
        self._recent: deque[tuple[float, Tally]] = deque()  # by the time from which on it counts
        self._states: dict[str, str] = {}
        self._began = 0.0
        self._restarted = 0.0
        self._complaints: list[str] = []

    def perform(self) -> FailoverSummary:
        """All phases in order."""
        self._agent.configure(load_balancer(self._initial, self._rig.client_port))
        self._screen.note(f"agent: sluicegate run -f {self._agent.config.name}; compiling and loading its programs")
        self._agent.start()
        took = self._agent.wait_ready(self._initial)
        self._screen.note(f"agent: ready after {took:.1f} s, balancing {VIP4}:80 and [{VIP6}]:80")
        load = LoadProcess(self._rig.client, [VIP4, VIP6], rate=_REQUESTS_PER_SECOND, sessions=_LONG_CONNECTIONS)
        self._began = time.monotonic()
        frames = [self._phase(Phase.STEADY, load)]

        self._victim.kill()
        self._event(f"the server of {self._victim.host.name} is killed")
        frames.append(self._phase(Phase.BACKEND_KILLED, load))
        if self._states.get(self._victim.host.name) != "down":
            self._complaints.append(f"the agent does not say that {self._victim.host.name} is down")

        self._agent.configure(load_balancer(self._rig.backends, self._rig.client_port))
        self._event(f"{self._newcomer.name} is added to {self._agent.config.name}")
        frames.append(self._phase(Phase.BACKEND_JOINS, load))

        self._event(f"the agent (pid {self._agent.pid}) is killed with -9")
        self._agent.kill()
        frames.append(self._phase(Phase.AGENT_KILLED, load, (_WITHOUT_AGENT_SECONDS, self._restart)))
        living = [host for host in self._rig.backends if host is not self._victim.host]
        self._agent.wait_ready(living)
        self._records[-1].add(load.finish(), Phase.AGENT_KILLED.seconds)
        for record in self._records:
            self._complaints += [f"{record.phase.title}: {text}" for text in complaints(record, self._cast)]
        return FailoverSummary(tuple(self._records), tuple(self._complaints), tuple(frames))

    def _restart(self) -> None:
        self._agent.start()
        self._restarted = time.monotonic()
        self._event(f"the agent is started again (pid {self._agent.pid})")

    def _phase(
        self, phase: Phase, load: LoadProcess, later: tuple[float, Callable[[], None]] | None = None
    ) -> FailoverFrame:
        """Watch one phase; ``later`` is something to do after so many seconds of it. Gives a frame of its middle."""
        record = Record(phase)
        self._records.append(record)
        started = time.monotonic()
        next_status, middle, taken = 0.0, None, started
        while (after := time.monotonic() - started) < phase.seconds:
            if later is not None and after >= later[0]:
                later[1]()
                later = None
            if after >= next_status:
                self._watch_agent()
                next_status = after + _STATUS_SECONDS
            tally = load.take()
            record.add(tally, after)
            self._recent.append((taken, tally))
            taken = time.monotonic()
            frame = self._frame(phase)
            self._screen.show(frame)
            if middle is None and after >= phase.seconds / 2:
                middle = replace(frame, records=tuple(copy.deepcopy(self._records)))
            time.sleep(_TICK_SECONDS)
        return middle or self._frame(phase)

    def _watch_agent(self) -> None:
        """Note what the agent says anew. A backend has an address per family: the worse word counts."""
        status = self._agent.status()
        if status is None:
            return
        states = {backend.address: backend.state for backend in backends(status)}
        if "pending" in states.values():
            return  # it just started and has not looked at the kernel yet
        if self._restarted:
            self._event(f"the agent is at work again, {time.monotonic() - self._restarted:.1f} s after its start")
            self._restarted = 0.0
        for host in self._rig.backends:
            words = {states[str(address)] for address in (host.address4, host.address6) if str(address) in states}
            state = next((word for word in words if word != "active"), "active") if words else ""
            if state != self._states.get(host.name, "") and self._records[-1].phase is not Phase.STEADY:
                self._event(f"agent: {host.name} is {state}")
            self._states[host.name] = state

    def _frame(self, phase: Phase) -> FailoverFrame:
        now = time.monotonic()
        while self._recent[0][0] < now - _RATE_WINDOW_SECONDS:
            self._recent.popleft()
        seconds = now - self._recent[0][0]
        recent: Counter[str] = Counter()
        for _, tally in self._recent:
            recent.update(tally.by_backend())
        total: Counter[str] = Counter()
        for record in self._records:
            total.update(record.tally.by_backend())
        answered = recent.total()
        rows = tuple(
            BackendRow(
                host.name,
                self._states.get(host.name, ""),
                recent[host.name] / seconds,
                recent[host.name] / answered if answered else 0.0,
                total[host.name],
            )
            for host in self._rig.backends
            if host.name in total or self._states.get(host.name)
        )
        return FailoverFrame(
            now - self._began, phase, self._agent_line(), answered / seconds, rows, tuple(self._records)
        )

    def _agent_line(self) -> str:
        return f"pid {self._agent.pid}" if self._agent.pid else "not running; its programs in the kernel go on"

    def _event(self, text: str) -> None:
        self._screen.note(f"{time.monotonic() - self._began:5.1f} s  {text}")
