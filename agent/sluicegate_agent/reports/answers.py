"""What the agent tells: answers on the control socket, and samples for the metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerError
from dataclasses import replace

from sluicegate_agent.control.protocol import JsonObject
from sluicegate_agent.control.server import CommandRefusedError, Handler
from sluicegate_agent.datapath.protocol import Counters, DatapathError
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.reports.metrics import Sample
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.why import UnknownTargetError, explanation, why

log = logging.getLogger(__name__)

_COUNTER_SECONDS = 3.0
"""How long an answer waits for fresh counters, in seconds; then those of the last sweep do."""


class Answers:
    """Made from the situation of the moment and counters read for the purpose.

    ``count`` starts reading the counters in the kernel's thread; None while there are none.
    """

    def __init__(self, situation: Callable[[], Situation], count: Callable[[], Future[Counters] | None]) -> None:
        self._situation = situation
        self._count = count

    def handlers(self) -> dict[str, Handler]:
        """Commands of the control socket."""
        return {"status": self._status, "why": self._why}

    def sample(self) -> Sample:
        """For one scrape; called in a thread of the HTTP server."""
        situation = self._fresh()
        return Sample(
            status=status(situation),
            verdicts=situation.counters.verdicts,
            map_entries=situation.counters.map_entries,
            map_capacity=situation.counters.map_capacity,
            config_generation=situation.config_generation,
            config_stale=bool(situation.configuration.problem_lines),
            reconcile_failures=situation.reconcile_failures,
        )

    async def _status(self, arguments: dict[str, str]) -> JsonObject:
        del arguments
        return status(await asyncio.to_thread(self._fresh)).to_json()

    async def _why(self, arguments: dict[str, str]) -> JsonObject:
        try:
            return explanation(why(await asyncio.to_thread(self._fresh), arguments.get("target", "")))
        except UnknownTargetError as error:
            raise CommandRefusedError(str(error)) from error

    def _fresh(self) -> Situation:
        situation = self._situation()
        counting = self._count()
        if counting is None:
            return situation
        try:
            return replace(situation, counters=counting.result(_COUNTER_SECONDS))
        except (NoAnswerError, DatapathError, KernelError) as error:
            log.warning("answered with counters of the last sweep: %s", error or "the kernel's tables are busy")
            return situation
