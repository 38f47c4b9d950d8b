"""``sluicegate replay`` with the real engine: events, summary, exit codes, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from captures import pcap, section
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from schema_check import problems
from typer.testing import CliRunner, Result

from sluicegate_agent.cli.main import app

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
SNIFFER = """
apiVersion: sluicegate.io/v1alpha1
kind: DpiSniffer
metadata: {name: edge, namespace: shop}
spec:
  sniff: [{name: web, protocols: [TCP], destination: {ports: [80]}}]
  signatures:
    inline: |
      alert http any any -> any any (msg:"passwords"; content:"/etc/passwd"; classtype:web; sid:1000001; rev:2;)
  actions:
    - {name: block, match: {signatureIds: [1000001]}, action: Drop, forSeconds: 60}
"""


def http(path: str, *, port: int = 40000, answers: int = 6) -> list[Packet]:
    """A request and its answer."""
    there = IP(src="10.0.0.1", dst="192.0.2.80")
    back = IP(src="192.0.2.80", dst="10.0.0.1")
    ports, reverse = {"sport": port, "dport": 80}, {"sport": 80, "dport": port}
    request = f"GET {path} HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: test/1.0\r\nAccept: */*\r\n\r\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {answers * 1000}\r\n\r\n".encode()
    found = [
        there / TCP(**ports, flags="S", seq=0),
        back / TCP(**reverse, flags="SA", seq=0, ack=1),
        there / TCP(**ports, flags="A", seq=1, ack=1),
        there / TCP(**ports, flags="PA", seq=1, ack=1) / request,
        back / TCP(**reverse, flags="PA", seq=1, ack=1 + len(request)) / head,
    ]
    for index in range(answers):
        answer = TCP(**reverse, flags="PA", seq=1 + len(head) + index * 1000, ack=1 + len(request))
        found.append(back / answer / (b"<html>" + bytes(994)))
    return [Ether(**MACS) / packet for packet in found]


def dns() -> list[Packet]:
    """A question and its answer."""
    question = DNSQR(qname="www.example.org")
    there = IP(src="10.0.0.1", dst="192.0.2.53") / UDP(sport=50000, dport=53) / DNS(id=7, rd=1, qd=question)
    answer = DNSRR(rrname="www.example.org", rdata="192.0.2.80")
    back = IP(src="192.0.2.53", dst="10.0.0.1") / UDP(sport=53, dport=50000) / DNS(id=7, qr=1, qd=question, an=answer)
    return [Ether(**MACS) / there, Ether(**MACS) / back]


class Folder:
    """Files of a test, and the command run on them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def capture(self, frames: list[Packet] | bytes, name: str = "test.pcap") -> str:
        path = self.path / name
        path.write_bytes(frames if isinstance(frames, bytes) else pcap([bytes(frame) for frame in frames]))
        return str(path)

    def sniffer(self, text: str = SNIFFER) -> str:
        path = self.path / "sniffer.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def replay(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["replay", *arguments])

    def summary(self, *arguments: str) -> dict[str, Any]:
        """The answer as JSON; the command must succeed."""
        result = self.replay(*arguments, "-o", "json")
        assert result.exit_code == 0, result.output
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def events(self, capture: str, *arguments: str) -> list[dict[str, Any]]:
        """Events of a capture, all of which fit the schema."""
        out = self.path / "eve.json"
        self.summary(capture, "--eve", str(out), "--node", "node-1", *arguments)
        found = [json.loads(line) for line in out.read_bytes().splitlines()]
        assert [problem for event in found for problem in problems(event)] == []
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_protocols_names_and_shares_are_found_without_any_configuration(folder: Folder) -> None:
    capture = folder.capture([*http("/"), *dns()])
    summary = folder.summary(capture)
    assert {each["protocol"]: each["flows"] for each in summary["protocols"]} == {"HTTP": 1, "DNS": 1}
    assert summary["sentUp"]["packets"] < summary["packets"] == 13
    assert sum(each["sentUp"] for each in summary["protocols"]) == summary["sentUp"]["packets"]
    assert sum(each["packets"] for each in summary["protocols"]) == summary["packets"]
    assert summary["losses"] == summary["unreadable"] == {}
    assert summary["ending"] == {"whole": True, "reason": "", "offset": summary["ending"]["offset"]}
    events = folder.events(capture)
    kinds = [event["event_type"] for event in events]
    assert kinds.count("flow") == 2
    assert kinds.count("stats") == 1
    (flow,) = [event for event in events if event["event_type"] == "flow" and event["dest_port"] == 80]
    assert flow["ndpi"]["proto"] == "HTTP"
    assert flow["ndpi"]["hostname"] == "www.example.org"
    assert flow["flow"]["pkts_toclient"] == 8
    (web,) = [event for event in events if event["event_type"] == "http"]
    assert web["http"]["hostname"] == "www.example.org"
    assert web["node"] == "node-1"
    (name,) = [event for event in events if event["event_type"] == "dns"]
    assert name["dns"]["rrname"] == "www.example.org"


