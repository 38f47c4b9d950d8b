"""What the third act does, in phases, and what it must show to be a success. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sluicegate_agent.lab.downloads import Part, speed
from sluicegate_agent.lab.events import SniffEvent
from sluicegate_agent.lab.intruder import Standing
from sluicegate_agent.lab.visitors import KINDS, Visits

SNIFFER = "demo/edge"

SITES = ("shop.example", "mail.example", "www.wikipedia.org")
"""What clients ask for; the last is one that nDPI knows by name. No packet leaves the namespaces."""
MIRROR = "mirror.example"

VISITS_PER_SECOND = 45.0
PART_BYTES = 8 << 20

SNIFFED, ALONE = "sniffed", "left alone"
"""The two ways of the download: one like all traffic, and one over a port that the sniffer was told to ignore."""
PORTS: Mapping[str, int] = {SNIFFED: 443, ALONE: 8443}

SIGNATURE = 1000001
DROP_SECONDS = 60
SILENT_AFTER_SECONDS = 1.0
"""After the attack; the verdict takes milliseconds, a busy machine longer."""

LEAST_SPEED = 0.5
LARGEST_SHARE = 0.2
FEW_RECORDS = 100
"""Success leaves room for a busy machine: half the speed of the other way, a fifth of the packets sent up (a quiet
machine shows all of the speed and about a hundredth), and a hundred packets of each that went up of the download."""


class Phase(Enum):
    """The phases in order: title, what happens, and seconds."""

    KNOWN = ("known", "HTTP, TLS and DNS pass the balancer: what is it?", 5.0)
    BULK = ("bulk", "a large download, and the same over a port left alone", 6.0)
    ATTACK = ("attack", "one client asks for the password file", 6.0)

    def __init__(self, title: str, happens: str, seconds: float) -> None:
        self.title = title
        self.happens = happens
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the kernel counted, in packets: ``sent`` up, of flows that were ``stopped``, ``dropped``, ``ignored``."""

    packets: int = 0
    sent: int = 0
    stopped: int = 0
    dropped: int = 0
    ignored: int = 0
    lost: int = 0
    dropped_flows: int = 0

    @property
    def share(self) -> float | None:
        """Sent up of those of flows that are not ignored; None without any."""
        seen = self.packets - self.ignored
        return self.sent / seen if seen else None


@dataclass(slots=True)
class Findings:
    """What the sniffer's events told. ``names`` are those that clients asked for, by kind of event.

    ``flows`` are those that ended, by protocol. ``download`` is the end of the sniffed download.
    """

    names: dict[str, Counter[str]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    flows: Counter[str] = field(default_factory=Counter)
    alerts: list[SniffEvent] = field(default_factory=list)
    download: SniffEvent | None = None
    strangers: Counter[str] = field(default_factory=Counter)
    _download: int = 0

    def add(self, event: SniffEvent) -> None:
        """Take in one more."""
        if event.kind == "stats":
            return
        if event.sniffer != SNIFFER:
            self.strangers[event.sniffer] += 1
        if event.name:
            self.names[event.kind][event.name] += 1
        if self.began_download(event):
            self._download = event.flow
        if event.kind == "alert":
            self.alerts.append(event)
        if event.kind == "flow":
            self.flows[event.label or "Unknown"] += 1
            if event.flow == self._download:
                self.download = event

    def unnamed(self, visits: Visits, kind: str) -> int:
        """Visits that were answered, and of which no event told the name."""
        return max(visits.right[kind] - sum(self.names[kind][site] for site in SITES), 0)

    @property
    def knows_download(self) -> bool:
        """Whether the sniffer told what the sniffed download is."""
        return bool(self._download)

    @staticmethod
    def began_download(event: SniffEvent) -> bool:
        """Whether this is what tells that the sniffed download is one."""
        return event.kind == "tls" and event.name == MIRROR and event.server[1] == PORTS[SNIFFED]


@dataclass(frozen=True, slots=True)
class Result:
    """All of the act. ``standing`` is the attacker's at the phase's end, ``silent`` how it was a second after it began
    to attack.
    """

    visits: Visits
    findings: Findings
    parts: Sequence[Part]
    silent: Standing
    standing: Standing
    traffic: Traffic

    @property
    def speeds(self) -> tuple[float | None, float | None]:
        """Bytes per second of the sniffed download and of the other one."""
        return speed(self.parts, SNIFFED), speed(self.parts, ALONE)


def complaints(result: Result) -> Iterator[str]:
    """Why the act does not show what it says; none when it does."""
    yield from _of_visits(result)
    yield from _of_download(result)
    yield from _of_attack(result)
    traffic = result.traffic
    share = traffic.share
    if share is None:
        yield "the sniffer saw no packet"
    elif share > LARGEST_SHARE:
        yield f"{share:.0%} of the packets were sent up, more than {LARGEST_SHARE:.0%}"
    if traffic.lost:
        yield f"{traffic.lost} packets for the engine found no room"


def _of_visits(result: Result) -> Iterator[str]:
    visits, findings = result.visits, result.findings
    for kind in KINDS:
        if not visits.right[kind]:
            yield f"no visit over {kind.upper()} was answered"
        if unnamed := findings.unnamed(visits, kind):
            yield f"the sniffer did not tell the names of {unnamed} visits over {kind.upper()}"
    for (kind, why), count in visits.wrong.items():
        yield f"{count} visits over {kind.upper()} failed: {why}"
    if findings.strangers:
        yield f"events came from {', '.join(findings.strangers)}"


def _of_download(result: Result) -> Iterator[str]:
    problems = {part.problem for part in result.parts if part.problem}
    if problems:
        yield f"a download failed: {', '.join(sorted(problems))}"
    sniffed, alone = result.speeds
    if sniffed is None or alone is None:
        yield "no download ended"
    elif sniffed < LEAST_SPEED * alone:
        yield f"the sniffed download ran at {sniffed / alone:.0%} of the speed of the other one"
    flow = result.findings.download
    if flow is None:
        yield "the sniffer did not tell the end of the download"
        return
    if flow.state != "stop":
        yield f"the download's flow was not stopped: {flow.state}"
    if flow.records * FEW_RECORDS > sum(flow.packets):
        yield f"{flow.records} of the download's {sum(flow.packets)} packets were sent up"


def _of_attack(result: Result) -> Iterator[str]:
    alerts = [alert.signature for alert in result.findings.alerts]
    if alerts != [SIGNATURE]:
        yield f"one alert of signature {SIGNATURE} was to come, not {alerts or 'none'}"
    elif result.findings.alerts[0].action != "blocked":
        yield f"the alert does not say that the flow was blocked but {result.findings.alerts[0].action}"
    if result.standing.attacked is None:
        yield "the attack was not sent"
        return
    if result.standing.sent <= result.silent.sent:
        yield "the attacker sent nothing more"
    if more := result.standing.answered - result.silent.answered:
        yield f"{more} requests of the attacker were answered later than {SILENT_AFTER_SECONDS:g} s after the attack"
    if not result.traffic.dropped_flows:
        yield "the kernel dropped no flow"
