"""The command line: help, exit codes, and the forms of output."""

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from surface_moments import configured, document, moment
from typer.testing import CliRunner, Result

from sluicegate_agent.cli import remote
from sluicegate_agent.cli.main import COMMANDS, app
from sluicegate_agent.control.client import AgentUnreachableError, AmbiguousAgentError, CommandFailedError
from sluicegate_agent.control.protocol import JsonObject, Request, Response
from sluicegate_agent.datapath.protocol import Counters, Verdict
from sluicegate_agent.reports.checks import explanation
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.why import why
from sluicegate_agent.signals.model import Reading, Report
from sluicegate_agent.weights.model import Decision, Override

HEAVY = ("rich", "pydantic", "numpy", "yaml", "sluicegate_api", "prometheus_client", "asyncio")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def on_the_wire(answer: JsonObject) -> JsonObject:
    return Response.decode(Response(answer).encode()).result


def answering(monkeypatch: pytest.MonkeyPatch, answer: JsonObject | Exception) -> list[Request]:
    asked: list[Request] = []

    def ask(path: Path, request: Request) -> JsonObject:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def find_socket(netns: str | None, path: Path | None) -> Path:
        return path or Path("a.sock")

    monkeypatch.setattr(remote, "find_socket", find_socket)
    monkeypatch.setattr(remote, "ask", ask)
    return asked


@pytest.fixture
def ready() -> JsonObject:
    return on_the_wire(status(moment(configured(document()))).to_json())


@pytest.fixture
def impaired() -> JsonObject:
    down = {"10.0.0.1": "refused [hard]", "10.0.0.2": "no answer"}
    return on_the_wire(status(moment(configured(document(), "{"), down=down)).to_json())


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['sluicegate', '--help']\n"
        "from sluicegate_agent.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr.strip() == "[]"
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(name: str) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert name in result.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    assert call("fly").exit_code == 2


def test_status_of_a_healthy_agent_is_a_table_and_zero(monkeypatch: pytest.MonkeyPatch, ready: JsonObject) -> None:
    asked = answering(monkeypatch, ready)
    result = call("status")
    assert result.exit_code == 0
    assert asked == [Request("status")]
    for word in ("eth0", "shop/web", "203.0.113.10", "10.0.0.1:8080", "active", "2/2 backends"):
        assert word in result.stdout


def test_status_that_is_not_ready_is_one_and_says_why(monkeypatch: pytest.MonkeyPatch, impaired: JsonObject) -> None:
    answering(monkeypatch, impaired)
    result = call("status")
    assert result.exit_code == 1
    for word in ("not ready", "NoHealthyBackend", "refused [hard]", "problem: a.yaml"):
        assert word in result.stdout


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_status_can_be_read_by_programs(monkeypatch: pytest.MonkeyPatch, ready: JsonObject, form: str) -> None:
    answering(monkeypatch, ready)
    text = call("status", "-o", form).stdout
    assert (json.loads(text) if form == "json" else yaml.safe_load(text)) == ready


def test_an_agent_that_cannot_be_reached_is_three_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, AgentUnreachableError("no agent is running", "start one"))
    result = call("status")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "no agent is running" in result.stderr
    assert "start one" in result.stderr


def test_several_agents_are_a_usage_error_that_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def several(netns: str | None, path: Path | None) -> Path:
        raise AmbiguousAgentError("several agents run here; say which one:\n  --netns blue")

    monkeypatch.setattr(remote, "find_socket", several)
    result = call("status")
    assert result.exit_code == 2
    assert "--netns blue" in result.stderr


def test_why_answers_with_its_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = explanation(why(moment(configured(document())), "web"))
    asked = answering(monkeypatch, answer)
    result = call("why", "lb/shop/web")
    assert asked == [Request("why", {"target": "shop/web"})]
    assert result.exit_code == 1
    assert "FAIL  traffic: no packet for 203.0.113.10 TCP/80 was ever seen" in result.stdout
    assert json.loads(call("why", "lb/web", "-o", "json").stdout) == answer


def test_why_of_a_sniffer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, {"ok": True, "checks": []})
    assert call("why", "dpi/edge").exit_code == 0
    assert call("why", "sgdpi/shop/edge").exit_code == 0
    assert asked == [
        Request("why", {"target": "edge", "kind": "DpiSniffer"}),
        Request("why", {"target": "shop/edge", "kind": "DpiSniffer"}),
    ]
    assert call("why", "dpi/").exit_code == 2


def test_why_without_an_agent_is_its_first_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, AgentUnreachableError("no agent is running", "start one"))
    result = call("why", "lb/web", "-o", "json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "ok": False,
        "checks": [{"id": "agent", "ok": False, "message": "no agent is running", "next": "start one"}],
    }


def test_why_refuses_what_is_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, CommandFailedError("there is no load balancer nope"))
    assert call("why", "web").exit_code == 2
    result = call("why", "lb/nope")
    assert result.exit_code == 1
    assert "no load balancer nope" in result.stderr


