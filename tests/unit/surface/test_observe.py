"""``sluicegate observe`` against a hub with events, over a real control socket."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sluicegate_agent.cli.main import app
from sluicegate_agent.cli.observe import ObserveFormat, _show
from sluicegate_agent.cli.observe_filters import Filters
from sluicegate_agent.cli.observe_lines import compact, octets_text, printable
from sluicegate_agent.control.client import AgentUnreachableError, stream
from sluicegate_agent.control.protocol import Request
from sluicegate_agent.control.server import ControlServer
from sluicegate_agent.dpi.events.hub import EventHub, SnifferEvents
from sluicegate_agent.dpi.events.observing import MOST_OBSERVERS, Observing

SNIFFERS = {1: SnifferEvents("shop/edge"), 2: SnifferEvents("shop/inner")}


def line(number: int = 0, **fields: Any) -> bytes:
    event = {
        "timestamp": "2026-01-31T10:00:00.123456+0000",
        "flow_id": number,
        "event_type": "flow",
        "vnf": "shop/edge",
        "node": "node-1",
        "host": "node-1",
        "in_iface": "eth0",
        "src_ip": "10.0.0.1",
        "src_port": 40_000 + number,
        "dest_ip": "192.0.2.1",
        "dest_port": 443,
        "proto": "TCP",
        "app_proto": "tls",
        "flow": {
            "pkts_toserver": 7,
            "pkts_toclient": 9,
            "bytes_toserver": 900,
            "bytes_toclient": 12_345_678,
            "state": "closed",
            "alerted": False,
        },
        "sniffing": {"records": 5, "state": "stop", "reason": "classified"},
        "ndpi": {"proto": "TLS.Google", "hostname": "www.google.com"},
    }
    return json.dumps({**event, **fields}, separators=(",", ":")).encode() + b"\n"


ALERT = {
    "event_type": "alert",
    "dest_port": 80,
    "app_proto": "http",
    "ndpi": {"proto": "HTTP"},
    "alert": {"action": "blocked", "signature_id": 1_000_001, "signature": "probe", "severity": 2},
}


class Observed:
    """An agent that has a hub and nothing else."""

    def __init__(self, path: Path, hub: EventHub) -> None:
        self.path = path
        self.hub = hub

    def call(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["observe", *arguments, "--socket", str(self.path)])

    def shown(self, *arguments: str) -> list[int]:
        """The numbers of the flows that it shows."""
        result = self.call(*arguments, "-o", "json")
        assert result.exit_code == 0, result.output
        return [json.loads(each)["flow_id"] for each in result.stdout.splitlines()]


@contextmanager
def observed(folder: Path, silence: Callable[[str], str] = lambda _: "") -> Iterator[Observed]:
    agent = Observed(folder / "host.sock", EventHub())
    agent.hub.configure(SNIFFERS)
    started, ends = threading.Event(), []

    async def serve() -> None:
        end = asyncio.Event()
        ends.append((asyncio.get_running_loop(), end))
        async with ControlServer(agent.path, {}, {"observe": Observing(agent.hub, silence).observe}):
            started.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(30)
        yield agent
    finally:
        loop, end = ends[0]
        loop.call_soon_threadsafe(end.set)
        thread.join()
        agent.hub.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Observed]:
    with observed(tmp_path) as found:
        yield found


def test_a_flow_is_one_line(agent: Observed) -> None:
    agent.hub.publish(1, "flow", [line()])
    result = agent.call("flows")
    assert result.exit_code == 0
    assert re.sub(r"^\d\d:\d\d:", "", result.stdout) == (
        "00.123 shop/edge eth0 TCP 10.0.0.1:40000 -> 192.0.2.1:443 TLS.Google www.google.com: "
        "7/9 packets, 900 B/12.3 MB, closed; 5 sent up, stop (classified)\n"
    )


def test_an_alert_is_one_line(agent: Observed) -> None:
    agent.hub.publish(1, "alert", [line(**ALERT)])
    agent.hub.publish(1, "flow", [line()])
    assert agent.call("alerts").stdout.endswith(
        " 10.0.0.1:40000 -> 192.0.2.1:80 HTTP: probe (sid 1000001, severity 2) BLOCKED\n"
    )


def test_json_is_what_came(agent: Observed) -> None:
    agent.hub.publish(1, "flow", [line(1), line(2)])
    assert agent.call("flows", "-o", "json").stdout_bytes == line(1) + line(2)


def test_the_last_twenty_are_shown_unless_more_are_asked_for(agent: Observed) -> None:
    agent.hub.publish(1, "flow", [line(number) for number in range(50)])
    assert agent.shown("flows") == list(range(30, 50))
    assert agent.shown("flows", "-n", "3") == [47, 48, 49]
    assert agent.shown("flows", "-n", "0") == []
    assert agent.shown("flows", "--since", "1h") == list(range(50))
    assert agent.shown("flows", "--since", "1h", "--last", "2") == [48, 49]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (("--protocol", "tls"), [0, 2]),
        (("--protocol", "TCP"), [0, 1, 2]),
        (("--protocol", "google"), [0, 2]),
        (("--protocol", "TLS.Google"), [0, 2]),
        (("--protocol", "http", "--protocol", "dns"), [1, 3]),
        (("--not", "--protocol", "udp"), [0, 1, 2]),
        (("--not", "--protocol=udp", "--not", "--protocol", "http"), [0, 2]),
        (("--protocol", "tcp", "--not", "--port", "443"), [1]),
        (("--ip", "10.0.0.1"), [0, 1, 3]),
        (("--ip", "fd00::/16"), [2]),
        (("--ip", "192.0.2.0/24", "--ip", "fd00::1"), [0, 1, 2, 3]),
        (("--port", "53"), [3]),
        (("--sniffer", "inner"), [3]),
        (("--sniffer", "shop/edge"), [0, 1, 2]),
        (("--not", "--sniffer", "edge"), [3]),
    ],
)
def test_filters_choose(agent: Observed, words: tuple[str, ...], numbers: list[int]) -> None:
    http = {"app_proto": "http", "dest_port": 80, "ndpi": {"proto": "HTTP"}}
    dns = {"proto": "UDP", "app_proto": "dns", "dest_port": 53, "ndpi": {"proto": "DNS"}, "vnf": "shop/inner"}
    v6 = {"src_ip": "fd00::1", "dest_ip": "fd00::2"}
    agent.hub.publish(1, "flow", [line(0), line(1, **http), line(2, **v6), line(3, **dns)])
    assert agent.shown("flows", *words) == numbers


def test_filters_count_before_the_last_are_taken(agent: Observed) -> None:
    agent.hub.publish(1, "flow", [line(number, dest_port=number % 2) for number in range(100)])
    assert agent.shown("flows", "--port", "1", "-n", "2") == [97, 99]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("flows", "--not"), "--not needs a filter right behind it"),
        (("flows", "--not", "--since", "5m"), "--not needs a filter right behind it"),
        (("flows", "--ip", "somewhere"), "write 10.1.0.2 or 10.1.0.0/16"),
        (("flows", "--not", "--ip", "somewhere"), "write 10.1.0.2 or 10.1.0.0/16"),
        (("flows", "--port", "http"), "is no number from 0 to 65535"),
        (("flows", "--since", "yesterday"), "--since: 'yesterday' is no duration"),
        (("flows", "--sniffer", "outer"), "there is no DpiSniffer outer in force"),
        (("packets",), "packets"),
    ],
)
def test_wrong_use_is_told(agent: Observed, words: tuple[str, ...], message: str) -> None:
    result = agent.call(*words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_every_empty_view_has_its_reason(tmp_path: Path) -> None:
    reasons = {"flows": "", "alerts": "no signature of shop/edge and shop/inner is loaded"}
    with observed(tmp_path, reasons.__getitem__) as agent:
        assert "no flow has ended since the agent started" in agent.call("flows").stderr
        assert "no signature of shop/edge and shop/inner is loaded" in agent.call("alerts").stderr
        agent.hub.publish(1, "flow", [line()])
        assert "none of 1 flows fits the filters" in agent.call("flows", "--port", "1").stderr
        assert agent.call("flows").stderr == ""
        agent.hub.configure({})
        assert "no DpiSniffer is in force" in agent.call("alerts").stderr


def test_no_event_within_the_time_is_told(agent: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate_agent.dpi.events.hub.time.time_ns", lambda: 1)
    agent.hub.publish(1, "flow", [line()])
    monkeypatch.undo()
    assert "none of the 1 flows that are kept came in the last 5m" in agent.call("flows", "--since", "5m").stderr


def test_following_shows_what_comes_until_the_agent_ends(tmp_path: Path) -> None:
    with observed(tmp_path) as agent:
        agent.hub.publish(1, "flow", [line(1), line(2)])
        results: list[Result] = []
        following = threading.Thread(
            target=lambda: results.append(agent.call("flows", "-f", "-n", "1", "-o", "json", "--not", "--port", "1"))
        )
        with stream(agent.path, Request("observe", {"what": "flows", "follow": "true"})) as (_, lines):
            assert [next(lines), next(lines)] == [line(1), line(2)]
            assert b"backlog" in next(lines)
            following.start()
            wait_for_observers(agent, 2)
            agent.hub.publish(1, "flow", [line(3), line(4, dest_port=1)])
            agent.hub.publish(1, "flow", [line(5)])
            assert [next(lines) for _ in range(3)] == [line(3), line(4, dest_port=1), line(5)]
        wait_for_observers(agent, 1)
        agent.hub.close()
        following.join(30)
    (result,) = results
    assert result.exit_code == 3
    assert [json.loads(each)["flow_id"] for each in result.stdout.splitlines()] == [2, 3, 5]
    assert "the stream is over: the agent ends" in result.stderr


def wait_for_observers(agent: Observed, count: int) -> None:
    pause = threading.Event()
    while agent.hub.stats().observers != count:
        pause.wait(0.001)


def test_too_many_observers_are_refused(agent: Observed) -> None:
    readers = [agent.hub.recent["flow"].reader() for _ in range(MOST_OBSERVERS)]
    result = agent.call("flows")
    assert result.exit_code == 1
    assert "16 others observe flows already" in result.stderr
    for reader in readers:
        reader.close()
    assert agent.call("flows").exit_code == 0


def test_what_a_slow_reader_missed_is_told(agent: Observed, capsys: pytest.CaptureFixture[str]) -> None:
    many = [line(number, ndpi={"proto": "TLS", "hostname": "x" * 4000}) for number in range(4000)]
    found: list[Mapping[str, Any]] = []
    with stream(agent.path, Request("observe", {"what": "flows", "follow": "true"})) as (head, lines):
        assert b"backlog" in next(lines)
        agent.hub.publish(1, "flow", many)  # twice as much as is kept
        agent.hub.close()
        filters = Filters.parse({}, {})
        with pytest.raises(AgentUnreachableError):
            _show({**head, "since": None}, tee(lines, found), filters, ObserveFormat.COMPACT, 0)
    (missed,) = [each["stream"]["missed"] for each in found if "missed" in each.get("stream", {})]
    assert missed == agent.hub.stats().unread > 1000
    assert [each["flow_id"] for each in found if "flow_id" in each] == list(range(missed, 4000))
    assert f"{missed} events came and went unread: this reader is too slow" in capsys.readouterr().err


def tee(lines: Iterator[bytes], found: list[Mapping[str, Any]]) -> Iterator[bytes]:
    for each in lines:
        found.append(json.loads(each))
        yield each


def test_without_an_agent_the_exit_code_is_three(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["observe", "flows", "--socket", str(tmp_path / "none.sock")])
    assert result.exit_code == 3
    assert "sluicegate run" in result.stderr


def test_names_out_of_packets_cannot_command_the_terminal() -> None:
    hostile = json.loads(line(ndpi={"proto": "HTTP", "hostname": "\x1b[2J\u202eexample\n"}))
    text = compact(hostile)
    assert "HTTP \\x1b[2J\\u202eexample\\n: 7/9 packets" in text
    assert text.isprintable()
    assert printable("Zürich") == "Zürich"


def test_sizes_are_short() -> None:
    assert [octets_text(count) for count in (0, 999, 1000, 12_345, 123_456, 10**15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12.3 kB",
        "123 kB",
        "1000 TB",
    ]
