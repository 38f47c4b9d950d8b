"""The reference is what the code says, and says all of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

from sluicegate_agent.cli.main import COMMANDS, app
from sluicegate_agent.loader.request import bpf_sources
from sluicegate_agent.loader.sources import reasons
from sluicegate_agent.reference import __main__ as reference
from sluicegate_agent.reference import conditions, settings
from sluicegate_agent.reference.markdown import literally, table
from sluicegate_agent.reference.messages import messages
from sluicegate_agent.reference.pages import PAGES
from sluicegate_agent.reports import conditions as conditions_code
from sluicegate_agent.reports import sniffer_conditions
from sluicegate_agent.reports.metrics.catalogue import DEFINITIONS
from sluicegate_agent.settings import AgentSettings
from sluicegate_api.common import ApiModel
from sluicegate_api.dpisniffer import DpiSnifferSpec
from sluicegate_api.loadbalancer import LoadBalancerSpec

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    written = (REFERENCE / name).read_text(encoding="utf-8") if (REFERENCE / name).exists() else ""
    assert written == PAGES[name](), f"docs/reference/{name} is not what the code says: run make docs"


def test_the_folder_holds_these_pages_alone() -> None:
    assert sorted(path.name for path in REFERENCE.iterdir() if path.is_file()) == sorted(PAGES)


def test_the_command_writes_all_pages(tmp_path: Path) -> None:
    assert reference.main([str(tmp_path / "new")]) == 0
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()} == {
        name: page() for name, page in PAGES.items()
    }


def test_two_folders_are_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "usage" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(name: str) -> None:
    cells = 0
    for line in PAGES[name]().splitlines():
        present = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and present and cells != present), line
        cells = present


def test_every_metric_reason_command_and_setting_is_there() -> None:
    assert all(f"`{each.name}`" in PAGES["metrics.md"]() for each in DEFINITIONS)
    assert all(f"| `{each.name.lower()}` |" in PAGES["reasons.md"]() for each in reasons(bpf_sources()))
    assert all(f"## sluicegate {name}\n" in PAGES["cli.md"]() for name in COMMANDS)
    assert all(f"`SLUICEGATE_{name.upper()}`" in PAGES["settings.md"]() for name in AgentSettings.model_fields)


def test_every_option_of_a_command_is_there() -> None:
    group = get_command(app)
    text = PAGES["cli.md"]()
    for name in COMMANDS:
        section = text.split(f"## sluicegate {name}\n")[1].split("\n## ")[0]
        _, command, _ = group.resolve_command(None, [name])  # type: ignore[attr-defined]
        shown = [max(each.opts, key=len) for each in command.params if not getattr(each, "hidden", False)]
        assert shown
        assert [option for option in shown if option.startswith("--") and option not in section] == []


@pytest.mark.parametrize(("name", "spec"), [("loadbalancer.md", LoadBalancerSpec), ("dpisniffer.md", DpiSnifferSpec)])
def test_every_field_of_the_spec_is_there(name: str, spec: type[ApiModel]) -> None:
    text = PAGES[name]()
    for attribute, field in spec.model_fields.items():
        assert re.search(rf"\| `spec\.{field.alias or attribute}(\[\])?` \|", text), attribute


def test_a_field_comes_with_its_type_default_and_limits() -> None:
    assert "| `spec.backends.static[].weight` | integer | `100` | 0 to 1000 |" in PAGES["loadbalancer.md"]()
    assert "| `spec.budget.maxPackets` | integer | `24` | 1 to 65535 |" in PAGES["dpisniffer.md"]()


def refused(name: str) -> str:
    return PAGES[name]().split("## Not yet")[1].split("\n## ")[0]


def test_what_is_refused_for_now_is_said() -> None:
    balancers, sniffers = refused("loadbalancer.md"), refused("dpisniffer.md")
    assert "| `spec.nodeSelector` | any |" in balancers
    assert "| `spec.forwarding.mode` | `Tunnel` |" in balancers
    assert "| `spec.attach.podSelector` | any |" in sniffers
    assert "| `spec.actions[].action` | `Capture`, `Widen` |" in sniffers
    assert "spec.attach" not in balancers
    assert "spec.forwarding" not in sniffers


def test_every_setting_has_a_meaning_and_none_is_left_over() -> None:
    described = {name for name, field in AgentSettings.model_fields.items() if field.description}
    assert settings.MEANINGS.keys() | described == AgentSettings.model_fields.keys()
    assert not settings.MEANINGS.keys() & described


def test_every_reason_of_a_condition_is_explained_and_none_is_left_over() -> None:
    words = {
        node.value
        for module in (conditions_code, sniffer_conditions)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    reasons_in_code = {word for word in words if re.fullmatch(r"([A-Z][a-z]+)+", word)}
    assert {row.reason for row in conditions.ROWS} == reasons_in_code


def test_messages_are_found_in_logs_and_narration() -> None:
    texts = {(each.level, each.text) for each in messages()}
    assert ("info", "the agent ends; its programs go on forwarding") in texts
    assert ("info", "VIP … is balanced") in texts
    assert ("error", "a step broke") in texts


def test_bars_and_line_breaks_do_not_break_a_table() -> None:
    assert table(("a", "b"), [("x | y", "two\nlines")]) == "| a | b |\n| --- | --- |\n| x \\| y | two lines |"
    assert table(("a",), []) == ""


def test_prose_shows_its_marks_and_keeps_names_readable() -> None:
    assert literally("a *.yaml, <str>, SLUICEGATE_FLOWS, _x_, [a](b)") == (
        r"a \*.yaml, \<str>, SLUICEGATE_FLOWS, \_x\_, [a\](b)"
    )