def test_why_of_a_packet_sends_both_ends_and_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, {"ok": True, "checks": []})
    assert call("why", "10.0.0.7:40000", "203.0.113.10:80").exit_code == 0
    assert call("why", "[fd01::2]:40000", "[2001:db8::10]:53", "udp").exit_code == 0
    assert asked == [
        Request("why-packet", {"client": "10.0.0.7:40000", "vip": "203.0.113.10:80", "protocol": "tcp"}),
        Request("why-packet", {"client": "[fd01::2]:40000", "vip": "[2001:db8::10]:53", "protocol": "udp"}),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["10.0.0.7", "203.0.113.10:80"], "SRC:PORT: '10.0.0.7' has no port"),
        (["10.0.0.7:1", "2001:db8::10:80"], "with brackets"),
        (["10.0.0.7:1", "203.0.113.10:80", "icmp"], "tcp or udp"),
        (["10.0.0.7:1"], "why SRC:PORT VIP:PORT"),
        (["lb/web", "203.0.113.10:80"], "SRC:PORT"),
    ],
)
def test_why_of_half_a_packet_is_two_and_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    asked = answering(monkeypatch, {})
    result = call("why", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert asked == []


def test_the_help_of_why_says_what_the_made_up_packet_does() -> None:
    text = " ".join(call("why", "--help").stdout.replace("│", " ").split())
    for words in ("made-up packet", "Nothing is sent", "removed at once", "maxNewConnectionsPerSecond"):
        assert words in text


FLOWS: JsonObject = {
    "matched": 2000,
    "truncated": True,
    "note": "1 of 2000 flows that match are shown: raise --limit",
    "states": {"half-open": 3, "established": 1997, "closing": 0, "closed": 9},
    "flows": [
        {
            "protocol": "TCP",
            "client": {"address": "fd01::2", "port": 40000},
            "vip": {"address": "2001:db8::10", "port": 80},
            "loadBalancer": {"namespace": "shop", "name": "web", "port": "http"},
            "backend": {"address": "fd00::1", "port": 8080},
            "mode": "FullNAT",
            "source": {"address": "fd00::fe", "port": 3000},
            "state": "established",
            "idleSeconds": 3.2,
            "expiresInSeconds": 296.8,
        }
    ],
}


def test_flows_are_a_table_that_says_how_many_match(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, FLOWS)
    result = call("flows", "--vip", "[2001:db8::10]:80", "--limit", "1")
    assert result.exit_code == 0
    assert asked == [Request("flows", {"vip": "[2001:db8::10]:80", "limit": "1"})]
    for words in ("[fd01::2]:40000", "[2001:db8::10]:80/TCP", "shop/web http", "[fd00::1]:8080", "2000 flows match"):
        assert words in result.stdout
    assert "FullNAT" not in result.stdout
    assert "1 of 2000" in result.stderr
    wide = call("flows", "-o", "wide").stdout
    assert "FullNAT" in wide
    assert "[fd00::fe]:3000" in wide


def test_flows_can_be_read_by_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, FLOWS)
    assert json.loads(call("flows", "-o", "json").stdout) == FLOWS
    assert yaml.safe_load(call("flows", "-o", "yaml").stdout) == FLOWS
    lines = call("flows", "-o", "jsonl")
    assert [json.loads(line) for line in lines.stdout.splitlines()] == FLOWS["flows"]
    assert "1 of 2000" in lines.stderr


def test_a_flow_filter_that_cannot_be_understood_is_two_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, FLOWS)
    result = call("flows", "--state", "open")
    assert result.exit_code == 2
    assert "half-open, established, closing, closed" in result.stderr
    assert asked == []


def test_a_wide_status_adds_limits_programs_and_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    situation = moment(configured(document(allowedSources=["10.1.0.0/16"], maxNewConnectionsPerSecond=5)))
    drop = Verdict("xdp", "source_denied", "drop", "the client is not among the allowed sources", 9, 540)
    situation = replace(situation, counters=Counters(verdicts=(drop,)))
    answering(monkeypatch, on_the_wire(status(situation).to_json()))
    wide, narrow = call("status", "-o", "wide").stdout, call("status").stdout
    for words in ("xdp_main", "only from 10.1.0.0/16; at most 5 new flows per second", "source_denied"):
        assert words in wide
        assert words not in narrow
    assert "0 active flows, 0 of them half-open" in narrow


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "-f"),
        (["run", "-f", "/nonexistent/lb.yaml"], "/nonexistent/lb.yaml"),
        (["run", "-f", "x.yaml", "--metrics", "here"], "--metrics"),
        (["run", "-f", "x.yaml", "--nat-ports", "all"], "--nat-ports"),
        (["run", "-f", "x.yaml", "--log-format", "xml"], "--log-format"),
        (["check", "--netns", "sgt-does-not-exist"], "sgt-does-not-exist"),
    ],
)
def test_wrong_use_is_two_and_names_what_is_wrong(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from sluicegate_agent.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_socket_of_another_agent_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "blue.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
    result = call("status", "--socket", str(path))
    assert result.exit_code == 3
    assert str(path) in result.stderr


def test_a_status_shows_operators_words_and_in_the_wide_form_where_weights_come_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    situation = moment(configured(document()))
    key, other = sorted(situation.desired.backends)
    (service,) = (each.key for each in situation.desired.services)
    situation = replace(
        situation,
        overrides={key: Override(1_800_000_000.0, "ada")},
        decisions={other: Decision(40_000, reason="2.1 times slower than the pool's median")},
        readings={other: Reading(Report(utilization=0.5), time.monotonic() - 3.0, "10.0.0.2:9000 timed out", 3)},
        pool_notes={service: "overloaded: the guard is off"},
    )
    answering(monkeypatch, on_the_wire(status(situation).to_json()))
    wide, narrow = call("status", "-o", "wide").stdout, call("status").stdout
    for words in ("until 2027-01-15T08:00:00Z", "weights: IPv4: overloaded: the guard is off"):
        assert words in wide
        assert words in narrow
    for words in ("2.1 times slower than the pool's median; 10.0.0.2:9000 timed out", "3.0 s ago"):
        assert words in wide
        assert words not in narrow
