"""The command line: help, exit codes, and the forms of output."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from surface_moments import configured, document, moment
from typer.testing import CliRunner, Result

from sluicegate_agent.cli import remote
from sluicegate_agent.cli.main import COMMANDS, app
from sluicegate_agent.control.client import AgentUnreachableError, AmbiguousAgentError, CommandFailedError
from sluicegate_agent.control.protocol import JsonObject, Request, Response
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.why import explanation, why

HEAVY = ("pydantic", "numpy", "yaml", "sluicegate_api", "prometheus_client", "asyncio")


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
