"""The sniffers of one worker: their stories, and what the pool orders of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Final

from sluicegate_agent.dpi.actions import ActionTable
from sluicegate_agent.dpi.binding import EngineError
from sluicegate_agent.dpi.engine import Engine
from sluicegate_agent.dpi.engine_model import Action, Batch, Detail, Event, Kind, Reason
from sluicegate_agent.dpi.events.lines import EveLines, FlowTotals, Origin, Signature, reason_word
from sluicegate_agent.dpi.live.compiling import Compiler, Outcome
from sluicegate_agent.dpi.live.messages import ENDS, Configure, Ended, Orders
from sluicegate_agent.dpi.live.story import Story
from sluicegate_agent.dpi.records import IPV6, TUNNEL

_STATES: Final = ("ignore", "sniff", "stop", "drop")
_WHY_BUDGET, _WHY_PRESSURE = 2, 4
_ICMP: Final = frozenset({1, 58})


class Sniffer:
    """One of them. Its story's listener: lines gather here until the worker sends them."""

    def __init__(self, engine: Engine, orders: Orders, node: str) -> None:
        self.vnf, self.node = orders.vnf, node
        self.wanted = self.loaded = b""  # digests of rules
        self.problem = ""
        self.signatures: dict[int, Signature] = {}
        self.lines: defaultdict[str, list[bytes]] = defaultdict(list)
        self._engine = engine
        self.story = Story(EveLines(Origin(orders.vnf, node), engine, self.signatures), self)

    def line(self, kind: str, line: bytes) -> None:
        """For the pool."""
        self.lines[kind].append(line)

    def alert(self, sid: int, action: str) -> None:
        """Counted by the engine."""

    def flow(self, event: Event, totals: FlowTotals) -> None:
        """Counted by the kernel."""

    def drop(self, event: Event, seconds: int, reason: Reason) -> None:
        """What an action asks for."""
        self.story.take(self._engine.drop(event.flow_id, seconds, reason, event.ts_ns))


