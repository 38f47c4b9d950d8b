"""``sluicegate rules``: outcomes as a table and as data, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from test_rule_matching import needs_vectorscan
from typer.testing import CliRunner

from sluicegate_agent.cli.main import app
from sluicegate_agent.dpi.rules import trial
from sluicegate_agent.dpi.rules.vectorscan import NoVectorscanError

GOOD = 'alert tcp any any -> $HOME_NET any (msg:"one [b]"; content:"a"; sid:1;)'
BAD = 'alert tcp any any -> any any (msg:"two"; pcre:"/a(?=b)/"; sid:2;)'
HEAD = {"apiVersion": "sluicegate.io/v1alpha1", "kind": "DpiSniffer"}


def sniffer(folder: Path, *rules: str, name: str = "edge") -> None:
    spec = {"signatures": {"inline": "\n".join(rules)}, "variables": {"HOME_NET": "[10.0.0.0/8]"}}
    document = {**HEAD, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def run(folder: Path, words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["rules", *words.split(), "-f", str(folder)])
    return result.exit_code, result.stdout, result.stderr


@needs_vectorscan
def test_all_in_force_is_0_and_nothing_failed(tmp_path: Path) -> None:
    sniffer(tmp_path, GOOD)
    code, out, err = run(tmp_path, "list")
    assert (code, err) == (0, "shop/edge: 1 loaded\n")
    assert out.splitlines()[1].split()[:2] == ["loaded", "1"]
    assert "one [b]" in out
    assert run(tmp_path, "failed") == (0, "", "shop/edge: 1 loaded\n")


@needs_vectorscan
def test_a_rule_not_in_force_is_1_and_listed_with_its_reason(tmp_path: Path) -> None:
    sniffer(tmp_path, GOOD, BAD)
    code, out, err = run(tmp_path, "failed -o json")
    assert code == 1
    assert err == ""
    found = json.loads(out)
    assert found["ok"] is False
    assert [(row["sid"], row["line"], row["state"], row["option"]) for row in found["rules"]] == [
        (2, 2, "refused", "pcre")
    ]
    code, out, _ = run(tmp_path, "list -o jsonl")
    assert code == 1
    assert [json.loads(line)["sid"] for line in out.splitlines()] == [1, 2]
    code, out, _ = run(tmp_path, "list -o yaml")
    assert [row["state"] for row in yaml.safe_load(out)["rules"]] == ["loaded", "refused"]


@needs_vectorscan
def test_of_several_sniffers_one_can_be_chosen(tmp_path: Path) -> None:
    sniffer(tmp_path, GOOD)
    sniffer(tmp_path, BAD, name="inner")
    assert run(tmp_path, "list")[0] == 1
    assert run(tmp_path, "list --sniffer edge")[0] == 0
    code, _, err = run(tmp_path, "list --sniffer other")
    assert code == 2
    assert "there are shop/edge, shop/inner" in err


def test_files_without_a_sniffer_or_with_errors_are_2(tmp_path: Path) -> None:
    assert run(tmp_path, "list")[0] == 2
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({**HEAD, "metadata": {"name": "x"}, "spec": {"nope": 1}}))
    code, _, err = run(tmp_path, "list")
    assert code == 2
    assert "nope" in err
    assert run(tmp_path, "everything")[0] == 2


def test_without_vectorscan_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NoVectorscanError("libhs.so.5 cannot be loaded")

    monkeypatch.setattr(trial, "library", missing)
    sniffer(tmp_path, GOOD)
    code, _, err = run(tmp_path, "list")
    assert code == 1
    assert "apt-get install libvectorscan5" in err
