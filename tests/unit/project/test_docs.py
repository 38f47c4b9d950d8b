"""What the pages show can be typed: YAML is valid, commands, options, variables, metrics, targets and links exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from sluicegate_agent.cli.main import COMMANDS, app
from sluicegate_agent.reports.metrics.catalogue import DEFINITIONS
from sluicegate_agent.settings import PREFIX, AgentSettings
from sluicegate_api.validation import validate_documents

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

SYSTEM = frozenset({"cd", "curl", "git", "ip", "make", "nc", "ping", "pip", "python3", "ss", "sudo", "sysctl", "tc"})
"""Commands of others that pages may show."""

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(path: Path, *languages: str) -> Iterator[str]:
    for _, language, text in BLOCK.findall(path.read_text(encoding="utf-8")):
        if language in languages:
            yield text


def prose(path: Path) -> str:
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def command_lines(path: Path) -> Iterator[list[str]]:
    """What is typed: lines after a prompt in blocks, and code in the prose that begins with our command or make."""
    for text in blocks(path, "console", "bash", "sh"):
        for line in text.splitlines():
            if line.startswith(("# ", "$ ")):
                for part in line[2:].partition("  #")[0].split("&&"):
                    yield shlex.split(part)
    for text in re.findall(r"`((?:sluicegate|make) [a-z][^`]*)`", prose(path)):
        yield text.split()


def options_of(name: str) -> set[str]:
    group: Any = get_command(app)
    _, command, _ = group.resolve_command(None, [name])
    return {option for each in command.params for option in each.opts} | {"--help"}


@page
def test_yaml_is_valid(path: Path) -> None:
    for text in blocks(path, "yaml"):
        assert yaml.safe_load(text)
        result = validate_documents([(path.name, text)])
        assert [str(problem) for problem in result.problems] == []
        assert result.loadbalancers or result.sniffers


@page
def test_commands_exist(path: Path) -> None:
    for typed in command_lines(path):
        words = typed[1:] if typed[0] == "sudo" else typed
        name = words[0].rpartition("/")[2]
        if name == "sluicegate":
            assert words[1] in COMMANDS, words
            given = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
            assert given <= options_of(words[1]), words
        elif name == "make":
            assert set(words[1:2]) <= TARGETS, words
        else:
            assert name in SYSTEM or "=" in name, words


@page
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, heading = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, target


@page
def test_variables_exist(path: Path) -> None:
    known = {f"{PREFIX}{name.upper()}" for name in AgentSettings.model_fields} | set(
        re.findall(rf"{PREFIX}[A-Z_]+", MAKEFILE)
    )
    assert set(re.findall(rf"{PREFIX}[A-Z][A-Z_]+[A-Z]", path.read_text(encoding="utf-8"))) <= known


@page
def test_metrics_exist(path: Path) -> None:
    known = {each.name for each in DEFINITIONS}
    packages = ("sluicegate_agent", "sluicegate_api", "sluicegate_bench", "sluicegate_operator", "sluicegate_kube")
    for name in set(re.findall(r"\bsluicegate_[a-z_]+", path.read_text(encoding="utf-8"))):
        if not name.startswith(packages):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in known, name


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [
        str(path.relative_to(ROOT / "docs"))
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.name != "README.md" and f"({path.relative_to(ROOT / 'docs')})" not in index
    ]
    assert missing == []
    assert "(docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
