"""The agent's side of the loader, against loaders that misbehave."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sluicegate_agent.kernel import native
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader import client
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.request import LoadRequest

REQUEST = LoadRequest(Path("/src"), Path("/pins"))


def pretend(monkeypatch: pytest.MonkeyPatch, directory: Path, script: str) -> None:
    """Put a shell script in the place of the loader."""
    path = directory / "loader"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_the_loaders_own_error_reaches_the_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = json.dumps({"message": "no headers", "remedy": "make setup"})
    pretend(monkeypatch, tmp_path, f"cat > /dev/null; echo '{answer}'; exit 1")
    with pytest.raises(LoaderError) as caught:
        client.load(REQUEST, progress=lambda _: None)
    assert (caught.value.message, caught.value.remedy) == ("no headers", "make setup")


def test_a_loader_that_dies_is_reported_with_its_last_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "cat > /dev/null; seq 50 >&2; exit 3")
    shown: list[str] = []
    with pytest.raises(LoaderError, match=r"exit code 3\)\n31\n32\n[\d\n]+50$"):
        client.load(REQUEST, progress=shown.append)
    assert len(shown) == 50


def test_a_warning_of_the_loader_is_logged_as_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, tmp_path, "cat > /dev/null; echo 'compiling' >&2; echo 'warning: mind that' >&2; exit 3")
    shown: list[str] = []
    with pytest.raises(LoaderError, match="warning: mind that"):
        client.load(REQUEST, progress=shown.append)
    assert shown == ["compiling"]
    assert [(row.levelname, row.message) for row in caplog.records] == [("WARNING", "the loader warns: mind that")]


def test_a_loader_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, tmp_path, "exec sleep 60")
    with pytest.raises(LoaderError, match="killed after 0 s"):
        client.load(REQUEST, progress=lambda _: None, timeout=0.05)


def test_a_missing_libbpf_is_named_with_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LIBRARY", "libbpf.so.does-not-exist")
    native.library.cache_clear()
    try:
        with pytest.raises(KernelError, match="apt-get install libbpf1"):
            native.library()
    finally:
        native.library.cache_clear()
