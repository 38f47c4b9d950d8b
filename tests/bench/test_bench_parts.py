"""The parts of `make bench` still run, one tiny round of every case to the report, whatever their figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
PARTS = [("packet", None), ("forwarding", "nft"), ("sniffing", "gcc"), ("dpi", "openssl")]


@pytest.mark.kernel
@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize(("part", "needs"), PARTS)
def test_a_tiny_round_runs_and_leaves_nothing(part: str, needs: str | None) -> None:
    if needs and not shutil.which(needs):
        pytest.skip(f"{needs} is not installed")
    paths = os.pathsep.join(str(TESTS / name) for name in ("bench", "dataplane"))
    command = [sys.executable, "-m", "sluicegate_bench", part, "--tiny"]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, words = process.communicate(timeout=400)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise

    assert process.returncode == 0, words
    assert "Targets" in out
    assert not list(Path("/sys/fs/bpf").glob(f"sgb-{process.pid}-*"))
    assert not list(Path("/run/netns").glob(f"sgb-{process.pid}-*"))
