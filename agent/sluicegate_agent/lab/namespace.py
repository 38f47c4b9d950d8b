"""Network namespaces and the processes inside them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sluicegate_agent.network.namespace import enter

NETNS_DIRECTORY = Path("/run/netns")

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
"""Before a command: the kernel kills it when the thread that started it ends, so nothing outlives a killed demo."""


class LabError(Exception):
    """A system command failed or a process did not do its part. The message holds what it printed."""


def run(command: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> str:
    """Run a command to its end and give its standard output.

    Raises:
        LabError: it failed or took longer than ``seconds``.
    """
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)}: no end after {seconds:g} s") from error
    except FileNotFoundError as error:
        raise LabError(f"{command[0]}: not installed. 'make setup' installs it") from error
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


@dataclass(slots=True)
class Namespace:
    """One network namespace, made by :meth:`create` and gone after :meth:`delete`."""

    name: str
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def create(self) -> None:
        """Make it, with its loopback up."""
        run(["ip", "netns", "add", self.name])
        self.ip(["link set lo up"])

    def delete(self) -> None:
        """End the processes started here, then remove the namespace; both may be gone already."""
        for process in self._processes:
            stop(process, signal.SIGKILL)
        self._processes.clear()
        if (NETNS_DIRECTORY / self.name).exists():
            run(["ip", "netns", "delete", self.name])

    def command(self, command: Sequence[str]) -> list[str]:
        """Make a command run in here, as one process with one pid.

        ``ip netns exec`` would do too but mounts a /sys of its own, without the bpffs.
        """
        enter = ["nsenter", f"--net={NETNS_DIRECTORY / self.name}", "--"]
        return [*enter, *DIE_WITH_PARENT, *command]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in here for a while; a socket that it opens meanwhile stays in here for good."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(self.name)
            try:
                yield
            finally:
                enter(f"/proc/self/fd/{home}")
        finally:
            os.close(home)

    def run(self, command: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> str:
        """Run a command in here; see :func:`run`."""
        return run(self.command(command), stdin=stdin, seconds=seconds)

    def spawn(
        self, command: Sequence[str], *, stdout: IO[str] | int | None = None, stderr: IO[str] | int | None = None
    ) -> subprocess.Popen[str]:
        """Start a process in here; it is killed with the namespace."""
        process = subprocess.Popen(
            self.command(command),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def ip(self, lines: Sequence[str]) -> None:
        """Carry out lines of ip(8) in here, all or up to the first that fails."""
        run(["ip", "-n", self.name, "-batch", "-"], stdin="".join(f"{line}\n" for line in lines))

    def sysctl(self, settings: Sequence[str]) -> None:
        """Set ``key=value`` pairs of this namespace's network."""
        self.run(["sysctl", "--quiet", "--write", *settings])

    def ethtool(self, interface: str, *, gro: bool, tx: bool) -> None:
        """Set two offloads of an interface of ours: receive aggregation, and leaving checksums to the device."""
        self.run(["ethtool", "--features", interface, "gro", "on" if gro else "off", "tx", "on" if tx else "off"])


def stop(process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM, *, seconds: float = 5.0) -> None:
    """End a process and close its pipes; one that ignores the signal for ``seconds`` is killed."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
