"""The balancers to compare. Each is set up in the balancer's namespace of a site, and gone after ``with``."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sluicegate_agent.cli.document import Backend, Status
from sluicegate_agent.lab.agent import AgentProcess, backends, programmed
from sluicegate_agent.lab.namespace import LabError, stop
from sluicegate_agent.lab.rig import VIP4
from sluicegate_bench.common.rig import FLOORS, load_own, pin_directory
from sluicegate_bench.load.haproxy import haproxy
from sluicegate_bench.load.site import BALANCER_CPU, PORT, Site, pinned

_TEMPLATES = Path(__file__).resolve().parents[2]
_VIP_PORT = 80
_START_SECONDS = 60.0
_AGENT_SIZES = {"SLUICEGATE_FLOWS": "262144", "SLUICEGATE_NAT_ENTRIES": "1048576"}


@dataclass(frozen=True, slots=True)
class Running:
    """A balancer at work. ``target`` takes the load from ``sources``; ``pids`` are its processes, if it has any."""

    target: str
    sources: str = "10.76.0.2"
    pids: tuple[int, ...] = ()
    agent: AgentProcess | None = None

    def weights(self) -> dict[str, float]:
        """The weights in force by backend, if it tells them."""
        status = self.agent.status() if self.agent is not None else None
        return {} if status is None else {one.address: one.effective_weight for one in backends(status)}


class Balancer(Protocol):
    """What can be compared; ``name`` is for tables."""

    @property
    def name(self) -> str:
        """For tables."""

    def at(self, site: Site) -> AbstractContextManager[Running]:
        """Work on this site."""


@dataclass(frozen=True, slots=True)
class Past:
    """None at all: client and backends on one wire."""

    name: str = "no balancer, one wire"

    @contextmanager
    def at(self, site: Site) -> Iterator[Running]:  # noqa: ARG002
        """There is nothing to do."""
        yield Running(f"10.79.0.1:{PORT}", "10.79.0.2")


@dataclass(frozen=True, slots=True)
class Routed:
    """The kernel forwards to one backend; nothing is balanced."""

    name: str = "plain routing"

    @contextmanager
    def at(self, site: Site) -> Iterator[Running]:
        """The site routes already."""
        yield Running(f"{site.backends.addresses[0]}:{PORT}")


@dataclass(frozen=True, slots=True)
class RoutedUnderXdp:
    """The same with an XDP program that does nothing: veth makes every packet fit for XDP, mostly by copying it."""

    name: str = "plain routing, empty XDP program"

    @contextmanager
    def at(self, site: Site) -> Iterator[Running]:
        """Attach it to both interfaces of the balancer's namespace."""
        interfaces = (site.rig.client_port, site.rig.backends[0].port)
        with pin_directory() as pins:
            program = str(load_own(pins, FLOORS[:1]).programs["empty_xdp"].path)
            for interface in interfaces:
                site.balancer.run(["ip", "link", "set", "dev", interface, "xdpdrv", "pinned", program])
            try:
                yield Running(f"{site.backends.addresses[0]}:{PORT}")
            finally:
                for interface in interfaces:
                    site.balancer.run(["ip", "link", "set", "dev", interface, "xdpdrv", "off"])


