"""The TCP check: can a connection be opened within the timeout? No byte is sent."""

from __future__ import annotations

from sluicegate_agent.asking.connection import Connection
from sluicegate_agent.health.connection import ask
from sluicegate_agent.health.model import Outcome, Target


async def check_tcp(target: Target) -> Outcome:
    """Open a connection to the target and reset it at once."""
    return await ask(target, _say_nothing)


async def _say_nothing(_connection: Connection) -> str:
    return "connected"
