"""What the agent tells: answers on the control socket, and samples for the metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerError
from typing import Protocol, TypeVar

from sluicegate_agent.control.durations import DurationError, parse_ttl
from sluicegate_agent.control.protocol import JsonObject
from sluicegate_agent.control.questions import FlowQuestion, PacketQuestion, QuestionError
from sluicegate_agent.control.server import CommandRefusedError, Handler
from sluicegate_agent.datapath.flowdump import dump_flows
from sluicegate_agent.datapath.flowquery import FlowDump, FlowFilter
from sluicegate_agent.datapath.flows import FlowRules
from sluicegate_agent.datapath.model import InterfaceIndex, KernelState
from sluicegate_agent.datapath.protocol import Counters, DatapathError
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.inspection.evidence import Evidence, gather
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.planning.attachments import arrival_interfaces
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.reports.checks import Check, CheckId, explanation
from sluicegate_agent.reports.flows import flow_filter, flows_document
from sluicegate_agent.reports.metrics import Sample
from sluicegate_agent.reports.operator import drain_document, ready_document
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.targets import UnknownTargetError, find_backends, names_document
from sluicegate_agent.reports.top import top_document
from sluicegate_agent.reports.why import why
from sluicegate_agent.reports.why_packet import why_packet
from sluicegate_agent.reports.why_sniffer import why_sniffer
from sluicegate_api.validation import SNIFFER_KIND

log = logging.getLogger(__name__)

_COUNTER_SECONDS = 3.0
"""How long an answer waits for fresh counters, in seconds; then those of the last sweep do."""

_KERNEL_SECONDS = 8.0
"""How long it waits for the kernel's thread otherwise; less than either side of the control socket waits."""

T = TypeVar("T")


class Kernel(Protocol):
    """Work for the kernel's thread; what it returns is None while no programs are loaded."""

    def count(self) -> Future[Counters] | None:
        """Start reading the counters."""
        ...

    def look(self, question: Callable[[Manifest, KernelState], T]) -> Future[T] | None:
        """Start answering a question about the loaded set and its tables."""
        ...


class Operator(Protocol):
    """Who carries out what an operator says of backends on this node; ``until`` is wall-clock time in seconds."""

    def drain(self, backends: Collection[BackendKey], until: float, by: str) -> None:
        """These backends get no new flows until then."""
        ...

    def ready(self, backends: Collection[BackendKey]) -> Collection[BackendKey]:
        """Take that back; those of which it was said."""
        ...


