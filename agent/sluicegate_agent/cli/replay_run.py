"""The parts of a replay put together: capture, sniffer, engine, rules, events, progress."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from sluicegate_agent.dpi.actions import ActionTable
from sluicegate_agent.dpi.capture.files import open_capture, open_file
from sluicegate_agent.dpi.capture.model import NotACaptureError
from sluicegate_agent.dpi.configuration import offline_limits, sniff_policy
from sluicegate_agent.dpi.engine import EngineError
from sluicegate_agent.dpi.events.lines import EveLines, Origin
from sluicegate_agent.dpi.events.outputs import Output
from sluicegate_agent.dpi.offline import OfflineRun
from sluicegate_agent.dpi.offline_engine import OfflineEngine, open_engine
from sluicegate_agent.dpi.rules.vectorscan import NoVectorscanError
from sluicegate_agent.dpi.summary import Circumstances, Summary
from sluicegate_api.dpisniffer import DpiSniffer, DpiSnifferSpec

_SECONDS_BETWEEN = 0.5
_SECONDS_BETWEEN_LINES = 10.0


class ReplayError(Exception):
    """The replay cannot begin. ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def run_replay(
    capture: Path, sniffer: DpiSniffer | None, output: Output, *, vnf: str, node: str, base: Path
) -> Summary:
    """Run it and sum it up. ``base``: the folder that relative paths of signature files begin at.

    Raises `ReplayError` when the capture cannot be read at all, or what is needed is not installed.
    """
    spec = DpiSnifferSpec() if sniffer is None else sniffer.spec
    try:
        file = open_file(capture)
        with file:
            reader = open_capture(file, str(capture))
            with open_engine(sniffer, offline_limits(), base) as opened:
                lines = EveLines(Origin(vnf, node, capture.name), opened.engine, opened.signatures)
                run = OfflineRun(
                    replace(sniff_policy(spec), send_empty=opened.send_empty),
                    opened.engine,
                    lines,
                    output,
                    actions=ActionTable(spec.actions or (), opened.engine),
                    messages=opened.message,
                )
                progress = _Progress(file, capture)
                run.run(reader, progress)
                progress.clear()
                return Summary.of(run, output, _circumstances(opened, str(capture), vnf, node))
    except NotACaptureError as error:
        raise ReplayError(error.message, error.remedy) from error
    except (EngineError, NoVectorscanError) as error:
        raise ReplayError(str(error), "make setup builds the engine and installs what it needs") from error


def _circumstances(opened: OfflineEngine, file: str, vnf: str, node: str) -> Circumstances:
    return Circumstances(
        file=file,
        vnf=vnf,
        node=node,
        classification=opened.engine.classification,
        classification_reason=opened.classification_reason,
        signatures=len(opened.signatures),
        refused=opened.refused,
    )


class _Progress:
    """Says on stderr how far it is: in place on a terminal, a line now and then elsewhere; nothing on short files."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._name = path.name
        self._size = path.stat().st_size
        self._terminal = sys.stderr.isatty()
        self._between = _SECONDS_BETWEEN if self._terminal else _SECONDS_BETWEEN_LINES
        self._said = time.monotonic()
        self._shown = False

    def __call__(self, packets: int) -> None:
        """So many packets were read."""
        now = time.monotonic()
        if now - self._said < self._between:
            return
        self._said = now
        share = f"{self._file.tell() / self._size:.0%}, " if self._size else ""
        text = f"{self._name}: {share}{packets} packets"
        sys.stderr.write(f"\r{text}\033[K" if self._terminal else f"{text}\n")
        sys.stderr.flush()
        self._shown = self._terminal

    def clear(self) -> None:
        """Take the last word back from a terminal."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