class Sniffers:
    """All of them. Each event goes to the sniffer of its flow's policy."""

    def __init__(self, engine: Engine, compiler: Compiler) -> None:
        self._engine = engine
        self._compiler = compiler
        self._sniffers: dict[int, Sniffer] = {}
        self._version = 0
        self.config = 0  # version that is in force
        self.ended = 0  # flows whose end was told
        self.failed = 0  # events that could not be written
        self.failure = ""  # why the last of them could not

    @property
    def problems(self) -> Mapping[int, str]:
        """Why a sniffer goes without the rules that it should have."""
        return {number: sniffer.problem for number, sniffer in self._sniffers.items() if sniffer.problem}

    def configure(self, new: Configure) -> None:
        """Budgets, actions and names at once; rules when they are compiled."""
        self._version = new.version
        for number, orders in new.orders.items():
            sniffer = self._sniffers.get(number)
            if sniffer is None or (sniffer.vnf, sniffer.node) != (orders.vnf, new.node):
                if sniffer is not None:
                    self._engine.load_rules(None, number)
                sniffer = self._sniffers[number] = Sniffer(self._engine, orders, new.node)
            sniffer.story.lines.name_interfaces(new.interfaces)
            sniffer.story.actions = ActionTable(orders.actions, self._engine) if orders.actions else None
            self._engine.set_policy(number, orders.engine)
            if orders.digest != sniffer.wanted:
                sniffer.wanted, sniffer.problem = orders.digest, ""
                if orders.rules is None:
                    self.loaded(Outcome(number, orders.digest, None))
                else:
                    self._compiler.compile(number, orders.digest, orders.rules)
        for number, sniffer in self._sniffers.items():
            if number not in new.orders and sniffer.wanted:
                sniffer.wanted = b""
                self.loaded(Outcome(number, b"", None))
        self._note()

    def loaded(self, outcome: Outcome) -> None:
        """Rules are ready: in force from the next record on."""
        sniffer = self._sniffers.get(outcome.policy)
        if sniffer is None or outcome.digest != sniffer.wanted:
            return  # others are wanted by now
        problem = outcome.problem
        if not problem:
            try:
                self._engine.load_rules(outcome.rules, outcome.policy)
            except EngineError as error:
                problem = str(error)
        sniffer.loaded, sniffer.problem = outcome.digest, problem
        if not problem:
            sniffer.signatures.clear()
            sniffer.signatures.update(outcome.signatures)
        self._note()

    def _note(self) -> None:
        if all(sniffer.loaded == sniffer.wanted for sniffer in self._sniffers.values()):
            self.config = self._version

    def take(self, batch: Batch) -> None:
        """Events of any sniffers."""
        for event in batch:
            detail = batch.detail(event)
            sniffer = self._sniffers.get(detail.policy)
            if sniffer is not None:
                try:
                    sniffer.story.take_event(event, detail, batch)
                except Exception as error:  # noqa: BLE001  # hostile packets may have found what nobody thought of
                    self._fail(error)

    def end(self, flow: Ended) -> None:
        """A flow is over in the kernel: its event is written now."""
        self.ended += 1
        sniffer = self._sniffers.get(flow.sniffer)
        if sniffer is None:
            return
        story, totals = sniffer.story, partial(_totals, flow)
        story.over(flow.flow_id, totals)
        self.take(self._engine.end(flow.flow_id, flow.last_ns))
        try:
            if not story.settle(flow.flow_id):
                event, detail = _unknown(flow)
                story.unknown(event, detail, totals(detail))
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """An event costs its line, and no other."""
        self.failed += 1
        self.failure = repr(error)

    def close(self) -> None:
        """The worker ends: every flow's event is written."""
        for sniffer in self._sniffers.values():
            sniffer.story.close()

    def lines(self) -> list[tuple[int, str, list[bytes]]]:
        """What came together, by sniffer and event type; once."""
        found: list[tuple[int, str, list[bytes]]] = []
        for number, sniffer in self._sniffers.items():
            if sniffer.lines:
                found += [(number, kind, lines) for kind, lines in sniffer.lines.items()]
                sniffer.lines = defaultdict(list)
        return found


def _totals(flow: Ended, detail: Detail) -> FlowTotals:
    reason = reason_word(detail.reason)
    if flow.why == _WHY_BUDGET:
        reason = "budget"
    elif flow.why == _WHY_PRESSURE:
        reason = "pressure"
    return FlowTotals(
        (flow.packets_to_server, flow.packets_to_client),
        (flow.octets_to_server, flow.octets_to_client),
        flow.first_ns,
        flow.last_ns,
        bool(flow.closing),
        ENDS[flow.end],
        flow.sent,
        _STATES[flow.state],
        reason,
    )


def _unknown(flow: Ended) -> tuple[Event, Detail]:
    """Events of a flow that the engine knows nothing of: it began before the worker did, or sent nothing up."""
    event = Event(
        flow_id=flow.flow_id,
        ts_ns=flow.last_ns,
        kind=Kind.END,
        action=Action.NONE,
        master=0,
        app=0,
        rule=0,
        packets=0,
        blob_off=0,
        blob_len=0,
        client=flow.client,
        server=flow.server,
        client_port=0 if flow.protocol in _ICMP else flow.client_port,
        server_port=0 if flow.protocol in _ICMP else flow.server_port,
        l4_proto=flow.protocol,
        flags=(IPV6 if flow.family == 6 else 0) | (TUNNEL if flow.tunnel else 0),
        confidence=0,
        state=0,
        ifindex=flow.ifindex,
        direction=0,
    )
    detail = Detail._make([0] * len(Detail._fields))._replace(
        first_ns=flow.first_ns, last_ns=flow.last_ns, tunnel=flow.tunnel, policy=flow.sniffer
    )
    return event, detail
