"""``sluicegate replay`` when rules are bad or dear, or what it stands on is missing or another: the rest goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from test_replay_command import Folder, http
from test_rule_trial import FOREVER, needs_vectorscan

from sluicegate_agent.dpi import binding, engine, ndpi_provider
from sluicegate_agent.dpi.rules import load
from sluicegate_agent.dpi.rules.trial import ChildTries

pytestmark = needs_vectorscan

_GOOD = 'alert http any any -> any any (msg:"passwords"; content:"/etc/passwd"; sid:1;)'
_FOREVER = f'alert tcp any any -> any any (pcre:"/{FOREVER.decode()}/"; sid:2;)'


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def sniffer(folder: Folder, *rules: str) -> str:
    """A file with a DpiSniffer that has these rules, and another with the rules."""
    (folder.path / "own.rules").write_text("\n".join(rules))
    return folder.sniffer(
        "apiVersion: sluicegate.io/v1alpha1\nkind: DpiSniffer\nmetadata: {name: edge}\n"
        "spec: {signatures: {files: [own.rules]}}\n"
    )


def test_ten_thousand_bad_rules_of_ten_thousand_five_hundred_keep_no_good_one_from_matching(folder: Folder) -> None:
    bad = ('alert tcp any any -> any any (content:"x{0}"; frob; sid:{0};)', "alert nonsense {0}", "((((((( {0} ;;;;")
    rules = [bad[number % 3].format(number) for number in range(1000, 11_000)]
    good = [
        f'alert tcp any any -> any any (msg:"never {number}"; content:"never-{number}-seen"; sid:{number};)'
        for number in range(2, 501)
    ]
    summary = folder.summary(folder.capture(http("/etc/passwd")), "-f", sniffer(folder, *rules, *good, _GOOD))
    assert summary["signatures"] == {"loaded": 500, "refused": 10_000}
    assert [alert["signature"] for alert in summary["alerts"]] == ["passwords"]


def test_a_rule_that_takes_forever_is_left_out_and_the_others_match(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "ChildTries", partial(ChildTries, pattern_seconds=0.5))
    summary = folder.summary(folder.capture(http("/etc/passwd")), "-f", sniffer(folder, _FOREVER, _GOOD))
    assert summary["signatures"] == {"loaded": 1, "refused": 1}
    assert [alert["signature"] for alert in summary["alerts"]] == ["passwords"]


@pytest.mark.parametrize("how", ["version of the wheel", "revision of the library", "no wheel"])
def test_with_another_ndpi_or_none_signatures_match_and_the_summary_says_why_there_are_no_labels(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "version of the wheel":
        monkeypatch.setattr(ndpi_provider, "VERSION", "6.7.0")
    elif how == "no wheel":
        monkeypatch.setattr(ndpi_provider, "WHEEL", "no-such-wheel")
    else:
        monkeypatch.setattr(engine, "REVISION", "5.2")
    summary = folder.summary(folder.capture(http("/etc/passwd")), "-f", sniffer(folder, _GOOD))
    assert summary["classification"]["engine"] is None
    words = {
        "version of the wheel": "known is 6.7.0",
        "no wheel": "is not installed",
        "revision of the library": "known is 5.2",
    }
    assert words[how] in summary["classification"]["reason"]
    assert [alert["signature"] for alert in summary["alerts"]] == ["passwords"]
    assert [row["protocol"] for row in summary["protocols"]] == ["Unknown"]


def test_without_the_engine_it_says_what_builds_it(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "_native", None)
    for arguments in ((), ("-f", sniffer(folder, _GOOD))):
        told = folder.replay(folder.capture(http("/")), *arguments)
        assert told.exit_code == 2
        assert "make setup" in told.stderr
