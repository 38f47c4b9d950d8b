"""The tools in C: built when they are first needed, into ``build/bench/native``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from sluicegate_bench.common.report import RESULTS

SOURCES = Path(__file__).resolve().parents[2] / "native"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror")


@cache
def tool(name: str, directory: Path = RESULTS / "native") -> Path:
    """The program of ``native/<name>.c``.

    Raises:
        RuntimeError: it does not compile; the message is the compiler's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / name
    command = ["gcc", *_FLAGS, "-o", str(program), str(SOURCES / f"{name}.c"), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError("gcc is not installed: apt-get install gcc libc6-dev") from error
    if done.returncode:
        raise RuntimeError(done.stderr)
    return program


def predict(cores: Iterable[float], lines: Iterable[str]) -> list[float]:
    """What ``native/predict.c`` says to these arrivals: seconds for each of them."""
    command = [str(tool("predict")), *(f"{value:g}" for value in cores)]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [float(line) for line in done.stdout.split()]
