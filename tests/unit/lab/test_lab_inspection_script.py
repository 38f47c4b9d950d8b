"""The demo's third act judges itself by what its clients and the sniffer's events tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from sluicegate_agent.lab.demo.inspection_script import (
    ALONE,
    MIRROR,
    SIGNATURE,
    SITES,
    SNIFFED,
    SNIFFER,
    Findings,
    Result,
    Traffic,
    complaints,
)
from sluicegate_agent.lab.downloads import Part
from sluicegate_agent.lab.events import SniffEvent
from sluicegate_agent.lab.intruder import Standing
from sluicegate_agent.lab.visitors import KINDS, Visits

CLIENT = ("10.76.0.2", 40000)
ALERT = SniffEvent(
    "alert", 3, SNIFFER, "client", CLIENT, ("203.0.113.10", 80), signature=SIGNATURE, action="blocked", label="HTTP"
)
DOWNLOAD = SniffEvent(
    "flow", 2, SNIFFER, "client", CLIENT, ("203.0.113.10", 443), label="TLS", packets=(9000, 90_000), records=9,
    state="stop", reason="encrypted",
)  # fmt: skip


def named(kind: str, name: str) -> SniffEvent:
    return SniffEvent(
        kind, DOWNLOAD.flow if name == MIRROR else 1, SNIFFER, "client", CLIENT, ("203.0.113.10", 443), name=name
    )


def findings(
    *but: SniffEvent, download: SniffEvent | None = DOWNLOAD, alerts: tuple[SniffEvent, ...] = (ALERT,)
) -> Findings:
    made = Findings()
    events = [named(kind, name) for kind in KINDS for name in SITES] + [named("tls", MIRROR), *alerts]
    for event in [*events, *([download] if download else []), SniffEvent("stats", 0, SNIFFER, "", ("", 0), ("", 0))]:
        if event not in but:
            made.add(event)
    return made


GOOD = Result(
    Visits(Counter(dict.fromkeys(KINDS, len(SITES)))),
    findings(),
    (Part(SNIFFED, 100, 1.0), Part(ALONE, 100, 0.9)),
    silent=Standing(12, 3, 0.9),
    standing=Standing(60, 3, 5.5),
    traffic=Traffic(200_000, 900, 100_000, 50, 99_000, 0, 1),
)


def test_an_act_that_shows_what_it_says_has_no_complaints() -> None:
    assert list(complaints(GOOD)) == []


@pytest.mark.parametrize(
    ("spoiled", "complaint"),
    [
        (replace(GOOD, visits=Visits(Counter(http=1, tls=1))), "no visit over DNS was answered"),
        (
            replace(GOOD, visits=Visits(GOOD.visits.right, Counter({("tls", "reset"): 2}))),
            "2 visits over TLS failed: reset",
        ),
        (
            replace(GOOD, findings=findings(named("http", SITES[0]))),
            "the sniffer did not tell the names of 1 visits over HTTP",
        ),
        (replace(GOOD, findings=findings(alerts=())), f"one alert of signature {SIGNATURE} was to come, not none"),
        (
            replace(GOOD, findings=findings(alerts=(ALERT, ALERT))),
            f"one alert of signature {SIGNATURE} was to come, not [{SIGNATURE}, {SIGNATURE}]",
        ),
        (
            replace(GOOD, findings=findings(alerts=(replace(ALERT, action="allowed"),))),
            "the alert does not say that the flow was blocked but allowed",
        ),
        (
            replace(GOOD, findings=findings(alerts=(replace(ALERT, sniffer="demo/other"),))),
            "events came from demo/other",
        ),
        (replace(GOOD, findings=findings(download=None)), "the sniffer did not tell the end of the download"),
        (
            replace(GOOD, findings=findings(download=replace(DOWNLOAD, state="sniff"))),
            "the download's flow was not stopped: sniff",
        ),
        (
            replace(GOOD, findings=findings(download=replace(DOWNLOAD, records=991))),
            "991 of the download's 99000 packets were sent up",
        ),
        (
            replace(GOOD, parts=(Part(SNIFFED, 100, 2.1), Part(ALONE, 100, 1.0))),
            "the sniffed download ran at 48% of the speed of the other one",
        ),
        (replace(GOOD, parts=(Part(SNIFFED, 100, 1.0),)), "no download ended"),
        (
            replace(GOOD, parts=(*GOOD.parts, Part(ALONE, 100, 1.0, "reset"))),
            "a download failed: reset",
        ),
        (replace(GOOD, standing=Standing(60, 3)), "the attack was not sent"),
        (replace(GOOD, standing=Standing(12, 3, 0.9)), "the attacker sent nothing more"),
        (
            replace(GOOD, standing=Standing(60, 5, 5.5)),
            "2 requests of the attacker were answered later than 1 s after the attack",
        ),
        (replace(GOOD, traffic=replace(GOOD.traffic, dropped_flows=0)), "the kernel dropped no flow"),
        (replace(GOOD, traffic=replace(GOOD.traffic, lost=7)), "7 packets for the engine found no room"),
        (
            replace(GOOD, traffic=replace(GOOD.traffic, sent=50_000)),
            "50% of the packets were sent up, more than 20%",
        ),
        (replace(GOOD, traffic=Traffic(dropped_flows=1)), "the sniffer saw no packet"),
    ],
)  # fmt: skip
def test_everything_that_is_not_as_told_is_a_complaint(spoiled: Result, complaint: str) -> None:
    assert list(complaints(spoiled)) == [complaint]


def test_only_the_sniffed_download_is_the_download() -> None:
    made = Findings()
    alone = replace(named("tls", MIRROR), flow=8, server=("203.0.113.10", 8443))
    for event in (alone, replace(DOWNLOAD, flow=8), named("tls", SITES[0]), replace(DOWNLOAD, flow=1)):
        made.add(event)
    assert made.download is None
    made.add(named("tls", MIRROR))
    made.add(DOWNLOAD)
    assert made.download == DOWNLOAD
    assert made.flows == {"TLS": 3}


def test_the_share_is_of_packets_that_are_not_left_alone() -> None:
    assert Traffic(packets=300, sent=20, ignored=100).share == 0.1
    assert Traffic(packets=100, ignored=100).share is None
