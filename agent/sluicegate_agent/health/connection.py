"""One conversation with a target, as every check has one, made into the check's outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sluicegate_agent.asking.connection import Connection, OwnTroubleError, UnansweredError, converse
from sluicegate_agent.health.model import Outcome, Result, Target


class CheckFailedError(Exception):
    """The check has failed; the message says why."""


async def ask(target: Target, talk: Callable[[Connection], Awaitable[str]]) -> Outcome:
    """Connect to the target, ``talk`` to it, and reset the connection at once.

    ``talk`` returns the reason for which the check has passed, or raises :class:`CheckFailedError` or OSError.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        reason = await converse(target.address, target.port, target.timeout, talk)
    except (CheckFailedError, UnansweredError) as failure:
        return Outcome(Result.FAILED, str(failure))
    except OwnTroubleError as trouble:
        return Outcome(Result.INCONCLUSIVE, f"could not check: {trouble}")
    return Outcome(Result.PASSED, reason, (loop.time() - started) * 1000)
