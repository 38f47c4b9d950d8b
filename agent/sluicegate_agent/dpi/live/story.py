"""What the engine's events become: lines, drops that actions ask for, and one flow event at a flow's end.

A flow has two ends. The engine may let go of it while its packets go on, and then keeps nothing. Who counts its
packets, the kernel or its twin, knows when it is over. The flow event is written when both are known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from sluicegate_agent.dpi.actions import ActionTable
from sluicegate_agent.dpi.engine_model import Action, Batch, Detail, Event, Kind, Reason
from sluicegate_agent.dpi.engine_model import End as EngineEnd
from sluicegate_agent.dpi.events.lines import EveLines, FlowTotals, reason_word

MAX_EARLY = 65_536
"""Flows that the engine let go of and that go on: about 2 kB each."""

_MARK = b'"event_type":"'
_STATES = {Action.STOP: "stop", Action.DROP: "drop"}

Totals = Callable[[Detail], FlowTotals]
"""What was counted of a flow that is over, with what the engine knows."""


class Listener(Protocol):
    """Hears what comes of events."""

    def line(self, kind: str, line: bytes) -> None:
        """A whole line, and its event type."""
        ...

    def alert(self, sid: int, action: str) -> None:
        """A rule matched, or an action of that name without a rule: then the sid is 0."""
        ...

    def flow(self, event: Event, totals: FlowTotals) -> None:
        """A flow is over."""
        ...

    def drop(self, event: Event, seconds: int, reason: Reason) -> None:
        """The event's flow is to be dropped."""
        ...


class Story:
    """The events of one sniffer."""

    def __init__(
        self, lines: EveLines, listener: Listener, actions: ActionTable | None = None, max_early: int = MAX_EARLY
    ) -> None:
        """``max_early``: flows that wait for their other end; the oldest are written with what the engine counted."""
        self.lines = lines
        self.actions = actions
        self._listener = listener
        self._max_early = max_early
        self._over: dict[int, Totals] = {}
        self._early: OrderedDict[int, tuple[Event, Detail, bytes]] = OrderedDict()

    def take(self, batch: Batch) -> None:
        """All events of a batch."""
        for event in batch:
            self.take_event(event, batch.detail(event), batch)

    def take_event(self, event: Event, detail: Detail, batch: Batch) -> None:
        """One event of a batch."""
        kind = event.kind
        if kind in {Kind.CLASSIFIED, Kind.GAVE_UP}:
            self._classified(event, detail, batch.text(event))
        elif kind == Kind.ALERT:
            self._alert(event, detail)
        elif kind == Kind.END:
            self._end(event, detail, batch.text(event))

    def over(self, flow_id: int, totals: Totals) -> None:
        """A flow is over for who counts it. Tell the engine next, and then `settle` it."""
        self._over[flow_id] = totals

    def settle(self, flow_id: int) -> bool:
        """The engine was told that the flow is over. False when it never knew the flow, or no longer does."""
        totals, early = self._over.pop(flow_id, None), self._early.pop(flow_id, None)
        if totals is None:
            return True
        if early is None:
            return False
        self._flow(*early, totals(early[1]))
        return True

    def unknown(self, event: Event, detail: Detail, totals: FlowTotals) -> None:
        """A flow is over that the engine never knew; ``event`` says between whom it was."""
        self._flow(event, detail, b"", totals)

    def close(self) -> None:
        """Write what waits for an end that nobody will tell, with what the engine counted."""
        while self._early:
            self._let_go("shutdown")

    def _classified(self, event: Event, detail: Detail, text: bytes) -> None:
        for line in self.lines.classified(event, detail, text):
            start = line.index(_MARK) + len(_MARK)
            self._listener.line(line[start : line.index(b'"', start)].decode(), line)
        if self.actions is None:
            return
        seconds = 0
        for action in self.actions.of_label(event, detail):
            self._listener.alert(0, action.name)
            line = self.lines.action(event, detail, action.name, blocked=action.drop_seconds > 0)
            self._listener.line("alert", line)
            seconds = max(seconds, action.drop_seconds)
        if seconds:
            self._listener.drop(event, seconds, Reason.PROTOCOL)

    def _alert(self, event: Event, detail: Detail) -> None:
        seconds = 0 if self.actions is None else self.actions.drop_seconds(event.rule, event, detail)
        if seconds:
            event = event._replace(action=Action.DROP)
        self._listener.alert(event.rule, "")
        self._listener.line("alert", self.lines.alert(event, detail))
        if seconds:
            self._listener.drop(event, seconds, Reason.RULE)

    def _end(self, event: Event, detail: Detail, text: bytes) -> None:
        totals = self._over.pop(event.flow_id, None)
        if totals is not None:
            self._flow(event, detail, text, totals(detail))
            return
        self._early[event.flow_id] = (event, detail, text)
        if len(self._early) > self._max_early:
            self._let_go("evicted")

    def _let_go(self, end: str) -> None:
        _, (event, detail, text) = self._early.popitem(last=False)
        self._flow(event, detail, text, counted(event, detail, end))

    def _flow(self, event: Event, detail: Detail, text: bytes, totals: FlowTotals) -> None:
        self._listener.flow(event, totals)
        for line in self.lines.flow(event, detail, text, totals):
            self._listener.line("anomaly" if b'"event_type":"anomaly"' in line else "flow", line)


def counted(event: Event, detail: Detail, end: str) -> FlowTotals:
    """A flow's counts as the engine has them: of the packets that went up."""
    return FlowTotals(
        (detail.packets_to_server, detail.packets_to_client),
        (detail.bytes_to_server, detail.bytes_to_client),
        detail.first_ns,
        detail.last_ns,
        detail.end == EngineEnd.CLOSED,
        end,
        event.packets,
        _STATES.get(Action(event.action), "sniff"),
        reason_word(detail.reason),
    )
