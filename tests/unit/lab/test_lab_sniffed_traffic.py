"""What the lab's clients of a sniffer are made of: names, events, and what goes between processes."""

from __future__ import annotations

import json
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from sluicegate_agent.lab import dns
from sluicegate_agent.lab.downloads import Part, speed
from sluicegate_agent.lab.events import EventFile
from sluicegate_agent.lab.intruder import Standing
from sluicegate_agent.lab.visitors import Visits

FLOW = {
    "timestamp": "2026-01-02T03:04:05.000006+0000", "flow_id": 7, "event_type": "flow", "vnf": "demo/edge",
    "in_iface": "client", "src_ip": "10.76.0.2", "src_port": 4000, "dest_ip": "203.0.113.10", "dest_port": 443,
    "flow": {"pkts_toserver": 10, "pkts_toclient": 20},
    "sniffing": {"records": 9, "state": "stop", "reason": "encrypted"}, "ndpi": {"proto": "TLS.Wikipedia"},
}  # fmt: skip
TLS = FLOW | {"event_type": "tls", "tls": {"sni": "shop.example"}}
STATS = {"timestamp": FLOW["timestamp"], "event_type": "stats", "vnf": "demo/edge", "stats": {}}


def test_a_question_is_answered_with_the_address_of_its_name() -> None:
    question = dns.query(0xBEEF, "Shop.Example")
    assert question[12:] == b"\x04Shop\x07Example\0\0\x01\0\x01"
    found = dns.address_in(dns.answer(question), 0xBEEF)
    assert found == dns.address_of("shop.example")
    assert found in dns_network()
    assert dns.address_of("mail.example") != found


def dns_network() -> list[IPv4Address]:
    return [IPv4Address(f"198.51.100.{number}") for number in range(1, 255)]


def test_other_types_have_no_answer() -> None:
    question = bytearray(dns.query(1, "shop.example"))
    question[-3] = 28  # AAAA
    answer = dns.answer(bytes(question))
    assert answer[:8] == b"\0\x01\x81\x80\0\x01\0\0"
    with pytest.raises(ValueError, match="does not answer"):
        dns.address_in(answer, 1)


@pytest.mark.parametrize("cut", range(1, 30))
def test_what_is_no_question_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match=r"is not one question|shorter than a header"):
        dns.answer(dns.query(1, "shop.example")[:-cut])


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(ValueError, match="does not answer question 2"):
        dns.address_in(dns.answer(dns.query(1, "shop.example")), 2)


def test_events_are_read_by_whole_lines_as_they_come(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "eve.json")
    assert list(events.take()) == []
    first, second, third = (json.dumps(event) + "\n" for event in (FLOW, TLS, STATS))
    with events.path.open("a") as file:
        file.write(first + second[:40])
    (flow,) = events.take()
    assert (flow.kind, flow.label, flow.packets, flow.records, flow.state) == (
        "flow",
        "TLS.Wikipedia",
        (10, 20),
        9,
        "stop",
    )
    assert (flow.client, flow.server) == (("10.76.0.2", 4000), ("203.0.113.10", 443))
    with events.path.open("a") as file:
        file.write(second[40:] + third)
    tls, stats = events.take()
    assert (tls.kind, tls.name) == ("tls", "shop.example")
    assert (stats.kind, stats.sniffer) == ("stats", "demo/edge")
    assert list(events.take()) == []


def test_the_speed_of_a_side_is_that_of_its_middle_part() -> None:
    parts = [Part("a", 100, seconds) for seconds in (1.0, 2.0, 50.0)]
    parts += [Part("a", 100, 0.001, "reset"), Part("b", 100, 1.0)]
    assert speed(parts, "a") == 50
    assert speed(parts, "c") is None


def test_reports_survive_their_way_between_processes() -> None:
    visits = Visits(Counter(http=3), Counter({("tls", "reset"): 1}))
    total = Visits.from_json(visits.to_json())
    assert total == visits
    total.add(visits)
    assert total == Visits(Counter(http=6), Counter({("tls", "reset"): 2}))
    for part in (Part("a", 5, 0.5, "reset"), Part("b", 5, 0.5)):
        assert Part.from_json(part.to_json()) == part
    for standing in (Standing(3, 2), Standing(3, 2, 0.25)):
        assert Standing.from_json(standing.to_json()) == standing
