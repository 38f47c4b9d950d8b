"""``sluicegate validate`` and ``sluicegate crds`` as people and scripts use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from sluicegate_agent.cli.crds import crds
from sluicegate_agent.cli.validate import validate
from sluicegate_api.crd import crds_yaml

Manifest = Callable[..., dict[str, Any]]


@pytest.fixture
def run() -> Callable[..., tuple[int, str, str]]:
    app = typer.Typer()
    app.command()(validate)
    app.command()(crds)

    def call(*arguments: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return result.exit_code, result.stdout, result.stderr

    return call


Run = Callable[..., tuple[int, str, str]]


def test_good_files_print_nothing_but_a_summary(run: Run, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "lb.json").write_text(json.dumps(manifest()))
    assert run("validate", "-f", tmp_path) == (0, "", "1 usable object, 0 problems in 1 file\n")


def test_sniffers_are_usable_objects_too(run: Run, manifest: Manifest, sniffer: Manifest, tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(yaml.safe_dump_all([manifest(), sniffer()]))
    assert run("validate", "-f", tmp_path) == (0, "", "2 usable objects, 0 problems in 1 file\n")


def test_problems_of_all_files_are_lines_on_stdout(run: Run, manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(manifest(drainSeconds=-1)))
    (tmp_path / "b.yml").write_text("a: [")
    (tmp_path / "c.json").write_bytes(b'{"a": "\xff"}')
    (tmp_path / "notes.txt").write_text("not for us")
    code, out, _ = run("validate", "-f", tmp_path / "a.yaml", "-f", tmp_path / "b.yml", tmp_path / "c.json")
    assert code == 1
    by_file = {line.partition(": ")[0]: line for line in out.splitlines()}
    assert by_file.keys() == {str(tmp_path / name) for name in ("a.yaml", "b.yml", "c.json")}
    assert "LoadBalancer shop/web: spec.drainSeconds: must be at least 0, is -1" in by_file[str(tmp_path / "a.yaml")]
    assert "UTF-8" in by_file[str(tmp_path / "c.json")]


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_get_the_same_as_data(
    form: str, load: Callable[[str], Any], run: Run, manifest: Manifest, sniffer: Manifest, tmp_path: Path
) -> None:
    path = tmp_path / "lb.yaml"
    path.write_text(yaml.safe_dump_all([manifest(), manifest(name="api", ports=[]), sniffer()]))
    code, out, _ = run("validate", "-f", path, "-o", form)
    assert code == 1
    assert load(out) == {
        "ok": False,
        "loadbalancers": [{"file": str(path), "namespace": "shop", "name": "web"}],
        "sniffers": [{"file": str(path), "namespace": "shop", "name": "edge"}],
        "problems": [
            {
                "file": str(path),
                "object": "LoadBalancer shop/api",
                "path": "spec.ports",
                "reason": "must have at least one entry",
            }
        ],
    }


def test_no_file_is_a_mistake_of_use(run: Run, tmp_path: Path) -> None:
    code, out, err = run("validate", "-f", tmp_path / "nothing.yaml")
    assert (code, out) == (2, "")
    assert "nothing.yaml" in err
    assert run("validate", "-f", tmp_path)[0] == 2
    assert run("validate")[0] == 2


def test_crds_are_printed_as_yaml(run: Run) -> None:
    assert run("crds") == (0, crds_yaml(), "")
    assert [each["spec"]["names"]["kind"] for each in yaml.safe_load_all(crds_yaml())] == [
        "LoadBalancer",
        "DpiSniffer",
        "AddressPool",
        "NodeState",
        "ConfigSlice",
        "RuleBundle",
    ]


def test_one_definition_can_be_printed_alone(run: Run) -> None:
    code, out, _ = run("crds", "dpisniffer")
    assert code == 0
    assert yaml.safe_load(out)["metadata"]["name"] == "dpisniffers.sluicegate.io"
    assert run("crds", "service")[0] == 2
