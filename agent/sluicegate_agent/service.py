"""From settings to a running agent, and how that ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from sluicegate_agent.agent import Agent
from sluicegate_agent.control.protocol import socket_path
from sluicegate_agent.control.server import ControlServer, remove_stale
from sluicegate_agent.dpi.events.observing import Observing
from sluicegate_agent.overrides import OverrideStore
from sluicegate_agent.pins import Pins
from sluicegate_agent.reports.answers import Answers
from sluicegate_agent.reports.metrics import MetricsServer
from sluicegate_agent.reports.sniffers import silence
from sluicegate_agent.settings import AgentSettings
from sluicegate_agent.sniffing.numbers import NumberStore
from sluicegate_agent.source.files import FileWatcher
from sluicegate_agent.source.store import ConfigurationStore
from sluicegate_agent.startup import explained, prepare, read_at_least_one, require_root

log = logging.getLogger(__name__)


def serve(settings: AgentSettings, patterns: Sequence[str]) -> None:
    """Run the agent until a signal ends the process. Raises StartError."""
    watcher = FileWatcher(patterns)
    files = read_at_least_one(watcher)
    prepare(settings)
    with explained():
        pins = Pins(settings.state_dir)
        with pins.lock():
            pins.prepare()
            agent = Agent(settings, pins, watcher)
            agent.take_files(files)
            # Not asyncio.run: it would wait for a thread that waits for a compiler.
            asyncio.new_event_loop().run_until_complete(_serve(settings, agent))
    logging.shutdown()
    os._exit(0)  # for the same reason; all that must be closed is closed


def remove_everything(settings: AgentSettings) -> bool:
    """Remove all that the state directory left in the kernel; False when there was nothing. Raises StartError."""
    require_root()
    with explained():
        found = Pins(settings.state_dir).teardown()
    ConfigurationStore(settings.state_dir).remove()
    OverrideStore(settings.state_dir).remove()
    NumberStore(settings.state_dir).remove()
    remove_stale(socket_path(settings.scope))
    with suppress(OSError):  # it may hold what is not ours
        settings.state_dir.rmdir()
    return found


async def _serve(settings: AgentSettings, agent: Agent) -> None:
    answers = Answers(lambda: agent.situation, agent, agent)
    observing = Observing(agent.sniffing.hub, lambda what: silence(agent.situation, what))
    streams = {"observe": observing.observe}
    async with ControlServer(socket_path(settings.scope), answers.handlers(), streams):
        metrics = MetricsServer(settings.metrics, answers.sample, settings.metrics_backends)
        log.info("metrics are on http://%s:%d/metrics", settings.metrics.host, metrics.port)
        running = asyncio.create_task(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        loop.add_signal_handler(signal.SIGHUP, agent.sniffing.hub.reopen)
        with suppress(asyncio.CancelledError):
            await running
        log.info("the agent ends; its programs go on forwarding")
