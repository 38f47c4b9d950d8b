"""The lab's servers and load as processes in their namespaces."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

from sluicegate_agent.lab import server
from sluicegate_agent.lab.namespace import LabError, Namespace, stop
from sluicegate_agent.lab.rig import BackendHost
from sluicegate_agent.lab.tally import Tally
from sluicegate_agent.lab.wire import target


def module(name: str, *arguments: object) -> list[str]:
    """The command of one of the lab's modules."""
    return [sys.executable, "-m", f"sluicegate_agent.lab.{name}", *(str(argument) for argument in arguments)]


class BackendServer:
    """A backend's server. ``kill`` leaves its host and addresses in place, so connections are refused."""

    def __init__(self, host: BackendHost) -> None:
        self.host = host
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, health: server.Health = server.Health.OK, delay: float = 0.0) -> None:
        """Start it and wait until it listens; ``delay`` goes before each answer, in seconds."""
        ports = ("--http-port", server.HTTP_PORT, "--udp-port", server.UDP_PORT)
        self._process = self.host.namespace.spawn(
            module("server", "--name", self.host.name, *ports, "--health", health, "--delay", delay),
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None  # noqa: S101
        if self._process.stdout.readline().strip() != "ready":
            raise LabError(f"the server of {self.host.name} did not start")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)
            self._process = None


class LoadProcess:
    """A running load generator. Tallies arrive by themselves; :meth:`take` hands them over."""

    def __init__(
        self,
        client: Namespace,
        addresses: list[IPv4Address | IPv6Address],
        *,
        port: int = 80,
        rate: float = 200.0,
        sessions: int = 0,
        timeout: float = 2.0,
    ) -> None:
        targets = [part for address in addresses for part in ("--target", target(address, port))]
        self._process = client.spawn(
            module("load", *targets, "--rate", rate, "--sessions", sessions, "--timeout", timeout),
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()
        self._tally = Tally()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            tally = Tally.from_json(line)
            with self._lock:
                self._tally.add(tally)

    def take(self) -> Tally:
        """What ended since the last call."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
        return tally

    def finish(self, *, seconds: float = 10.0) -> Tally:
        """Start no more requests, wait for those under way, and give what ended since the last :meth:`take`."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"the load generator did not end within {seconds:g} s") from error
        self._reader.join(seconds)
        stop(self._process)
        if status:
            raise LabError(f"the load generator failed with exit code {status}")
        return self.take()


@contextmanager
def servers(hosts: tuple[BackendHost, ...]) -> Iterator[tuple[BackendServer, ...]]:
    """Servers on all of these hosts."""
    started = tuple(BackendServer(host) for host in hosts)
    try:
        for one in started:
            one.start()
        yield started
    finally:
        for one in started:
            one.kill()