class Answers:
    """Made from the situation of the moment and what is read from the kernel for the purpose."""

    def __init__(self, situation: Callable[[], Situation], kernel: Kernel, operator: Operator | None = None) -> None:
        self._situation = situation
        self._kernel = kernel
        self._operator = operator

    def handlers(self) -> dict[str, Handler]:
        """Commands of the control socket."""
        answers: dict[str, Handler] = {
            "status": self._status,
            "why": self._why,
            "why-packet": self._why_packet,
            "flows": self._flows,
            "top": self._top,
            "names": self._names,
        }
        if self._operator is not None:
            answers |= {"drain": self._drain, "ready": self._ready}
        return answers

    def sample(self) -> Sample:
        """For one scrape; called in a thread of the HTTP server."""
        return Sample.of(self._fresh())

    async def _status(self, arguments: dict[str, str]) -> JsonObject:
        del arguments
        return status(await asyncio.to_thread(self._fresh)).to_json()

    async def _why(self, arguments: dict[str, str]) -> JsonObject:
        explain = why_sniffer if arguments.get("kind") == SNIFFER_KIND else why
        try:
            return explanation(explain(await asyncio.to_thread(self._fresh), arguments.get("target", "")))
        except UnknownTargetError as error:
            raise CommandRefusedError(str(error)) from error

    async def _why_packet(self, arguments: dict[str, str]) -> JsonObject:
        question = _understood(PacketQuestion.parse, arguments)
        situation = await asyncio.to_thread(self._fresh)
        arrival = _arrival(situation)

        def look(manifest: Manifest, state: KernelState) -> Evidence:
            return gather(question, situation.attached, manifest, state, arrival=arrival)

        looking = self._kernel.look(look)
        if looking is None:
            obstacle = situation.programs.obstacle or "no load balancer needs any"
            loading = Check(
                CheckId.AGENT, ok=False, message=f"no programs are loaded: {obstacle}", next="sluicegate status"
            )
            return explanation([loading])
        return explanation(why_packet(situation, question, await _answered(looking)))

    async def _flows(self, arguments: dict[str, str]) -> JsonObject:
        question = _understood(FlowQuestion.parse, arguments)
        situation = self._situation()
        try:
            wanted = flow_filter(situation, question)
        except UnknownTargetError as error:
            raise CommandRefusedError(str(error)) from error
        looking = self._kernel.look(lambda manifest, state: _dump(manifest, state, wanted))
        found = FlowDump() if looking is None else await _answered(looking)
        return await asyncio.to_thread(flows_document, situation, question, found)

    async def _top(self, arguments: dict[str, str]) -> JsonObject:
        del arguments
        situation = await asyncio.to_thread(self._fresh)
        return top_document(situation, time.monotonic())

    async def _names(self, arguments: dict[str, str]) -> JsonObject:
        del arguments
        return names_document(self._situation())

    async def _drain(self, arguments: dict[str, str]) -> JsonObject:
        backends = self._named(arguments)
        try:
            until = time.time() + parse_ttl(arguments.get("ttl", ""))
        except DurationError as error:
            raise CommandRefusedError(str(error)) from error
        situation = self._situation()
        if self._operator is not None:
            self._operator.drain(backends, until, arguments.get("by", ""))
        return drain_document(situation, backends, until)

    async def _ready(self, arguments: dict[str, str]) -> JsonObject:
        backends = self._named(arguments)
        situation = self._situation()
        taken_back = self._operator.ready(backends) if self._operator is not None else ()
        return ready_document(situation, backends, taken_back)

    def _named(self, arguments: dict[str, str]) -> tuple[BackendKey, ...]:
        try:
            return find_backends(self._situation(), arguments.get("target", ""))
        except UnknownTargetError as error:
            raise CommandRefusedError(str(error)) from error

    def _fresh(self) -> Situation:
        situation = self._situation()
        counting = self._kernel.count()
        if counting is None:
            return situation
        try:
            return situation.with_counters(counting.result(_COUNTER_SECONDS))
        except (NoAnswerError, DatapathError, KernelError) as error:
            log.warning("answered with counters of the last sweep: %s", error or "the kernel's tables are busy")
            return situation


def _dump(manifest: Manifest, state: KernelState, wanted: FlowFilter) -> FlowDump:
    with KernelTables(manifest) as tables:
        rules = FlowRules.of(state.frontends, tables["frontends"].capacity, state.settings, jiffies(), hertz())
        return dump_flows(tables, state, rules, wanted, hertz())


def _understood(parse: Callable[[dict[str, str]], T], arguments: dict[str, str]) -> T:
    try:
        return parse(arguments)
    except QuestionError as error:
        raise CommandRefusedError(str(error)) from error


async def _answered(looking: Future[T]) -> T:
    try:
        async with asyncio.timeout(_KERNEL_SECONDS):
            return await asyncio.wrap_future(looking)
    except TimeoutError:
        raise CommandRefusedError("the kernel's tables are busy with other work: ask again in a while") from None
    except (DatapathError, KernelError) as error:
        raise CommandRefusedError(f"the kernel's tables cannot be read: {error}") from error


def _arrival(situation: Situation) -> InterfaceIndex | None:
    """Where VIP traffic comes in, for clients that no route leads to."""
    for entry in situation.configuration.accepted:
        for ifindex in arrival_interfaces(entry.object, situation.network)[0]:
            if ifindex in situation.attached:
                return ifindex
    return None
