"""Rules for an application on packets of that application: nDPI's label must get to the rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from app_talks import TALKS, UDP_NUMBER, AppTalk
from captures import pcap
from engine_rig import ndpi
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from typer.testing import CliRunner

from sluicegate_agent.cli.main import app
from sluicegate_agent.dpi.engine import Engine, available
from sluicegate_agent.dpi.engine_tables import engine_tables
from sluicegate_agent.dpi.labels import ENCRYPTED, NDPI_NAMES
from sluicegate_agent.dpi.rules.keywords import PROTOCOLS
from sluicegate_agent.dpi.rules.model import App

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))

ENDS = ("10.0.0.1", "192.0.2.80")
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
SNIFFER = """
apiVersion: sluicegate.io/v1alpha1
kind: DpiSniffer
metadata: {name: edge}
spec:
  signatures:
    inline: |
"""


def packets(talk: AppTalk) -> list[Packet]:
    """The packets of a flow, a handshake first where there is one."""
    found: list[Packet] = []
    position = [1000, 5000]

    def put(way: int, payload: bytes = b"", flags: str = "PA") -> None:
        ports = (talk.port, 40000) if way else (40000, talk.port)
        if talk.l4 == UDP_NUMBER:
            header = UDP(sport=ports[0], dport=ports[1])
        else:
            header = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=position[way], ack=position[1 - way])
        around = Ether(src=MACS[way], dst=MACS[1 - way]) / IP(src=ENDS[way], dst=ENDS[1 - way])
        found.append(around / header / payload)
        position[way] += len(payload) + ("S" in flags)

    if talk.l4 != UDP_NUMBER:
        put(0, flags="S")
        put(1, flags="SA")
    for index, payload in enumerate(talk.says):
        if payload:
            put(index % 2, payload)
    return found


@pytest.mark.parametrize("protocol", TALKS)
def test_a_rule_for_an_application_matches_it_and_nothing_else(tmp_path: Path, protocol: str) -> None:
    sids = {name: 100 + index for index, name in enumerate(TALKS)}
    rules = "".join(f'      alert {name} any any -> any any (msg:"{name}"; sid:{sid};)\n' for name, sid in sids.items())
    (tmp_path / "sniffer.yaml").write_text(SNIFFER + rules, encoding="utf-8")
    (tmp_path / "test.pcap").write_bytes(pcap([bytes(packet) for packet in packets(TALKS[protocol])]))
    arguments = ["replay", str(tmp_path / "test.pcap"), "-f", str(tmp_path / "sniffer.yaml"), "-o", "json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert [alert["signature"] for alert in json.loads(result.stdout)["alerts"]] == [protocol]


def test_every_application_of_rules_has_a_label_and_ndpi_knows_all_of_them() -> None:
    assert set(NDPI_NAMES) == {application for _, application in PROTOCOLS.values()} - {App.ANY} == set(App) - {App.ANY}
    with Engine(ndpi=ndpi()) as engine:
        known = engine.protocols()
        tables = engine_tables(engine)
    names = [name for each in NDPI_NAMES.values() for name in each]
    assert [name for name in (*names, *ENCRYPTED) if name not in known] == []
    assert len(tables.app) == len(names)
    assert {tables.app[known[name]] for name in NDPI_NAMES[App.SMB]} == {App.SMB}
    assert tables.encrypted == {known[name] for name in ENCRYPTED}
