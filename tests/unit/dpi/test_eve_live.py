"""Lines of a live sniffer: whose they are, and where they were seen."""

from __future__ import annotations

import json

import pytest
from pretend_engine import PretendEngine
from schema_check import SCHEMA, problems

from sluicegate_agent.dpi.engine import Detail, Event
from sluicegate_agent.dpi.events.lines import EveLines, FlowTotals, Origin, stats_line
from sluicegate_agent.dpi.rules.model import App

EVENT = Event(
    **dict.fromkeys(Event._fields, 0)
    | {"client": bytes([10, 0, 0, 1] + [0] * 12), "server": bytes([10, 0, 0, 2] + [0] * 12), "l4_proto": 17}
    | {"client_port": 5000, "server_port": 53, "ts_ns": 1_700_000_000_000_000_000}
)
DETAIL = Detail(**dict.fromkeys(Detail._fields, 0))


def flow_line(lines: EveLines, event: Event, *, end: str = "timeout", reason: str = "classified") -> dict[str, object]:
    totals = FlowTotals((1, 1), (100, 100), 1, 2, False, end, 2, "stop", reason)
    (line,) = lines.flow(event, DETAIL, b"", totals)
    found: dict[str, object] = json.loads(line)
    assert not list(problems(found)), found
    return found


def test_interfaces_are_named_by_their_index() -> None:
    lines = EveLines(Origin("shop/edge", "node-1"), PretendEngine())
    lines.name_interfaces({2: "eth0", 1000: "wan1"})
    seen = [flow_line(lines, EVENT._replace(flow_id=index, ifindex=index)) for index in (2, 1000, 7)]
    assert [each["in_iface"] for each in seen] == ["eth0", "wan1", "unknown"]
    assert {(each["vnf"], each["node"], each["host"]) for each in seen} == {("shop/edge", "node-1", "node-1")}


def test_a_flow_keeps_the_name_that_its_interface_had() -> None:
    lines = EveLines(Origin("shop/edge", "node-1"), PretendEngine())
    lines.name_interfaces({2: "eth0"})
    event = EVENT._replace(flow_id=1, ifindex=2)
    lines.alert(event, DETAIL)
    lines.name_interfaces({2: "lan0"})
    assert flow_line(lines, event)["in_iface"] == "eth0"
    assert flow_line(lines, event)["in_iface"] == "lan0"  # another flow of that id


@pytest.mark.parametrize("reason", SCHEMA["properties"]["sniffing"]["properties"]["reason"]["enum"])
@pytest.mark.parametrize("end", SCHEMA["properties"]["flow"]["properties"]["reason"]["enum"])
def test_ends_and_reasons_are_those_of_the_schema(end: str, reason: str) -> None:
    flow_line(EveLines(Origin("shop/edge", "node-1"), PretendEngine()), EVENT, end=end, reason=reason)


def test_counters_need_no_engine() -> None:
    groups = {
        "sniffing": {"packets": 9, "bytes": 900, "sent": 3, "sent_bytes": 300, "lost": 0, "no_worker": 0},
        "engine": {"records": 3},
        "workers": {"running": 1, "restarts": 0, "quarantined": 0},
        "output": {"written": 2, "dropped": 0, "lost": 0, "queued": 0},
    }
    found = json.loads(stats_line(Origin("shop/edge", "node-1"), 1_700_000_000_123_456_789, groups))
    assert not list(problems(found)), found
    assert found["stats"] == groups
    assert found["timestamp"] == "2023-11-14T22:13:20.123456+0000"


@pytest.mark.parametrize(("app", "name"), [(App.HTTP, "HTTP"), (App.TLS, "TLS"), (App.DNS, "DNS")])
def test_an_alert_before_the_label_says_what_was_seen(app: App, name: str) -> None:
    lines = EveLines(Origin("shop/edge", "node-1"), PretendEngine())
    line = lines.alert(EVENT._replace(master=0, app=0, rule=1), DETAIL._replace(layer=int(app)))
    event = json.loads(line)
    assert not list(problems(event))
    assert (event["app_proto"], event["ndpi"]) == (name.lower(), {"proto": name})
