"""The third act: a sniffer looks into what passes the balancer, until it knows; one flow it has dropped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from sluicegate_agent.cli.document import Status
from sluicegate_agent.lab.agent import AgentProcess, backends, load_balancer, programmed
from sluicegate_agent.lab.certificate import make_certificate
from sluicegate_agent.lab.demo.inspection_script import (
    ALONE,
    DROP_SECONDS,
    MIRROR,
    PART_BYTES,
    PORTS,
    SIGNATURE,
    SILENT_AFTER_SECONDS,
    SITES,
    SNIFFED,
    SNIFFER,
    VISITS_PER_SECOND,
    Findings,
    Phase,
    Result,
    Traffic,
    complaints,
)
from sluicegate_agent.lab.demo.inspection_view import InspectionFrame, megabytes, packets, percent
from sluicegate_agent.lab.demo.place import place
from sluicegate_agent.lab.demo.screen import Screen
from sluicegate_agent.lab.downloads import Part, speed
from sluicegate_agent.lab.events import EventFile
from sluicegate_agent.lab.intruder import Standing
from sluicegate_agent.lab.processes import DownloadsProcess, IntruderProcess, VisitorsProcess, servers
from sluicegate_agent.lab.rig import VIP4, VIP6, Rig, RigOptions
from sluicegate_agent.lab.server import DNS_PORT, HTTP_PORT, TLS_PORT
from sluicegate_agent.lab.sniffing import sniffer, sniffer_in
from sluicegate_agent.lab.visitors import KINDS, Visits
from sluicegate_agent.lab.wire import target

_TICK_SECONDS = 0.25
_STATUS_SECONDS = 0.5
_GOOD_REQUESTS = 2
_LAST_EVENTS_SECONDS = 15.0
_RULE = (
    'alert http any any -> any any (msg:"Password file asked for"; flow:to_server,established; http.uri;'
    f' content:"/etc/passwd"; nocase; classtype:web-application-attack; sid:{SIGNATURE}; rev:1;)\n'
)


@dataclass(frozen=True, slots=True)
class InspectionSummary:
    """What the act showed."""

    result: Result
    complaints: tuple[str, ...]
    highlight: InspectionFrame

    def results(self) -> RenderableType:
        """What became of the packets, and what the flows were."""
        flows = ", ".join(f"{label} {count}" for label, count in self.result.findings.flows.most_common())
        return Group(packets(self.result.traffic), "", Text.assemble(("flows that ended  ", "dim"), flows))

    def moral(self) -> str:
        """What it means, in words."""
        result = self.result
        flow, (sniffed, alone) = result.findings.download, result.speeds
        assert flow is not None  # noqa: S101  # a success has it
        return (
            f"{percent(result.traffic.share)} of the packets were sent up to the engine. That was enough to name all"
            f" {result.visits.right.total()} visits, none of which failed.\n"
            f"The download was known after {flow.records} packets ({flow.label}, {MIRROR}). The other"
            f" {sum(flow.packets) - flow.records} only passed: at {megabytes(sniffed)}, and {megabytes(alone)} in turn"
            " with it over the port that is left alone.\n"
            f"The attack raised one alert and ended that connection alone: {result.standing.answered} of its"
            f" {result.standing.sent} requests were answered, none later than {SILENT_AFTER_SECONDS:g} s after it."
        )


def perform(screen: Screen, *, scale: float = 1.0) -> InspectionSummary:
    """Play the act once, each phase ``scale`` times as long as planned, and leave nothing behind.

    Raises:
        LabError: a part did not come up; the message says which and why.
    """
    with place(RigOptions(backends=2)) as (built, agent):
        screen.note("network: a client, a balancer and two backends with HTTP, TLS and DNS")
        certificate = make_certificate(agent.config.parent, [*SITES, MIRROR])
        with servers(built.backends, certificate=certificate):
            return _Performance(screen, built, agent, certificate, scale).perform()


class _Performance:
    """One run on a built network."""

    def __init__(self, screen: Screen, built: Rig, agent: AgentProcess, certificate: Path, scale: float) -> None:
        self._screen = screen
        self._rig = built
        self._agent = agent
        self._certificate = certificate
        self._scale = scale
        self._events = EventFile(agent.config.with_name("eve.json"))
        self._findings = Findings()
        self._visits = Visits()
        self._parts: list[Part] = []
        self._standing = self._silent = Standing(0, 0)
        self._traffic = Traffic()
        self._began = 0.0

    def perform(self) -> InspectionSummary:
        """All phases in order."""
        self._agent.configure(*_balancers(self._rig), _sniffer(self._rig, self._events.path))
        self._screen.note(f"agent: sluicegate run -f {self._agent.config.name}; compiling and loading its programs")
        self._agent.start()
        took = self._agent.wait_until("the balancer and the sniffer work", self._ready)
        self._screen.note(f"agent: ready after {took:.1f} s, sniffing on the interface to the client")
        client = self._rig.client
        visitors = VisitorsProcess(client, _places(), SITES, self._certificate, rate=VISITS_PER_SECOND)
        self._began = time.monotonic()
        self._phase(Phase.KNOWN, visitors)

        sides = {side: target(VIP4, port) for side, port in PORTS.items()}
        downloads = DownloadsProcess(client, sides, MIRROR, self._certificate, size=PART_BYTES)
        self._phase(Phase.BULK, visitors, downloads=downloads)
        self._parts += downloads.finish()

        intruder = IntruderProcess(client, target(VIP4, 80))
        highlight = self._phase(Phase.ATTACK, visitors, intruder=intruder)
        self._standing = intruder.finish()
        self._visits.add(visitors.finish())
        self._wait_for_last_events()
        result = Result(self._visits, self._findings, self._parts, self._silent, self._standing, self._traffic)
        return InspectionSummary(result, tuple(complaints(result)), highlight)

    def _ready(self, status: Status) -> bool:
        found = backends(status)
        return (
            programmed(status)
            and all(backend.state == "active" and backend.health != "unknown" for backend in found)
            and (edge := sniffer_in(status, SNIFFER)) is not None
            and edge.ready
        )

    def _phase(
        self,
        phase: Phase,
        visitors: VisitorsProcess,
        *,
        downloads: DownloadsProcess | None = None,
        intruder: IntruderProcess | None = None,
    ) -> InspectionFrame:
        """Watch one phase; gives its last frame."""
        started, next_status, attacked = time.monotonic(), 0.0, False
        while True:
            after = time.monotonic() - started
            self._visits.add(visitors.take())
            if downloads is not None:
                self._parts += downloads.take()
            if intruder is not None:
                self._standing = intruder.standing()
                if not attacked and self._standing.answered >= _GOOD_REQUESTS:
                    attacked = True
                    intruder.attack()
                    self._event("one client asks for /etc/passwd")
                since = self._standing.attacked
                if since is not None and (since < SILENT_AFTER_SECONDS or self._silent.attacked is None):
                    self._silent = self._standing
            self._take_events()
            if after >= next_status:
                self._watch_agent()
                next_status = after + _STATUS_SECONDS
            frame = self._frame(phase)
            self._screen.show(frame)
            if after >= phase.seconds * self._scale:
                return frame
            time.sleep(_TICK_SECONDS)

    def _take_events(self) -> None:
        for event in self._events.take():
            if event.kind == "alert":
                self._event(f"alert {event.signature}: {event.message} ({event.action})")
            self._findings.add(event)
            if Findings.began_download(event):
                self._event(f"the download is known: TLS to {MIRROR}; nothing more of it is sent up")

    def _watch_agent(self) -> None:
        status = self._agent.status()
        now = None if status is None else sniffer_in(status, SNIFFER)
        if now is not None:
            flows = now.decided_flows.drop
            counts = (now.packets, now.sent, now.stopped, now.dropped, now.ignored)
            self._traffic = Traffic(*counts, now.lost, flows)

    def _wait_for_last_events(self) -> None:
        """Visits are told a moment after they ended, the end of the download's flow some seconds after it."""
        deadline = time.monotonic() + _LAST_EVENTS_SECONDS
        self._take_events()
        while not self._all_told() and time.monotonic() < deadline:
            time.sleep(_TICK_SECONDS)
            self._take_events()
        self._watch_agent()

    def _all_told(self) -> bool:
        unnamed = sum(self._findings.unnamed(self._visits, kind) for kind in KINDS)
        return self._findings.download is not None and not unnamed

    def _frame(self, phase: Phase) -> InspectionFrame:
        alerts = self._findings.alerts
        return InspectionFrame(
            time.monotonic() - self._began,
            phase,
            dict(self._visits.right),
            self._visits.wrong.total(),
            {kind: names.copy() for kind, names in self._findings.names.items()},
            {side: speed(self._parts, side) for side in (SNIFFED, ALONE)},
            f"TLS to {MIRROR}" if self._findings.knows_download else "",
            alerts[-1].message if alerts else "",
            self._standing,
            self._traffic,
        )

    def _event(self, text: str) -> None:
        self._screen.note(f"{time.monotonic() - self._began:5.1f} s  {text}")


