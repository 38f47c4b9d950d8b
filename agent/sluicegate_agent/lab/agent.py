"""The real agent, started through its command line for a namespace of the lab."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import yaml

from sluicegate_agent.cli.document import Backend, Status
from sluicegate_agent.control.client import AgentUnreachableError, CommandFailedError, ask
from sluicegate_agent.control.protocol import Request, socket_path
from sluicegate_agent.lab.counters import METRICS_PORT, PacketCounts, packet_counts
from sluicegate_agent.lab.namespace import DIE_WITH_PARENT, LabError, Namespace, run, stop
from sluicegate_agent.lab.rig import VIP4, VIP6, BackendHost
from sluicegate_agent.lab.server import HTTP_PORT, UDP_PORT

# The maps are allocated in full: the lab's few thousand flows need no quarter of a million entries.
_ENVIRONMENT = {
    "SLUICEGATE_FLOWS": "65536",
    "SLUICEGATE_NAT_ENTRIES": "65536",
    "SLUICEGATE_METRICS": f"127.0.0.1:{METRICS_PORT}",
}

Mode = Literal["FullNAT", "DNAT", "DirectReturn"]
MODES: tuple[Mode, ...] = ("FullNAT", "DNAT", "DirectReturn")

_POLL_SECONDS = 0.1
_START_SECONDS = 60.0
_LOG_LINES = 15
_LOG_COLUMNS = 300


def backends(status: Status) -> list[Backend]:
    """The backends of all ports; the same address may come more than once."""
    return [backend for balancer in status.loadbalancers for port in balancer.ports for backend in port.backends]


def programmed(status: Status) -> bool:
    """Whether every VIP on every port is in the kernel."""
    vips = [vip for balancer in status.loadbalancers for port in balancer.ports for vip in port.addresses]
    return bool(vips) and all(vip.programmed for vip in vips)


class AgentProcess:
    """One agent with its configuration file and state; it may be killed and started again as often as one likes."""

    def __init__(self, balancer: Namespace, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self._balancer = balancer
        self._environment = {**_ENVIRONMENT, **(environment or {})}
        self._log = directory / "agent.log"
        self._process: subprocess.Popen[str] | None = None
        self.config = directory / "web.yaml"
        self.state = directory / "state"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def configure(self, *documents: dict[str, object]) -> None:
        """Write the configuration file, whole or not at all."""
        fresh = self.config.with_suffix(".new")
        fresh.write_text(yaml.safe_dump_all(documents, sort_keys=False))
        fresh.replace(self.config)

    def start(self) -> None:
        """Start it; :meth:`wait_until` tells when it works."""
        command = _command(self._balancer.name, self.state, "-f", str(self.config))
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*DIE_WITH_PARENT, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, without a chance to clean anything up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: the agent goes, its programs keep forwarding."""
        self._end(signal.SIGTERM)

    def remove(self) -> None:
        """Stop it and take everything that it pinned out of the kernel; nothing to do if it never ran."""
        self.stop()
        if self._log.exists():
            teardown(self._balancer.name, self.state)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            stop(self._process, how)
            self._process = None

    def status(self) -> Status | None:
        """What it says of itself; None while it does not answer."""
        with suppress(AgentUnreachableError, CommandFailedError):
            return Status.model_validate(ask(socket_path(self._balancer.name), Request("status")))
        return None

    def packets(self) -> PacketCounts:
        """What its programs did with the packets they saw, since they were first loaded."""
        return packet_counts(self._balancer)

    def wait_until(self, what: str, holds: Callable[[Status], bool], seconds: float = _START_SECONDS) -> float:
        """Wait until its status is as wanted and give the seconds that took.

        Raises:
            LabError: the agent ended, or it took longer than ``seconds``. The message has the end of its log.
        """
        started = time.monotonic()
        status: Status | None = None
        while time.monotonic() - started < seconds:
            if self.pid is None:
                raise LabError(f"the agent ended before {what}. Its log ends with:\n{self.log_end()}")
            status = self.status()
            if status is not None and holds(status):
                return time.monotonic() - started
            time.sleep(_POLL_SECONDS)
        raise LabError(
            f"no sign within {seconds:g} s that {what}. The last status was {status}.\n"
            f"The agent's log ends with:\n{self.log_end()}"
        )

    def wait_ready(self, hosts: Sequence[BackendHost], seconds: float = _START_SECONDS) -> float:
        """Wait until every VIP is in the kernel and these backends, and no others, are active and not unknown."""
        wanted = {str(address) for host in hosts for address in (host.address4, host.address6)}

        def ready(status: Status) -> bool:
            found = backends(status)
            usable = {
                backend.address
                for backend in found
                if backend.state == "active" and backend.health in {"up", "unchecked"}
            }
            waiting = any(backend.health == "unknown" for backend in found)
            return programmed(status) and usable == wanted and not waiting

        names = ", ".join(host.name for host in hosts)
        return self.wait_until(f"{names} take traffic", ready, seconds)

    def log_end(self) -> str:
        """The last lines of its log."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(f"  {line[:_LOG_COLUMNS]}" for line in lines[-_LOG_LINES:]) or "  (nothing)"


def teardown(netns: str, state: Path) -> None:
    """Take out of the kernel what an agent with this state directory pinned; the namespace may be gone."""
    run(_command(netns, state, "--teardown"), seconds=_START_SECONDS)


def _command(netns: str, state: Path, *arguments: str) -> list[str]:
    executable = Path(sys.executable).with_name("sluicegate")
    return [str(executable), "run", *arguments, "--netns", netns, "--state-dir", str(state)]


def service_port(protocol: Literal["TCP", "UDP"], mode: Mode) -> int:
    """The port of the VIPs; direct return leaves it as it is, so there it is the servers' own."""
    if mode == "DirectReturn":
        return HTTP_PORT if protocol == "TCP" else UDP_PORT
    return 80 if protocol == "TCP" else 7


def load_balancer(
    hosts: Sequence[BackendHost],
    interface: str,
    *,
    protocol: Literal["TCP", "UDP"] = "TCP",
    mode: Mode = "FullNAT",
    name: str = "web",
    changes: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """A LoadBalancer with both VIPs in front of these hosts' servers. TCP is checked every second; UDP is not.

    ``changes`` are fields of the spec to set otherwise, or with None to leave out.
    """
    http = protocol == "TCP"
    spec: dict[str, object] = {
        "interfaces": [interface],
        "addresses": [str(VIP4), str(VIP6)],
        "ports": [
            {
                "name": "http" if http else "echo",
                "protocol": protocol,
                "port": service_port(protocol, mode),
                "targetPort": HTTP_PORT if http else UDP_PORT,
            }
        ],
        "algorithm": "Maglev",
        "forwarding": {"mode": mode},
        "backends": {
            "static": [{"address": str(address)} for host in hosts for address in (host.address4, host.address6)]
        },
    }
    if http:
        spec["healthCheck"] = {"type": "TCP", "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 1, "fall": 2}
    spec |= changes or {}
    return {
        "apiVersion": "sluicegate.io/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {name: value for name, value in spec.items() if value is not None},
    }
