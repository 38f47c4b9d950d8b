"""What must hold before the agent runs; every obstacle is told once, with its remedy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate_agent.failure import StartError
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.network.namespace import NamespaceError, enter
from sluicegate_agent.pins import AgentRunningError, PinsError
from sluicegate_agent.preflight.check import Level, nat_port_row
from sluicegate_agent.preflight.machine import local_port_range
from sluicegate_agent.settings import AgentSettings
from sluicegate_agent.source.files import Files, FileWatcher


@contextmanager
def explained() -> Iterator[None]:
    """Turn what other parts raise into :class:`StartError`."""
    try:
        yield
    except NamespaceError as error:
        raise StartError(str(error), "create it with ip netns add, or leave --netns out", exit_code=2) from error
    except AgentRunningError as error:
        raise StartError(str(error), "use another namespace with --netns and another --state-dir") from error
    except PinsError as error:
        raise StartError(str(error), "sluicegate check tells what this machine lacks") from error
    except LoaderError as error:
        raise StartError(error.message, error.remedy or "sluicegate check tells what this machine lacks") from error
    except KernelError as error:
        raise StartError(str(error), error.hint or "sluicegate check tells what this machine lacks") from error


def require_root() -> None:
    """Raises StartError for everybody else."""
    if os.geteuid() != 0:
        raise StartError("this needs root: it works on programs in the kernel", "run it with sudo")


def prepare(settings: AgentSettings) -> None:
    """Check privileges, enter the namespace, and check what is in it. Call it before any thread starts."""
    require_root()
    if settings.netns is not None:
        with explained():
            enter(settings.netns)
    ports = nat_port_row(settings.nat_ports, local_port_range())
    if ports.level is Level.FAIL:
        raise StartError(ports.message, ports.remedy)


def read_at_least_one(watcher: FileWatcher) -> Files:
    """The files at start; an agent that can read none of them was called wrongly."""
    files = watcher.poll()
    if files is None or not files.texts:
        found = files or Files()
        reasons = [f"{name}: {reason}" for name, reason in found.unreadable.items()]
        reasons += [f"{name}: there is no such file, or no *.yaml, *.yml or *.json in it" for name in found.missing]
        raise StartError(
            "no configuration file can be read: " + "; ".join(reasons),
            "give a file or folder that exists with -f",
            exit_code=2,
        )
    return files
