"""The benchmarks of tests/bench still run: one tiny round of every case, whatever its figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize(("part", "needs"), [("packet", None), ("forwarding", "nft")])
def test_every_case_runs_and_its_packets_go_the_way_they_should(part: str, needs: str | None) -> None:
    if needs and not shutil.which(needs):
        pytest.skip(f"{needs} is not installed")
    paths = os.pathsep.join(str(TESTS / name) for name in ("bench", "dataplane"))
    command = [sys.executable, "-m", "sluicegate_bench", part, "--tiny"]
    with subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            out, words = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise

    assert process.returncode == 0, words
    assert "Targets" in out
    assert not list(Path("/sys/fs/bpf").glob(f"sgb-{process.pid}-*"))
