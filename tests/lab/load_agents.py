"""Load agents beside the lab's servers: what backends say of themselves, as a test wishes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sluicegate_agent.lab.namespace import LabError, stop
from sluicegate_agent.lab.processes import module
from sluicegate_agent.lab.rig import BackendHost


class LoadAgentProcess:
    """The load agent of one backend, see :mod:`sluicegate_agent.lab.load_agent`."""

    def __init__(self, host: BackendHost) -> None:
        self.host = host
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, silent on both ports, and wait until it listens."""
        self._process = self.host.namespace.spawn(module("load_agent"), stdout=subprocess.PIPE)
        self._expect("ready")

    def say(self, line: str) -> None:
        """What it answers to agent checks from now on; nothing when empty."""
        self._tell(f"agent {line}")

    def report(self, **load: float) -> None:
        """What it reports over HTTP from now on, by ORCA's names; nothing without any."""
        self._tell(f"report {json.dumps(load) if load else ''}")

    def kill(self) -> None:
        """End it: connections are refused."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)
            self._process = None

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line.strip()}\n")
        self._process.stdin.flush()
        self._expect("ok")

    def _expect(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != word:
            raise LabError(f"the load agent of {self.host.name} does not say {word!r}")


@contextmanager
def load_agents(hosts: Sequence[BackendHost]) -> Iterator[tuple[LoadAgentProcess, ...]]:
    """Load agents on all of these hosts, each saying 100 %."""
    started = tuple(LoadAgentProcess(host) for host in hosts)
    try:
        for one in started:
            one.start()
            one.say("100%")
        yield started
    finally:
        for one in started:
            one.kill()
