"""A capture through sniffer, an engine and the event lines: every line fits the schema, every count is told."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from captures import opened, pcap, section
from pretend_engine import SID, PretendEngine
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet
from schema_check import SCHEMA, problems

from sluicegate_agent.dpi.actions import ActionTable
from sluicegate_agent.dpi.capture.files import open_capture
from sluicegate_agent.dpi.events.community import community_id
from sluicegate_agent.dpi.events.layers import layers
from sluicegate_agent.dpi.events.lines import EveLines, Origin, clean
from sluicegate_agent.dpi.events.text import timestamp
from sluicegate_agent.dpi.offline import OfflineRun
from sluicegate_agent.dpi.rules.model import Signature
from sluicegate_agent.dpi.sniffing.rules import SniffRule
from sluicegate_agent.dpi.sniffing.sniffer import SniffPolicy
from sluicegate_agent.dpi.summary import Circumstances, Summary
from sluicegate_api.dpisniffer import Action

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


class Lines:
    """An output that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.lost, self.problem = 0, ""

    @property
    def written(self) -> int:
        return len(self.lines)

    def write(self, lines: list[bytes]) -> None:
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
        self.lines += lines

    def close(self) -> None: ...

    @property
    def events(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.lines]
        for event in found:
            assert not list(problems(event)), event
        return found


def conversation(port: int, *, packets: int = 8, payload: bytes = b"data", source: str = "10.0.0.1") -> list[Packet]:
    """A TCP connection; its packets go to and fro."""
    server, client = ("192.0.2.1", port), (source, 40000)
    found: list[Packet] = []
    for index in range(packets):
        (a, b), flags = (client, server) if index % 2 == 0 else (server, client), "PA"
        flags = {0: "S", 1: "SA", packets - 1: "FA"}.get(index, flags)
        data = b"" if index < 2 else payload
        found.append(Ether(**MACS) / IP(src=a[0], dst=b[0]) / TCP(sport=a[1], dport=b[1], flags=flags) / data)
    return found


def run(
    frames: Sequence[Packet], engine: PretendEngine | None = None, *, actions: Sequence[Action] = (), **policy: Any
) -> tuple[Lines, OfflineRun, Summary]:
    """All of it."""
    engine = engine or PretendEngine()
    output = Lines()
    signature = Signature(None, SID, message='find "passwd"', classtype="web", priority=2, rev=3)  # type: ignore[arg-type]
    lines = EveLines(Origin("shop/edge", "node-1", "test.pcap"), engine, {SID: signature})
    offline = OfflineRun(
        SniffPolicy(**policy),
        engine,
        lines,
        output,
        actions=ActionTable(actions, engine),
        messages=lambda _: signature.message,
    )
    offline.run(opened(pcap([bytes(frame) for frame in frames])))
    given = Circumstances("test.pcap", "shop/edge", "node-1", "pretended", "", 1, 0)
    return output, offline, Summary.of(offline, output, given)


def of_type(output: Lines, kind: str) -> list[dict[str, Any]]:
    """Events of one type."""
    return [event for event in output.events if event["event_type"] == kind]


def test_a_tls_flow_gives_a_tls_event_and_a_flow_event_with_all_its_packets() -> None:
    output, _, summary = run(conversation(443, packets=20, payload=bytes(100)))
    (tls,) = of_type(output, "tls")
    assert tls["tls"] == {"sni": "www.example.org", "version": "TLSv1.3", "ja4": "t13d", "ja3s": {"hash": "abc"}}
    assert (tls["vnf"], tls["node"], tls["in_iface"]) == ("shop/edge", "node-1", "test.pcap")
    (flow,) = of_type(output, "flow")
    assert flow["ndpi"]["proto"] == "TLS.Google"
    assert flow["app_proto"] == "tls"
    assert flow["flow"]["pkts_toserver"] == flow["flow"]["pkts_toclient"] == 10
    assert flow["flow"]["state"] == "closed"
    assert flow["sniffing"] == {"records": 3, "state": "stop", "reason": "classified"}
    assert flow["flow_id"] == tls["flow_id"]
    assert flow["community_id"] == tls["community_id"] == community_id(6, (b"\n\0\0\1", 40000), (b"\xc0\0\2\1", 443))
    assert summary.share_sent == pytest.approx(3 / 20)
    assert not summary.why_no_protocols


def test_http_and_dns_have_their_own_events_and_risks_are_anomalies() -> None:
    query = Ether(**MACS) / IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=5000, dport=53) / b"query"
    output, _, _ = run([*conversation(80), query, query, query])
    (http,) = of_type(output, "http")
    assert http["http"]["url"] == "www.example.org/"
    assert http["http"]["status"] == 200
    (dns,) = of_type(output, "dns")
    assert dns["dns"] == {"rrname": "www.example.org", "rrtype": "A", "answers": 1, "rcode": "NOERROR"}
    assert (dns["src_ip"], dns["ip_v"], dns["proto"]) == ("fd00::1", 6, "UDP")
    (anomaly,) = of_type(output, "anomaly")
    assert anomaly["anomaly"] == {"type": "flow_risk", "code": 3, "event": "Risk 3", "flow_score": 50}


