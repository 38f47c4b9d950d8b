"""The lab's servers and load as processes in their namespaces."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from sluicegate_agent.lab import server
from sluicegate_agent.lab.downloads import Part
from sluicegate_agent.lab.intruder import Standing
from sluicegate_agent.lab.namespace import LabError, Namespace, stop
from sluicegate_agent.lab.outcomes import Outcome, from_json
from sluicegate_agent.lab.rig import BackendHost
from sluicegate_agent.lab.tally import Tally
from sluicegate_agent.lab.visitors import Visits
from sluicegate_agent.lab.wire import target


def module(name: str, *arguments: object) -> list[str]:
    """The command of one of the lab's modules."""
    return [sys.executable, "-m", f"sluicegate_agent.lab.{name}", *(str(argument) for argument in arguments)]


class BackendServer:
    """A backend's server. ``kill`` leaves its host and addresses in place, so connections are refused."""

    def __init__(self, host: BackendHost) -> None:
        self.host = host
        self._process: subprocess.Popen[str] | None = None

    def start(
        self, *, health: server.Health = server.Health.OK, delay: float = 0.0, certificate: Path | None = None
    ) -> None:
        """Start it and wait until it listens; ``delay`` goes before each answer, in seconds.

        With a certificate it serves TLS as well, and answers questions for names.
        """
        ports = ("--http-port", server.HTTP_PORT, "--udp-port", server.UDP_PORT)
        more = () if certificate is None else ("--dns", "--certificate", certificate)
        self._process = self.host.namespace.spawn(
            module("server", "--name", self.host.name, *ports, "--health", health, "--delay", delay, *more),
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None  # noqa: S101
        if self._process.stdout.readline().strip() != "ready":
            raise LabError(f"the server of {self.host.name} did not start")

    def answer_after(self, delay: float) -> None:
        """Let so many seconds go before each answer from now on."""
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(f"{delay}\n")
        self._process.stdin.flush()
        if self._process.stdout.readline().strip() != "ok":
            raise LabError(f"the server of {self.host.name} did not take the delay")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)
            self._process = None