def test_rules_budget_and_actions_of_a_sniffer_are_in_force(folder: Folder) -> None:
    capture = folder.capture([*http("/etc/passwd"), *http("/", port=40001), *dns()])
    sniffer = folder.sniffer()
    summary = folder.summary(capture, "-f", sniffer)
    assert summary["vnf"] == "shop/edge"
    assert summary["alerts"] == [{"signatureId": 1000001, "signature": "passwords", "alerts": 1}]
    assert summary["signatures"] == {"loaded": 1, "refused": 0}
    assert summary["outcomes"]["ignored"] == 2
    assert summary["outcomes"]["dropped"] > 0
    (alert,) = [event for event in folder.events(capture, "-f", sniffer) if event["event_type"] == "alert"]
    assert alert["vnf"] == "shop/edge"
    assert alert["alert"]["action"] == "blocked"
    assert alert["alert"]["rev"] == 2
    assert alert["src_port"] == 40000


def test_the_table_says_what_was_found_and_why_the_rest_is_empty(folder: Folder) -> None:
    result = folder.replay(folder.capture([*http("/"), Ether(**MACS, type=0x0806) / bytes(28)]))
    assert result.exit_code == 0
    for words in ("HTTP", "Sent up:", "No alerts: no signatures", "Losses: none", "Unreadable packets: 1 not IP"):
        assert words in result.stdout


def test_an_empty_capture_is_no_error_and_says_why_there_is_nothing(folder: Folder) -> None:
    result = folder.replay(folder.capture([]))
    assert result.exit_code == 0
    assert "No protocols: the capture holds no packet" in result.stdout


def test_a_cut_capture_keeps_what_was_read_and_exits_0(folder: Folder) -> None:
    data = pcap([bytes(frame) for frame in [*dns(), *http("/")]])
    summary = folder.summary(folder.capture(data[:-1]))
    assert "cut off inside a packet" in summary["ending"]["reason"]
    assert summary["packets"] == 12
    assert {each["protocol"] for each in summary["protocols"]} == {"HTTP", "DNS"}


def test_a_pcapng_without_packets_names_its_end(folder: Folder) -> None:
    summary = folder.summary(folder.capture(section() + bytes(5), "test.pcapng"))
    assert summary["ending"]["reason"] == "cut off inside a block's header"
    assert "holds no packet" in summary["whyNoProtocols"]


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"hello, world, this is text", "neither pcap nor pcapng")]
)
def test_a_file_that_is_no_capture_exits_2_with_a_remedy(folder: Folder, content: bytes, words: str) -> None:
    result = folder.replay(folder.capture(content))
    assert result.exit_code == 2
    assert words in result.stderr
    assert "next: " in result.stderr


def test_a_missing_file_and_a_folder_exit_2(folder: Folder) -> None:
    assert "No such file" in folder.replay(str(folder.path / "none.pcap")).stderr
    result = folder.replay(str(folder.path))
    assert result.exit_code == 2
    assert "is a folder" in result.stderr


def test_events_on_stdout_leave_the_summary_to_stderr(folder: Folder) -> None:
    result = folder.replay(folder.capture(dns()), "--eve", "-", "-o", "json")
    assert result.exit_code == 0
    kinds = [json.loads(line)["event_type"] for line in result.stdout.splitlines()]
    assert kinds[-1] == "stats"
    assert json.loads(result.stderr)["packets"] == 2


def test_events_that_cannot_be_written_are_refused_before_anything_is_read(folder: Folder) -> None:
    result = folder.replay(folder.capture(dns()), "--eve", str(folder.path / "no" / "eve.json"))
    assert result.exit_code == 2
    assert "cannot be written: No such file" in result.stderr


def test_a_wrong_sniffer_is_told_with_its_field(folder: Folder) -> None:
    result = folder.replay(folder.capture(dns()), "-f", folder.sniffer(SNIFFER.replace("ports: [80]", "ports: [0]")))
    assert result.exit_code == 2
    assert "sniff[0].destination.ports[0]" in result.stderr


def test_one_of_several_sniffers_must_be_chosen(folder: Folder) -> None:
    other = SNIFFER.replace("name: edge", "name: other")
    both = folder.sniffer(f"{SNIFFER}\n---\n{other}")
    capture = folder.capture(dns())
    result = folder.replay(capture, "-f", both)
    assert result.exit_code == 2
    assert "choose one with --sniffer: shop/edge, shop/other" in result.stderr
    assert folder.summary(capture, "-f", both, "--sniffer", "other")["vnf"] == "shop/other"
    assert "there is no DpiSniffer none" in folder.replay(capture, "-f", both, "--sniffer", "none").stderr


def test_refused_signatures_are_counted_and_the_others_work(folder: Folder) -> None:
    text = SNIFFER.replace(
        "      alert http", "      alert http any any -> any any (nonsense; sid:2;)\n      alert http"
    )
    summary = folder.summary(folder.capture(http("/etc/passwd")), "-f", folder.sniffer(text))
    assert summary["signatures"] == {"loaded": 1, "refused": 1}
    assert len(summary["alerts"]) == 1
