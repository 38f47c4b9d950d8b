"""The troubleshooting guide keeps up with what ``why`` answers."""

import re
from pathlib import Path

from sluicegate_agent.loader.request import bpf_sources
from sluicegate_agent.reports.checks import CheckId

GUIDE = (Path(__file__).parents[3] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `([a-z]+)`\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL))


def test_every_check_has_a_section_and_every_section_a_check() -> None:
    assert sorted(SECTIONS) == sorted(CheckId)


def test_every_section_says_what_it_means_and_what_to_do() -> None:
    for name, text in SECTIONS.items():
        assert "**Means.**" in text, name
        assert "**Do.**" in text, name


def test_every_reason_to_drop_or_pass_is_explained_under_packet() -> None:
    reasons = re.findall(r"REASON\((\w+), (\w+), ", (bpf_sources() / "reasons.h").read_text(encoding="utf-8"))
    assert reasons
    missing = [
        name.lower()
        for name, kind in reasons
        if kind in {"drop", "pass"} and f"`{name.lower()}`" not in SECTIONS["packet"]
    ]
    assert missing == []
