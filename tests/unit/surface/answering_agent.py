"""An agent for tests of commands: real answers over a real control socket, and no kernel behind them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from typer.testing import CliRunner, Result

from sluicegate_agent.cli.main import app
from sluicegate_agent.control.server import ControlServer
from sluicegate_agent.datapath.model import KernelState
from sluicegate_agent.datapath.protocol import Counters
from sluicegate_agent.dpi.events.hub import EventHub
from sluicegate_agent.dpi.events.observing import Observing
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.overrides import OverrideStore
from sluicegate_agent.reports.answers import Answers
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.sniffers import silence

T = TypeVar("T")


class NoKernel:
    """No programs are loaded: what was counted is in the situation."""

    def count(self) -> Future[Counters] | None:
        return None

    def look(self, question: Callable[[Manifest, KernelState], T]) -> Future[T] | None:
        del question
        return None


@dataclass
class AnsweringAgent:
    """``situations`` are those of the next answers, the last of them for good."""

    path: Path
    overrides: OverrideStore
    situations: list[Situation] = field(default_factory=list)

    def situation(self) -> Situation:
        return self.situations.pop(0) if len(self.situations) > 1 else self.situations[0]

    def call(self, *arguments: str) -> Result:
        """Run a command of the command line against it."""
        return CliRunner().invoke(app, [*arguments, "--socket", str(self.path)])


@contextmanager
def answering_agent(folder: Path, *situations: Situation) -> Iterator[AnsweringAgent]:
    agent = AnsweringAgent(folder / "host.sock", OverrideStore(folder), list(situations))
    started, loops = threading.Event(), []

    async def serve() -> None:
        end = asyncio.Event()
        loops.append((asyncio.get_running_loop(), end))
        answers = Answers(agent.situation, NoKernel(), agent.overrides)
        observing = Observing(EventHub(), lambda what: silence(agent.situation(), what))
        async with ControlServer(agent.path, answers.handlers(), {"observe": observing.observe}):
            started.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield agent
    finally:
        loop, end = loops[0]
        loop.call_soon_threadsafe(end.set)
        thread.join()
