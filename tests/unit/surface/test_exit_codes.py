"""What scripts may rely on: 0 all is well, 1 something is not, 2 wrong use, 3 no agent answers. One table."""

import json
from pathlib import Path

import pytest
from answering_agent import answering_agent
from surface_moments import configured, document, moment
from typer.testing import CliRunner

from sluicegate_agent.cli.main import COMMANDS, app
from sluicegate_agent.cli.output import ExitCode

OK, NOT_HEALTHY, USAGE, UNREACHABLE = ExitCode
GOOD, BROKEN, NONE = "an agent that is well", "an agent whose backends fail", "no agent"

TABLE = [
    (GOOD, "status", OK),
    (GOOD, "status -o jsonl", OK),
    (BROKEN, "status", NOT_HEALTHY),
    (BROKEN, "status -o json", NOT_HEALTHY),
    (NONE, "status", UNREACHABLE),
    (GOOD, "status -o xml", USAGE),
    (GOOD, "why lb/web", NOT_HEALTHY),  # no packet was ever seen
    (GOOD, "why lb/nope", NOT_HEALTHY),
    (GOOD, "why web", USAGE),
    (GOOD, "why 10.0.0.7:1 203.0.113.10", USAGE),
    (NONE, "why lb/web", UNREACHABLE),
    (NONE, "why lb/web -o jsonl", UNREACHABLE),
    (GOOD, "why dpi/nope", NOT_HEALTHY),
    (NONE, "why dpi/edge", UNREACHABLE),
    (GOOD, "observe flows", OK),
    (GOOD, "observe alerts --since 10m", OK),
    (GOOD, "observe", USAGE),
    (GOOD, "observe flows --since soon", USAGE),
    (GOOD, "observe flows --sniffer nope", USAGE),
    (NONE, "observe flows -f", UNREACHABLE),
    (GOOD, "flows", OK),
    (GOOD, "flows --lb nope", NOT_HEALTHY),
    (GOOD, "flows --limit 0", USAGE),
    (NONE, "flows", UNREACHABLE),
    (GOOD, "top backends --once --interval 0.1", OK),
    (BROKEN, "top vips --once --interval 0.1", OK),
    (GOOD, "top", USAGE),
    (GOOD, "top vips --sort p99", USAGE),
    (NONE, "top backends --once", UNREACHABLE),
    (GOOD, "drain web/10.0.0.1", OK),
    (GOOD, "drain web/10.0.0.9", NOT_HEALTHY),
    (GOOD, "drain web", USAGE),
    (GOOD, "drain web/10.0.0.1 --ttl soon", USAGE),
    (NONE, "drain web/10.0.0.1", UNREACHABLE),
    (GOOD, "ready web/10.0.0.1", OK),
    (GOOD, "ready nope/10.0.0.1", NOT_HEALTHY),
    (GOOD, "ready web", USAGE),
    (NONE, "ready web/10.0.0.1", UNREACHABLE),
]
WITHOUT_AGENT = [
    ("validate -f good.yaml", OK),
    ("validate -f bad.yaml", NOT_HEALTHY),
    ("validate -f none.yaml", USAGE),
    ("explain -f good.yaml", OK),
    ("explain -f bad.yaml", NOT_HEALTHY),
    ("explain -f none.yaml", USAGE),
    ("explain", USAGE),
    ("rules list -f good.yaml", USAGE),  # it holds no DpiSniffer
    ("rules", USAGE),
    ("replay none.pcap --eve -", USAGE),
    ("run", USAGE),
    ("crds", OK),
    ("check --netns sgt-does-not-exist", USAGE),
    ("explain -f good.yaml --netns sgt-does-not-exist", USAGE),
    ("fly", USAGE),
]


@pytest.mark.parametrize(("agent", "words", "code"), TABLE)
def test_commands_that_ask_an_agent(tmp_path: Path, agent: str, words: str, code: ExitCode) -> None:
    arguments = words.split()
    if agent == NONE:
        result = CliRunner().invoke(app, [*arguments, "--socket", str(tmp_path / "none.sock")])
        assert "next" in result.stdout + result.stderr
    else:
        down = {"10.0.0.1": "refused", "10.0.0.2": "refused"} if agent == BROKEN else {}
        with answering_agent(tmp_path, moment(configured(document()), down=down)) as there:
            result = there.call(*arguments)
    assert result.exit_code == code
    if code in {USAGE, UNREACHABLE} and arguments[0] != "why":
        assert (result.stdout, bool(result.stderr)) == ("", True)


@pytest.mark.parametrize(("words", "code"), WITHOUT_AGENT)
def test_commands_that_need_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: ExitCode) -> None:
    (tmp_path / "good.yaml").write_text(document(), encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(document(colour="red"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, words.split()).exit_code == code


def test_every_command_is_in_the_table() -> None:
    told = {words.split()[0] for _, words, _ in TABLE} | {words.split()[0] for words, _ in WITHOUT_AGENT}
    assert COMMANDS.keys() - told <= {"demo"}


def test_rows_are_lines_for_programs(tmp_path: Path) -> None:
    with answering_agent(tmp_path, moment(configured(document()))) as agent:
        (balancer,) = map(json.loads, agent.call("status", "-o", "jsonl").stdout.splitlines())
        assert balancer["name"] == "web"
        checks = [json.loads(line) for line in agent.call("why", "lb/web", "-o", "jsonl").stdout.splitlines()]
        assert [check["id"] for check in checks][:2] == ["agent", "accepted"]


@pytest.mark.parametrize("command", ["status", "why lb/web", "top backends --once --interval 0.1"])
def test_colour_is_left_out_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """FORCE_COLOR stands in for a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with answering_agent(tmp_path, moment(configured(document()))) as agent:
        assert "\x1b[3" in agent.call(*command.split()).stdout
        monkeypatch.setenv("NO_COLOR", "1")
        assert "\x1b[3" not in agent.call(*command.split()).stdout