def test_an_alert_names_its_rule_and_its_flow_says_that_there_was_one() -> None:
    output, _, summary = run(conversation(80, payload=b"GET /etc/passwd"), PretendEngine(label_at=100))
    alerts = of_type(output, "alert")
    assert alerts[0]["alert"] == {
        "action": "allowed",
        "gid": 1,
        "signature_id": SID,
        "rev": 3,
        "signature": 'find "passwd"',
        "category": "web",
        "severity": 2,
    }
    assert of_type(output, "flow")[0]["flow"]["alerted"]
    assert summary.document()["alerts"] == [{"signatureId": SID, "signature": 'find "passwd"', "alerts": len(alerts)}]


def test_a_drop_by_signature_drops_what_follows() -> None:
    drop = Action.model_validate({"match": {"signatureIds": [SID]}, "action": "Drop", "forSeconds": 5})
    frames = conversation(80, payload=b"GET /etc/passwd", packets=10)
    output, offline, summary = run(frames, PretendEngine(label_at=100), actions=[drop])
    assert summary.outcomes["sent"] == 3
    assert summary.outcomes["dropped"] == 7
    assert of_type(output, "alert")[0]["alert"]["action"] == "blocked"
    assert of_type(output, "flow")[0]["sniffing"]["state"] == "drop"
    assert offline.sniffer.counters.dropped_by_verdict == 1


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ({"protocols": ["TLS.Google"]}, 1),
        ({"protocols": ["google"]}, 1),
        ({"protocols": ["TLS"], "categories": ["Web"]}, 1),
        ({"protocols": ["TLS"], "minRisk": 10}, 0),
        ({"minRisk": 50}, 1),
        ({"categories": ["Mining"]}, 0),
    ],
)
def test_actions_match_labels_categories_and_risk(match: dict[str, object], wanted: int) -> None:
    alert = Action.model_validate({"name": "seen", "match": match, "action": "Alert"})
    output, _, _ = run([*conversation(443), *conversation(80)], actions=[alert])
    alerts = of_type(output, "alert")
    assert [event["alert"]["signature"] for event in alerts] == ["action seen"] * wanted


def test_tunnels_vlans_and_icmp_are_told() -> None:
    inner = conversation(443)
    outer = IP(src="1.1.1.1", dst="1.1.1.2") / UDP(sport=1, dport=4789)
    frames = [Ether(**MACS) / Dot1Q(vlan=7) / outer / VXLAN(vni=42) / frame for frame in inner]
    ping = [Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=8) / b"ping"]
    output, _, _ = run([*frames, *ping])
    tunnelled, icmp = of_type(output, "flow")
    assert (tunnelled["vlan"], tunnelled["tunnel"]) == ([7], {"id": 42})
    assert (icmp["icmp_type"], icmp["icmp_code"], icmp["proto"]) == (8, 0, "ICMP")
    assert "src_port" not in icmp


def test_the_last_event_counts_what_happened() -> None:
    arp = Ether(**MACS, type=0x0806) / bytes(28)
    output, _, summary = run([*conversation(443, packets=10), arp])
    stats = output.events[-1]
    assert stats["event_type"] == "stats"
    assert stats["stats"]["capture"]["packets"] == 11
    assert stats["stats"]["capture"]["unreadable"] == 1
    assert stats["stats"]["sniffing"]["sent"] == 3
    assert summary.findings.unreadable == {"not IP": 1}


def test_a_verdict_of_the_same_millisecond_comes_too_late_for_its_packets() -> None:
    engine = PretendEngine()
    output = Lines()
    offline = OfflineRun(SniffPolicy(), engine, EveLines(Origin("a/b", "n"), engine), output)
    frames = [bytes(frame) for frame in conversation(443, packets=20)]
    offline.run(opened(pcap(frames, step_ns=100_000)))
    assert offline.sniffer.counters.packets[0] == 10


@pytest.mark.parametrize(
    ("frames", "policy", "words"),
    [
        ([], {}, "the capture holds no packet"),
        ([Ether(**MACS, type=0x0806) / bytes(28)], {}, "none of the 1 packets could be read (not IP: 1)"),
        ([Ether(**MACS) / IP(frag=9) / bytes(30)], {}, "all packets are IP fragments"),
        (conversation(80), {"rules": (SniffRule("udp", frozenset({17})),)}, "no rule of sniff takes any"),
    ],
)
def test_an_empty_view_says_why(frames: list[Packet], policy: dict[str, Any], words: str) -> None:
    output, _, summary = run(frames, **policy)
    assert words in summary.why_no_protocols
    assert words in summary.why_no_alerts
    assert [event["event_type"] for event in output.events] == ["stats"]
    assert summary.document()["whyNoProtocols"] == summary.why_no_protocols