class EmulatedServer:
    """A backend of ``cores`` emulated cores on a host; several may share the host, on different ports."""

    def __init__(self, host: BackendHost, *, cores: float, port: int) -> None:
        self.host = host
        self.cores = cores
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; it may not listen yet."""
        self._process = self.host.namespace.spawn(
            module("emulated", "--name", self.host.name, "--cores", self.cores, "--port", self.port),
            stdout=subprocess.PIPE,
        )

    def wait(self) -> None:
        """Wait until it listens."""
        if self._line() != "ready":
            raise LabError(f"the emulated server of {self.host.name} did not start")

    def command(self, text: str) -> None:
        """Make it obey one of the commands of :mod:`sluicegate_agent.lab.emulated`; it has when this returns."""
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()
        if (answer := self._line()) != "ok":
            raise LabError(f"the emulated server of {self.host.name} answers {answer or 'nothing'!r} to {text!r}")

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)
            self._process = None

    def _line(self) -> str:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        return self._process.stdout.readline().strip()


class _Generator:
    """A running load generator. What it reports, line by line, arrives by itself and is kept until taken."""

    def __init__(self, client: Namespace, command: list[str]) -> None:
        self._process = client.spawn(command, stdout=subprocess.PIPE)
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            with self._lock:
                self._lines.append(line)

    def _take(self) -> list[str]:
        """Lines since the last call."""
        with self._lock:
            lines, self._lines = self._lines, []
        return lines

    def _finish(self, seconds: float) -> None:
        """Start no more requests and wait for those under way."""
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


class LoadProcess(_Generator):
    """A running load of :mod:`sluicegate_agent.lab.load`: so many requests per second in turn to each address."""

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
        super().__init__(client, module("load", *targets, "--rate", rate, "--sessions", sessions, "--timeout", timeout))

    def take(self) -> Tally:
        """What ended since the last call."""
        tally = Tally()
        for line in self._take():
            tally.add(Tally.from_json(line))
        return tally

    def finish(self, *, seconds: float = 10.0) -> Tally:
        """Start no more requests, wait for those under way, and give what ended since the last :meth:`take`."""
        self._finish(seconds)
        return self.take()


class OpenLoopProcess(_Generator):
    """A running load of :mod:`sluicegate_agent.lab.openloop`: the same trace to each side, at planned times."""

    def __init__(
        self,
        client: Namespace,
        sides: Mapping[str, str],
        *,
        rate: float,
        work: float,
        seed: int = 1,
        timeout: float = 3.0,
    ) -> None:
        """``sides`` are targets (``address:port``) by name; ``work`` is in seconds of one core."""
        named = [part for name, where in sides.items() for part in ("--side", f"{name}={where}")]
        trace = ("--rate", rate, "--work", work, "--seed", seed, "--timeout", timeout)
        super().__init__(client, module("openloop", *named, *trace))

    def take(self) -> list[Outcome]:
        """What ended since the last call."""
        return [outcome for line in self._take() for outcome in from_json(line)]

    def finish(self, *, seconds: float = 10.0) -> list[Outcome]:
        """Send nothing more, wait for what is under way, and give what ended since the last :meth:`take`."""
        self._finish(seconds)
        return self.take()


class VisitorsProcess(_Generator):
    """Running visits of :mod:`sluicegate_agent.lab.visitors`; ``targets`` (``address:port``) by kind."""

    def __init__(
        self,
        client: Namespace,
        targets: Mapping[str, Sequence[str]],
        sites: Sequence[str],
        certificate: Path,
        *,
        rate: float,
    ) -> None:
        where = [part for kind, addresses in targets.items() for one in addresses for part in (f"--{kind}", one)]
        names = [part for site in sites for part in ("--site", site)]
        super().__init__(client, module("visitors", *where, *names, "--certificate", certificate, "--rate", rate))

    def take(self) -> Visits:
        """What ended since the last call."""
        visits = Visits()
        for line in self._take():
            visits.add(Visits.from_json(line))
        return visits

    def finish(self, *, seconds: float = 10.0) -> Visits:
        """Begin no more visits, wait for those under way, and give what ended since the last :meth:`take`."""
        self._finish(seconds)
        return self.take()


class DownloadsProcess(_Generator):
    """Running comparison of :mod:`sluicegate_agent.lab.downloads`; ``sides`` are targets by name."""

    def __init__(self, client: Namespace, sides: Mapping[str, str], name: str, certificate: Path, *, size: int) -> None:
        named = [part for side, where in sides.items() for part in ("--side", f"{side}={where}")]
        rest = ("--name", name, "--bytes", size, "--certificate", certificate)
        super().__init__(client, module("downloads", *named, *rest))

    def take(self) -> list[Part]:
        """Parts since the last call."""
        return [Part.from_json(line) for line in self._take()]

    def finish(self, *, seconds: float = 20.0) -> list[Part]:
        """End after the part that is under way, and give those since the last :meth:`take`."""
        self._finish(seconds)
        return self.take()


class IntruderProcess(_Generator):
    """The client of :mod:`sluicegate_agent.lab.intruder`."""

    def __init__(self, client: Namespace, where: str) -> None:
        super().__init__(client, module("intruder", where))
        self._last = Standing(0, 0)

    def attack(self) -> None:
        """Make it attack with its next request."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write("attack\n")
        self._process.stdin.flush()

    def standing(self) -> Standing:
        """How it is now."""
        for line in self._take():
            self._last = Standing.from_json(line)
        return self._last

    def finish(self, *, seconds: float = 10.0) -> Standing:
        """Make it go, and say how it was then."""
        self._finish(seconds)
        return self.standing()


@contextmanager
def servers(hosts: tuple[BackendHost, ...], *, certificate: Path | None = None) -> Iterator[tuple[BackendServer, ...]]:
    """Servers on all of these hosts, with TLS and DNS if there is a certificate."""
    started = tuple(BackendServer(host) for host in hosts)
    try:
        for one in started:
            one.start(certificate=certificate)
        yield started
    finally:
        for one in started:
            one.kill()


@contextmanager
def emulated_servers(pools: Iterable[EmulatedServer]) -> Iterator[None]:
    """All of these running; they start at the same time."""
    started: list[EmulatedServer] = []
    try:
        for one in pools:
            started.append(one)
            one.start()
        for one in started:
            one.wait()
        yield
    finally:
        for one in started:
            one.kill()