def _balancers(rig: Rig) -> tuple[dict[str, object], dict[str, object]]:
    """Pages on 80 and 443, and once more on the port that is left alone; names on 53."""

    def port(name: str, protocol: str, number: int, target_port: int) -> dict[str, object]:
        return {"name": name, "protocol": protocol, "port": number, "targetPort": target_port}

    pages = [
        port("http", "TCP", 80, HTTP_PORT),
        port("https", "TCP", PORTS[SNIFFED], TLS_PORT),
        port("mirror", "TCP", PORTS[ALONE], TLS_PORT),
    ]
    names = [port("dns", "UDP", 53, DNS_PORT)]
    return (
        load_balancer(rig.backends, rig.client_port, name="web", changes={"ports": pages}),
        load_balancer(rig.backends, rig.client_port, name="names", protocol="UDP", changes={"ports": names}),
    )


def _sniffer(rig: Rig, events: Path) -> dict[str, object]:
    match = {"signatureIds": [SIGNATURE]}
    changes = {
        "sniff": [{"name": "mirror", "destination": {"ports": [PORTS[ALONE]]}, "ignore": True}, {"name": "rest"}],
        "actions": [{"name": "block", "match": match, "action": "Drop", "forSeconds": DROP_SECONDS}],
    }
    return sniffer(SNIFFER, [rig.client_port], events=events, rules=_RULE, changes=changes)


def _places() -> Mapping[str, list[str]]:
    vips: tuple[IPv4Address | IPv6Address, ...] = (VIP4, VIP6)
    ports = {"http": 80, "tls": PORTS[SNIFFED], "dns": 53}
    return {kind: [target(vip, port) for vip in vips] for kind, port in ports.items()}
