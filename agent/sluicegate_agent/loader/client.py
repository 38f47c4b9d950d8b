"""The agent's side of the loader: start it only when needed, show its progress, take its manifest."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from sluicegate_agent.loader.carry import carry_all, with_replaced
from sluicegate_agent.loader.errors import WARNING, LoaderError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import LoadRequest
from sluicegate_agent.loader.sources import set_digest

_log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 120.0
_LAST_LINES = 20


def expected_digest(request: LoadRequest) -> str:
    """``Manifest.set_digest`` of the set that :func:`load` would make; compiles nothing. Raises LoaderError."""
    return set_digest(request)


def pinned(request: LoadRequest, manifest_path: Path) -> Manifest | None:
    """The manifest of an earlier load when it is of the very set asked for and all its pins are there, else None."""
    manifest = Manifest.read(manifest_path)
    if manifest is None or manifest.set_digest != expected_digest(request):
        return None
    paths = manifest.pins()
    inside = all(path.is_relative_to(request.pins) for path in paths)
    return manifest if inside and all(path.exists() for path in paths) else None


def load(
    request: LoadRequest,
    *,
    progress: Callable[[str], None],
    previous: Manifest | None = None,
    timeout: float = _TIMEOUT_SECONDS,
) -> Manifest:
    """Compile, load and pin in a subprocess, which takes some seconds, or one if nothing is to be compiled.

    What is pinned from before stays in use until the links are updated; rows of maps that ``previous`` had with
    another layout are taken over. ``timeout`` is in seconds. Raises LoaderError, and KernelError when they cannot be.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        code, last = _run(request, progress, answer, timeout)
        answer.seek(0)
        text = answer.read()
    if code == 0:
        manifest = Manifest.from_json(text)
        if previous is not None:
            manifest = with_replaced(manifest, previous)
            carry_all(manifest)
        return manifest
    try:
        error = json.loads(text)
        raise LoaderError(error["message"], error["remedy"])
    except (ValueError, KeyError) as nonsense:
        reason = f"killed after {timeout:.0f} s or by someone else" if code < 0 else f"exit code {code}"
        raise LoaderError("\n".join([f"the loader failed ({reason})", *last])) from nonsense


def _run(
    request: LoadRequest, progress: Callable[[str], None], answer: IO[str], timeout: float
) -> tuple[int, list[str]]:
    """Exit code (negative: signal) and last lines of a loader that has run."""
    last: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "sluicegate_agent.loader"],
        stdin=subprocess.PIPE,
        stdout=answer,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        deadline = threading.Timer(timeout, process.kill)
        deadline.start()
        try:
            assert process.stdin is not None  # noqa: S101 - both are pipes, see above
            assert process.stderr is not None  # noqa: S101
            with suppress(BrokenPipeError), process.stdin:  # one that dies at once says why by its exit code
                process.stdin.write(request.to_json())
            for line in process.stderr:
                text = line.rstrip()
                last = [*last[1 - _LAST_LINES :], text]
                if text.startswith(WARNING):
                    _log.warning("the loader warns: %s", text.removeprefix(WARNING))
                else:
                    progress(text)
        finally:
            deadline.cancel()
    return process.returncode, last
