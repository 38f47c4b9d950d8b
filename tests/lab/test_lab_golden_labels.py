"""What the sniffer calls the traffic of real clients, and how many of their packets it needs to see for that.

More records beside the same label are a regression of cost. Labels are those of nDPI 5.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from golden_talks import NAME, TALKS
from golden_wire import wire
from sluicegate_agent.cli.main import app

pytestmark = pytest.mark.lab


class Golden(NamedTuple):
    """Label, records that went up, how the flow was decided, and what its layer's event must say."""

    label: str
    records: int
    reason: str
    layer: Mapping[str, object] = MappingProxyType({})


_HOST = {"hostname": NAME, "status": 200}
_TLS13 = {"sni": NAME, "version": "TLSv1.3"}
_NAME = {"rrname": NAME, "rrtype": "A", "rcode": "NOERROR"}

GOLDEN = {
    "HTTP": Golden("HTTP", 4, "classified", _HOST),
    "HTTP by curl": Golden("HTTP", 4, "classified", _HOST),
    "TLS 1.2": Golden("TLS", 4, "encrypted", {"sni": NAME, "version": "TLSv1.2", "subject": f"CN={NAME}"}),
    "TLS 1.3": Golden("TLS", 4, "encrypted", _TLS13),
    "TLS by curl": Golden("TLS", 4, "encrypted", _TLS13),
    "TLS by openssl": Golden("TLS", 4, "encrypted", _TLS13),
    "QUIC": Golden("QUIC", 1, "encrypted", {"sni": NAME}),
    "DNS": Golden("DNS", 2, "classified", _NAME),
    "DNS over TCP": Golden("DNS", 4, "classified", _NAME),
    "SMTP": Golden("SMTP", 6, "classified"),
    "FTP": Golden("FTP_CONTROL", 7, "classified"),
    "IMAP": Golden("IMAP", 7, "classified"),
    "POP3": Golden("POP3", 6, "classified"),
    "MQTT": Golden("MQTT", 3, "classified"),
    "SSH": Golden("SSH", 7, "encrypted"),
    # Git's first line looks to nDPI like what a remote shell says first.
    "Git": Golden("RSH", 4, "classified"),
    "Syslog": Golden("Syslog", 1, "classified"),
}


def replayed(talk: str, files: Path, *arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the events of a conversation that is held now."""
    if missing := TALKS[talk].missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    capture, events = files / "talk.pcap", files / "eve.json"
    with wire() as cable:
        TALKS[talk].run(cable, files)
        cable.capture(capture)
    told = CliRunner().invoke(app, ["replay", str(capture), "--eve", str(events), "-o", "json", *arguments])
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout), [json.loads(line) for line in events.read_text().splitlines()]


@pytest.mark.parametrize("talk", GOLDEN)
def test_real_clients_get_their_label_for_as_few_records_as_before(talk: str, tmp_path: Path) -> None:
    golden = GOLDEN[talk]
    _, events = replayed(talk, tmp_path)
    flows = [event for event in events if event["event_type"] == "flow"]
    found = [(flow["ndpi"]["proto"], flow["sniffing"]["records"], flow["sniffing"]["reason"]) for flow in flows]
    assert found == [(golden.label, golden.records, golden.reason)]
    if golden.layer:
        (layer,) = [event[event["event_type"]] for event in events if event["event_type"] in {"tls", "http", "dns"}]
        assert {key: layer.get(key) for key in golden.layer} == golden.layer


_SNIFFER = """
apiVersion: sluicegate.io/v1alpha1
kind: DpiSniffer
metadata: {name: golden}
spec:
  signatures:
    inline: |
      alert http any any -> any any (msg:"passwords"; http.uri; content:"/etc/passwd"; sid:1000001;)
      alert tls any any -> any any (msg:"name"; tls.sni; content:"www.example.org"; sid:1000002;)
"""


@pytest.mark.parametrize(
    ("talk", "records", "reason", "alerts"),
    [
        ("HTTP, a request that a signature takes", 16, "budget", {"passwords"}),
        ("TLS 1.3", 4, "encrypted", {"name"}),
        ("SMTP", 6, "classified", set()),
    ],
)
def test_cleartext_that_a_signature_can_match_goes_up_longer_and_nothing_else_does(
    talk: str, records: int, reason: str, alerts: set[str], tmp_path: Path
) -> None:
    sniffer = tmp_path / "sniffer.yaml"
    sniffer.write_text(_SNIFFER)
    _, events = replayed(talk, tmp_path, "-f", str(sniffer))
    (flow,) = [event for event in events if event["event_type"] == "flow"]
    assert (flow["sniffing"]["records"], flow["sniffing"]["reason"]) == (records, reason)
    assert {event["alert"]["signature"] for event in events if event["event_type"] == "alert"} == alerts


def test_acknowledgements_stay_down_and_the_rest_of_a_download_passes_unseen(tmp_path: Path) -> None:
    summary, _ = replayed("HTTP", tmp_path)
    assert summary["sentUp"]["packets"] == GOLDEN["HTTP"].records
    assert summary["outcomes"]["empty"] >= 1
    assert summary["outcomes"]["stopped"] > 30
    assert sum(summary["outcomes"].values()) == summary["packets"]