def test_a_capture_that_contradicts_itself_is_told_and_still_summed_up() -> None:
    engine = PretendEngine()
    output = Lines()
    offline = OfflineRun(SniffPolicy(), engine, EveLines(Origin("a/b", "n"), engine), output)
    offline.run(opened(section() + b"\1\0\0\0\2\0\0\0"))
    assert "claims a length of 2 bytes" in offline.findings.ending.reason


# From the specification's own examples, https://github.com/corelight/community-id-spec/tree/master/baseline.
@pytest.mark.parametrize(
    ("protocol", "source", "destination", "wanted"),
    [
        (6, ("128.232.110.120", 34855), ("66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (6, ("66.35.250.204", 80), ("128.232.110.120", 34855), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (17, ("192.168.1.52", 54585), ("8.8.8.8", 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (1, ("192.168.0.89", 8), ("192.168.0.1", 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ],
)
def test_the_community_id_is_that_of_other_tools(
    protocol: int, source: tuple[str, int], destination: tuple[str, int], wanted: str
) -> None:
    ends = [(ip_address(address).packed, port) for address, port in (source, destination)]
    assert community_id(protocol, *ends) == wanted


def test_names_that_are_not_text_do_not_break_a_line() -> None:
    assert json.loads(clean(b'{"hostname":"\xff\xfe"}')) == {"hostname": "\ufffd\ufffd"}
    assert clean(b'{"a":\n1}').count(b"\n") == 0
    assert list(layers(b'{"tls": broken')) == []
    assert list(layers(b'{"tls": 3}')) == []


def test_times_have_microseconds_and_stay_within_years_of_four_digits() -> None:
    assert timestamp(1_700_000_000_123_456_789) == b"2023-11-14T22:13:20.123456+0000"
    assert timestamp(2**63 - 1).startswith(b"2262-")
    assert timestamp(2**64 - 1).startswith(b"2554-")


def closed_objects(schema: dict[str, Any], path: str = "$") -> Iterator[str]:
    """Paths of objects that take any property."""
    if "object" in schema.get("type", "") and schema.get("additionalProperties") is not False:
        yield path
    for group in ("properties", "patternProperties"):
        for name, part in schema.get(group, {}).items():
            yield from closed_objects(part, f"{path}.{name}")
    if "items" in schema:
        yield from closed_objects(schema["items"], f"{path}[]")


def test_the_schema_leaves_no_object_open() -> None:
    assert list(closed_objects(SCHEMA)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, "colour is not in the schema"),
        ({"flow": {}}, "pkts_toserver is missing"),
        ({"src_port": -1}, "-1 is below 0"),
        ({"ip_v": 5}, "5 is none of"),
        ({"timestamp": "now"}, "does not match"),
        ({"flow_id": True}, "True is not integer"),
    ],
)
def test_the_schema_refuses_what_is_not_an_event(change: dict[str, object], words: str) -> None:
    output, _, _ = run(conversation(443))
    event = of_type(output, "flow")[0]
    assert words in " ".join(problems(event | change))


class Failing:
    """A file that breaks after some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int) -> bytes:
        data = self._data.read(count)
        if not data:
            raise OSError(errno.EIO, "Input/output error")
        return data


def test_a_file_that_cannot_be_read_further_is_summed_up_as_far_as_it_went() -> None:
    engine = PretendEngine()
    offline = OfflineRun(SniffPolicy(), engine, EveLines(Origin("a/b", "n"), engine), Lines())
    file: Any = Failing(pcap([bytes(frame) for frame in conversation(443)]))
    findings = offline.run(open_capture(file, "test.pcap"))
    assert findings.packets == 8
    assert "cannot be read further (Input/output error)" in str(findings.ending)
    assert findings.labels["TLS.Google"].flows == 1


def test_a_clock_that_runs_backwards_does_not_hold_verdicts_back() -> None:
    engine = PretendEngine()
    offline = OfflineRun(SniffPolicy(), engine, EveLines(Origin("a/b", "n"), engine), Lines())
    frames = [bytes(frame) for frame in conversation(443, packets=20)]
    offline.run(opened(pcap(frames, step_ns=-1_000_000)))
    assert offline.sniffer.counters.packets[0] == 3


def test_tls_inside_of_quic_is_a_tls_event_too() -> None:
    text = b'{"hostname":"www.example.org","quic":{"quic_version":"V-1","tls":{"version":"TLSv1.3","ja4":"q13d"}}}'
    (layer,) = layers(text)
    assert layer.type == "tls"
    assert layer.fields == {"sni": "www.example.org", "version": "TLSv1.3", "ja4": "q13d"}