@dataclass(frozen=True, slots=True)
class Sluicegate:
    """Ours in FullNAT. ``weights`` are the configured ones; None for all the same."""

    name: str
    algorithm: str = "LeastLoad"
    weights: Sequence[int] | None = None
    dynamic: Mapping[str, object] = field(default_factory=dict)

    @contextmanager
    def at(self, site: Site) -> Iterator[Running]:
        """Start the real agent and wait until all backends take traffic."""
        agent = AgentProcess(site.balancer, site.directory, _AGENT_SIZES)
        agent.configure(self._document(site))
        try:
            agent.start()
            wanted = {str(address) for address in site.backends.addresses}
            agent.wait_until("all backends take traffic", lambda status: _ready(status, wanted), _START_SECONDS)
            assert agent.pid is not None
            yield Running(f"{VIP4}:{_VIP_PORT}", pids=(agent.pid,), agent=agent)
        finally:
            agent.remove()

    def _document(self, site: Site) -> dict[str, object]:
        weights = self.weights or [100] * len(site.backends.addresses)
        return {
            "apiVersion": "sluicegate.io/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": {"name": "web", "namespace": "bench"},
            "spec": {
                "interfaces": [site.rig.client_port],
                "addresses": [str(VIP4)],
                "ports": [{"name": "http", "protocol": "TCP", "port": _VIP_PORT, "targetPort": PORT}],
                "algorithm": self.algorithm,
                "backends": {
                    "static": [
                        {"address": str(address), "weight": weight}
                        for address, weight in zip(site.backends.addresses, weights, strict=True)
                    ]
                },
                "healthCheck": {"type": "TCP", "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 1, "fall": 2},
                **({"dynamicWeights": dict(self.dynamic)} if self.dynamic else {}),
            },
        }


def _ready(status: Status, wanted: set[str]) -> bool:
    found: list[Backend] = backends(status)
    usable = {one.address for one in found if one.state == "active" and one.health in {"up", "unchecked"}}
    return programmed(status) and usable == wanted


@dataclass(frozen=True, slots=True)
class HaProxy:
    """HAProxy with ``tests/bench/haproxy.cfg``, on one CPU."""

    name: str
    weights: Sequence[int] | None = None
    cpu: int = BALANCER_CPU

    @contextmanager
    def at(self, site: Site) -> Iterator[Running]:
        """Start it on the VIP, which its own kernel takes."""
        site.balancer.ip([f"address add {VIP4}/32 dev lo"])
        site.balancer.sysctl(
            ["net.ipv4.tcp_tw_reuse=1", "net.ipv4.ip_local_port_range=1024 65535", "net.core.somaxconn=8192"]
        )
        weights = self.weights or [1] * len(site.backends.addresses)
        servers = "\n".join(
            f"    server b{index} {address}:{PORT} weight {weight}"
            for index, (address, weight) in enumerate(zip(site.backends.addresses, weights, strict=True))
        )
        config = site.directory / "haproxy.cfg"
        template = (_TEMPLATES / "haproxy.cfg").read_text(encoding="utf-8")
        config.write_text(template.format(frontend=f"{VIP4}:{_VIP_PORT}", servers=servers), encoding="utf-8")
        log = site.directory / "haproxy.log"
        with log.open("w") as out:
            command = pinned(haproxy("-db", "-f", str(config)), self.cpu)
            process = site.balancer.spawn(command, stdout=out, stderr=out)
        try:
            _wait_for_answers(site, process, log)
            yield Running(f"{VIP4}:{_VIP_PORT}", pids=(process.pid,))
        finally:
            stop(process, signal.SIGKILL)
            site.balancer.ip([f"address delete {VIP4}/32 dev lo"])


def _wait_for_answers(site: Site, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with site.client.inside():
                endpoint = socket.create_connection((str(VIP4), _VIP_PORT), 1.0)
            endpoint.close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(1.5)  # a round of its health checks, spread over their interval
            return
    raise LabError(f"HAProxy did not start. It said:\n{log.read_text(encoding='utf-8')}")


@dataclass(frozen=True, slots=True)
class NfTables:
    """nftables with ``tests/bench/nftables.nft``."""

    name: str = "nftables"

    @contextmanager
    def at(self, site: Site) -> Iterator[Running]:
        """Load the rules."""
        if shutil.which("nft") is None:
            raise LabError("nft is not installed: apt-get install nftables")
        places = site.backends.addresses
        template = (_TEMPLATES / "nftables.nft").read_text(encoding="utf-8")
        rules = template.format(
            address=VIP4,
            port=_VIP_PORT,
            count=len(places),
            target=PORT,
            backends=", ".join(f"{index} : {address}" for index, address in enumerate(places)),
        )
        site.balancer.run(["nft", "-f", "-"], stdin=rules)
        # Closed connections would fill its table for two minutes each.
        site.balancer.sysctl(["net.netfilter.nf_conntrack_tcp_timeout_time_wait=5"])
        try:
            yield Running(f"{VIP4}:{_VIP_PORT}")
        finally:
            site.balancer.run(["nft", "delete", "table", "ip", "bench"])
