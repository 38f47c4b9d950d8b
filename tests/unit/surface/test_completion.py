"""Names that the shell completes: asked of the agent, and nothing at all when there is none."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from answering_agent import answering_agent
from sniffing_moments import sniffer
from surface_moments import configured, document, moment

from sluicegate_agent.cli import complete
from sluicegate_agent.reports.situation import Situation


def two_namespaces() -> Situation:
    second = document(addresses=["203.0.113.20"]).replace("namespace: shop", "namespace: bank")
    third = document("dns", addresses=["2001:db8::10"], backends={"static": [{"address": "fd00::1"}]})
    return moment(configured(document(), second, third))


def context(path: Path) -> typer.Context:
    return cast("typer.Context", SimpleNamespace(params={"socket": path}))


def test_names_are_short_where_they_are_unique(tmp_path: Path) -> None:
    with answering_agent(tmp_path, two_namespaces()) as agent:
        here = context(agent.path)
        assert complete.targets(here, "") == ["lb/shop/web", "lb/bank/web", "lb/dns"]
        assert complete.targets(here, "lb/d") == ["lb/dns"]
        assert complete.balancers(here, "shop/d") == ["shop/dns"]
        assert complete.backends(here, "dns/") == ["dns/[fd00::1]:8080"]
        assert complete.backends(here, "bank/web/10.0.0.1") == ["bank/web/10.0.0.1:8080"]
        assert complete.endpoints(here, "10.") == ["10.0.0.1:8080", "10.0.0.2:8080"]
        assert complete.vips(here, "[") == ["[2001:db8::10]:80"]
        assert complete.vips(here, "x") == []


def test_sniffers_are_targets_too(tmp_path: Path) -> None:
    with answering_agent(tmp_path, moment(configured(document(), sniffer(), sniffer("also")))) as agent:
        here = context(agent.path)
        assert complete.targets(here, "") == ["lb/web", "dpi/edge", "dpi/also"]
        assert complete.targets(here, "dpi/shop/e") == ["dpi/shop/edge"]


def test_without_an_agent_there_is_nothing_to_complete_and_no_word_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = context(tmp_path / "gone.sock")
    names = (complete.targets, complete.balancers, complete.backends, complete.endpoints, complete.vips)
    assert [complete_names(here, "") for complete_names in names] == [[]] * 5
    assert capsys.readouterr() == ("", "")


def test_namespaces_are_those_with_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "SOCKET_DIRECTORY", tmp_path)
    for name in ("blue", "green", "host"):
        (tmp_path / f"{name}.sock").touch()
    assert complete.namespaces("") == ["blue", "green", "host"]
    assert complete.namespaces("g") == ["green"]
    monkeypatch.setattr(complete, "SOCKET_DIRECTORY", tmp_path / "none")
    assert complete.namespaces("") == []


def shell(words: str, path: Path) -> list[str]:
    """What bash would offer; the last word is the one to complete."""
    line = f"sluicegate {words}".split(" ")
    line[2:2] = ["--socket", str(path)] if len(line) > 2 else []
    done = subprocess.run(
        [sys.executable, "-c", "from sluicegate_agent.cli.main import main; main()"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={
            **os.environ,
            "_SLUICEGATE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_asks_the_command_line(tmp_path: Path) -> None:
    with answering_agent(tmp_path, two_namespaces()) as agent:
        assert shell("why lb/shop", agent.path) == ["lb/shop/web"]
        assert shell("drain dns/", agent.path) == ["dns/[fd00::1]:8080"]
        assert shell("flows --lb b", agent.path) == ["bank/web"]
        assert shell("flows --vip 203.0.113.2", agent.path) == ["203.0.113.20:80"]
        assert {"drain", "ready", "top"} <= set(shell("", agent.path))
        assert shell("top ", agent.path) == ["backends", "vips"]
    assert shell("drain dns/", agent.path) == []
