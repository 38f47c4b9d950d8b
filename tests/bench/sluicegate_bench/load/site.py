"""Where balancers are compared: a client, a balancer's namespace, and one namespace with the addresses of all backends.

::

    client 10.76.0.2 … .9 ── 10.76.0.1 balancer 10.77.1.1 ── 10.77.1.2 … backends
           10.79.0.2 … .9 ─────────────────────────────────── 10.79.0.1          (past the balancer)
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from sluicegate_agent.lab.namespace import LabError, Namespace, stop
from sluicegate_agent.lab.rig import Rig, RigOptions, rig
from sluicegate_bench.load.native import tool

SOURCES = 8
"""Addresses of the client."""
PORT = 8080
"""Where backends listen."""
FIRST_BACKEND = IPv4Address("10.77.1.2")

LOAD_CPU, BALANCER_CPU = 0, 1
"""The load and the backends on one CPU, the balancer's processes on the other, if there are two."""

_HOST_TUNING = ("net.ipv4.tcp_max_syn_backlog=8192", "net.core.somaxconn=8192")


def pinned(command: Sequence[str], cpu: int) -> list[str]:
    """The command on one CPU, in real time: what else the machine does must not delay what is measured.

    None of those who get this is ever busy for long; the kernel would see to it that others get five per cent.
    """
    cpus = sorted(os.sched_getaffinity(0))
    return ["chrt", "--fifo", "1", "taskset", "--cpu-list", str(cpus[cpu % len(cpus)]), *command]


class Backends:
    """The process that plays all backends."""

    def __init__(self, namespace: Namespace, cores: Sequence[float], body: int, log: Path) -> None:
        self.log = log
        self.cores = tuple(cores)
        where = [f"{FIRST_BACKEND + index}={value:g}" for index, value in enumerate(cores)]
        where.append(f"10.79.0.1={cores[0]:g}")  # the first one's twin, past the balancer
        command = [str(tool("pool")), "--port", str(PORT), "--body", str(body), "--log", str(log), *where]
        self._process = namespace.spawn(pinned(command, LOAD_CPU), stdout=subprocess.PIPE)
        self._read()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def addresses(self) -> tuple[IPv4Address, ...]:
        """In the order of their cores."""
        return tuple(FIRST_BACKEND + index for index in range(len(self.cores)))

    def command(self, line: str) -> float:
        """Give a command of ``native/pool.c``; gives when it took effect, by the monotonic clock."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return float(self._read())

    def finish(self) -> None:
        """End it; its log is whole then."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        stop(self._process)

    def _read(self) -> str:
        assert self._process.stdout is not None
        word, _, rest = self._process.stdout.readline().strip().partition(" ")
        if word not in {"ok", "ready"}:
            raise LabError(f"the backends say: {word} {rest}" if word else "the backends did not start")
        return rest


@dataclass(frozen=True, slots=True)
class Site:
    """One network with its backends; ``directory`` is for files of this site alone."""

    rig: Rig
    backends: Backends
    directory: Path

    @property
    def client(self) -> Namespace:
        """Where the load comes from."""
        return self.rig.client

    @property
    def balancer(self) -> Namespace:
        """Where the balancer works; it routes."""
        return self.rig.balancer


@contextmanager
def site(cores: Sequence[float], directory: Path, *, body: int = 1) -> Iterator[Site]:
    """Build it with a backend of so many cores each, which answer with ``body`` bytes, and remove it at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    with rig(RigOptions(backends=1), prefix="sgb") as built:
        server = built.backends[0].namespace
        built.client.ip([f"address add 10.76.0.{2 + number}/24 dev eth0" for number in range(1, SOURCES)])
        server.ip([f"address add {FIRST_BACKEND + number}/24 dev eth0" for number in range(1, len(cores))])
        _wire_past_the_balancer(built.client, server)
        for host in (built.client, server, built.balancer):
            host.sysctl(_HOST_TUNING)
        backends = Backends(server, cores, body, directory / "pool.log")
        yield Site(built, backends, directory)


def _wire_past_the_balancer(client: Namespace, server: Namespace) -> None:
    client.ip([f"link add past type veth peer name past netns {server.name}"])
    client.ip([f"address add 10.79.0.{2 + number}/24 dev past" for number in range(SOURCES)])
    server.ip(["address add 10.79.0.1/24 dev past", "link set past up"])
    client.ip(["link set past up"])
    for host in (client, server):
        host.ethtool("past", gro=True, tx=False)
