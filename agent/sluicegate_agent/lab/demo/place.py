"""Where the demo takes place: a directory and namespaces whose names tell whose they are, so nothing stays for ever."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sluicegate_agent.lab.agent import AgentProcess, teardown
from sluicegate_agent.lab.namespace import NETNS_DIRECTORY, LabError, Namespace
from sluicegate_agent.lab.rig import Rig, RigOptions, rig

PREFIX = "sgdemo"


@contextmanager
def place(options: RigOptions) -> Iterator[tuple[Rig, AgentProcess]]:
    """A network and an agent that is not started yet; both are gone afterwards, and so is what killed demos left."""
    remove_leftovers()
    with (
        tempfile.TemporaryDirectory(prefix=f"{PREFIX}-{os.getpid()}-") as directory,
        rig(options, prefix=PREFIX) as built,
    ):
        agent = AgentProcess(built.balancer, Path(directory))
        try:
            yield built, agent
        finally:
            agent.remove()


def remove_leftovers() -> None:
    """Remove what demos that were killed left behind: pins and namespaces. Their processes died with them.

    The names of a demo's directory and namespaces hold its pid.
    """
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        if not _alive(directory.name):
            with suppress(LabError):
                teardown(f"{PREFIX}-gone", directory / "state")
            shutil.rmtree(directory, ignore_errors=True)
    for path in NETNS_DIRECTORY.glob(f"{PREFIX}-*"):
        if not _alive(path.name):
            with suppress(LabError):
                Namespace(path.name).delete()


def _alive(name: str) -> bool:
    return Path("/proc", name.split("-")[1]).exists()
