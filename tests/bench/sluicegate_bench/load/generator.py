"""Traces, the open-loop generator that replays them, and what it found."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sluicegate_agent.lab.namespace import LabError, stop
from sluicegate_bench.load.native import tool
from sluicegate_bench.load.site import LOAD_CPU, SOURCES, Site, pinned

Array = npt.NDArray[Any]

OUTCOMES = np.dtype(
    [
        ("planned", "f8"),
        ("latency", "f4"),
        ("lag", "f4"),
        ("backend", "u2"),
        ("outcome", "u2"),
        ("service", "u4"),
    ]
)
"""``struct record`` of native/openload.c."""

VISIT = np.dtype([("at", "f8"), ("took", "f4"), ("service", "u4"), ("backend", "u4"), ("reset", "u4")])
"""``struct record`` of native/pool.c."""


class Outcome(IntEnum):
    """What became of a request."""

    UNFINISHED = 0
    ANSWERED = 1
    RESET = 2
    TIMED_OUT = 3
    GARBLED = 4
    NOT_SENT = 5


@dataclass(frozen=True, slots=True)
class Trace:
    """Planned times in seconds, in order; service in seconds of one core; the index of the client's address."""

    at: Array
    service: Array
    source: Array

    @classmethod
    def poisson(cls, rate: float, seconds: float, mean_service: float, seed: int) -> Trace:
        """Poisson arrivals with lognormal service (sigma 1, so a coefficient of variation of 1.31)."""
        source = np.random.default_rng(seed)
        at = np.cumsum(source.exponential(1 / rate, int(rate * seconds * 1.05) + 100))
        at = at[at < seconds]
        service = source.lognormal(np.log(mean_service) - 0.5, 1.0, len(at))
        return cls(at, service, source.integers(0, SOURCES, len(at)))

    def text(self) -> str:
        """As native/openload.c reads it."""
        micros, service = np.round(self.at * 1e6).astype(int), np.maximum(1, np.round(self.service * 1e6)).astype(int)
        return "".join(f"{a} {b} {c}\n" for a, b, c in zip(micros, service, self.source, strict=True))


@dataclass(frozen=True, slots=True)
class Results:
    """One array element per request, in order of planned time; ``zero`` is the trace's beginning, monotonic clock.

    ``cpu`` is the generator's own CPU time in seconds.
    """

    zero: float
    cpu: float
    rows: Array

    @property
    def latency(self) -> Array:
        """Seconds from the planned time; infinite for a request that failed."""
        return np.asarray(self.rows["latency"], dtype=float)

    @property
    def failed(self) -> int:
        """Requests without a whole answer."""
        return int((self.rows["outcome"] != Outcome.ANSWERED).sum())

    def lag(self, quantile: float) -> float:
        """How late requests were sent, in seconds."""
        return float(np.quantile(self.rows["lag"], quantile))


class Generator:
    """One replay under way; :meth:`finish` waits for its end."""

    def __init__(
        self,
        site: Site,
        target: str,
        sources: str,
        *,
        trace: Trace | None = None,
        rate: float = 0.0,
        count: int = 0,
        first_port: int = 1024,
        timeout: float = 10.0,
    ) -> None:
        self._results = site.directory / "results.bin"
        command = [str(tool("openload")), "--target", target, "--sources", f"{sources},{SOURCES}"]
        command += ["--timeout", f"{timeout:g}", "--results", str(self._results), "--from", str(first_port)]
        if trace is None:
            command += ["--rate", f"{rate:g}", "--count", str(count)]
        self._process = site.client.spawn(pinned(command, LOAD_CPU), stdout=subprocess.PIPE)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if trace is not None:
            self._process.stdin.write(trace.text())
        self._process.stdin.close()
        words = self._process.stdout.readline().split()
        if not words or words[0] != "started":
            raise LabError("the load generator did not start")
        self.zero = float(words[1])

    def finish(self, seconds: float) -> Results:
        """Wait for its end, at most so long."""
        assert self._process.stdout is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"the load generator did not end within {seconds:g} s") from error
        words = self._process.stdout.read().split()
        stop(self._process)
        if status or len(words) != 4:
            raise LabError(f"the load generator failed with exit code {status}")
        return Results(self.zero, float(words[3]), np.fromfile(self._results, dtype=OUTCOMES))


def visits(log: Path) -> Array:
    """What came to the backends, in order; ``at`` is of the monotonic clock."""
    return np.fromfile(log, dtype=VISIT)


def milliseconds(latency: Array, quantiles: Sequence[float]) -> list[float]:
    """Quantiles of latencies in ms, infinite ones included: what lies between two of them is the upper one."""
    if not len(latency):
        return [float("nan")] * len(quantiles)
    return [float(1e3 * value) for value in np.quantile(latency, quantiles, method="higher")]
