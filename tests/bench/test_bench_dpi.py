"""The sniffing benchmark's parts: its traffic is valid, and what the engine is compared with finds what is there."""

from __future__ import annotations

import io
import random
import shutil
import struct
import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from sluicegate_bench.dpi import rules, sending, suricata, transcripts
from sluicegate_bench.dpi.mix import Mix, build, frames_of
from sluicegate_bench.dpi.oracle import matches
from sluicegate_bench.dpi.reference import Reference, query_name, requests, server_name
from sluicegate_bench.dpi.rules import Matcher, Place
from sluicegate_bench.dpi.traffic import Side

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

SHARE = 0.01


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Mix:
    return build(tmp_path_factory.mktemp("mix") / "replay.pcap", SHARE)


@pytest.fixture(scope="module")
def sent(mix: Mix, tmp_path_factory: pytest.TempPathFactory) -> sending.Sent:
    return sending.send(mix, tmp_path_factory.mktemp("sent"))


def test_every_frame_has_valid_checksums_and_times_in_order(mix: Mix) -> None:
    last = packets = 0
    for time, frame in frames_of(mix.path):
        assert time >= last
        last = time
        packets += 1
        parsed = Ether(frame)
        sent = parsed[IP].chksum, parsed[TCP if TCP in parsed else UDP].chksum
        del parsed[IP].chksum, parsed[TCP if TCP in parsed else UDP].chksum
        again = Ether(bytes(parsed))
        assert sent == (again[IP].chksum, again[TCP if TCP in again else UDP].chksum)
    assert packets == mix.packets


def test_each_flow_belongs_to_the_part_that_made_it(mix: Mix) -> None:
    counted = dict.fromkeys((part.name for part in mix.parts), 0)
    for _, frame in frames_of(mix.path):
        addresses = sorted((frame[26:30], frame[30:34]))
        counted[mix.part_of(addresses[0]).name] += 1

    assert counted == {part.name: part.packets for part in mix.parts}


def test_names_of_tls_dns_and_http_are_read() -> None:
    hello = transcripts.tls(["a.example.net"])["a.example.net"][0]
    question, _ = transcripts.dns("www.example.com", random.Random(1))  # noqa: S311
    request = transcripts.http_request("www.example.org", "/a?b=1", "agent/1")

    assert hello[0] is Side.CLIENT
    assert server_name(hello[1]) == b"a.example.net"
    assert query_name(question) == b"www.example.com"
    assert list(requests(request)) == [(b"/a?b=1", b"www.example.org", b"agent/1")]


@pytest.mark.parametrize(
    ("place", "data", "index"),
    [
        (Place.URI, b"/x?f=/ETC/passwd", 0),
        (Place.URI, b"/gate3.php?id=12345&h=0123456789abcdef", 21),
        (Place.SNI, b"c2-0.malware.example", 50),
        (Place.STREAM, b"xx bot7-ping-0123abcd yy", 92),
        (Place.DATAGRAM, b"\0beacon-udp-omega", 99),
    ],
)
def test_a_rule_is_found_by_its_literal_and_expression(place: Place, data: bytes, index: int) -> None:
    assert rules.FIRST_SID + index in set(Matcher().matches(place, data, to_server=place is not Place.STREAM))


def test_all_hundred_rules_load(tmp_path: Path) -> None:
    with sending.engine(tmp_path) as opened:
        assert sorted(opened.signatures) == [rule.sid for rule in rules.rules()]
        assert len(opened.signatures) == 100


def test_engine_python_and_oracle_find_the_same(mix: Mix, sent: sending.Sent, tmp_path: Path) -> None:
    everything = sending.send(mix, tmp_path, everything=True)
    there = matches(mix)
    out = io.StringIO()
    python = Reference(out, classify=False)
    for ring in sent.rings:
        python.take(ring)
    python.finish()

    assert there
    assert there <= everything.findings.alerts
    found = {(*client, *server, protocol, sid) for client, server, protocol, sid in python.alerts}
    assert found == {(*key, sid) for key, sid in sent.findings.alerts}
    assert out.getvalue().count('"event_type": "flow"') == mix.flows
    assert sum(sent.sent_by_part.values()) == sent.records


def test_the_ring_holds_exactly_what_went_up(sent: sending.Sent) -> None:
    records = 0
    for content in sent.rings:
        at = 0
        while at < len(content):
            (length,) = struct.unpack_from("<I", content, at)
            at = (at + 8 + length + 7) & ~7
            records += 1

    assert records == sent.records


def test_suricata_is_asked_for_the_same_rules_and_its_start_does_not_count(
    tmp_path: Path, mix: Mix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in, which notes what it reads: the whole capture, and for the start one packet, as none is an error."""
    program = tmp_path / "suricata"
    program.write_text(
        f"""#!{sys.executable}
import os, pathlib, sys, yaml
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
settings = yaml.safe_load(pathlib.Path(given["-c"]).read_text())
assert settings["outputs"][0]["eve-log"]["enabled"]
assert pathlib.Path(given["-S"]).name == "bench.rules" and given["--runmode"] == "single" and given["-k"] == "none"
(pathlib.Path(given["-l"]) / "eve.json").touch()
with open({str(tmp_path / "read")!r}, "a") as read:
    print(os.path.getsize(given["-r"]), file=read)
"""
    )
    program.chmod(0o755)
    sending.document(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    found = suricata.find()

    assert found is not None
    found.seconds(mix.path, tmp_path / "bench.rules")
    whole, start = map(int, (tmp_path / "read").read_text().split())
    assert whole == mix.path.stat().st_size
    assert 24 + 16 < start < 24 + 16 + 1600
