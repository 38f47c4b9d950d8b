"""A flow has two ends, and one flow event, whichever comes first."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from sluicegate_agent.dpi.actions import ActionTable, FlowAction
from sluicegate_agent.dpi.engine import Engine, available
from sluicegate_agent.dpi.engine_model import DETAIL, EVENT, Action, Batch, Detail, Event, Kind, Policy, Reason
from sluicegate_agent.dpi.events.lines import EveLines, FlowTotals, Origin
from sluicegate_agent.dpi.live.compiling import Compiler
from sluicegate_agent.dpi.live.messages import Configure, Orders
from sluicegate_agent.dpi.live.sniffers import Sniffers
from sluicegate_agent.dpi.live.story import Story

TOTALS = FlowTotals((5, 6), (500, 600), 1_000, 2_000, False, "timeout", 3, "stop", "classified")


class Names:
    """The engine's words."""

    def protocol_name(self, number: int) -> str:
        return {7: "HTTP"}.get(number, "")

    def category(self, app: int) -> str:
        return "Web" if app == 7 else ""

    def risk_name(self, bit: int) -> str:
        return f"Risk {bit}"


class Heard:
    """What a story says."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.kinds: list[str] = []
        self.drops: list[tuple[int, int, Reason]] = []

    def line(self, kind: str, line: bytes) -> None:
        self.kinds.append(kind)
        self.events.append(json.loads(line))

    def alert(self, sid: int, action: str) -> None:
        pass

    def flow(self, event: Event, totals: FlowTotals) -> None:
        pass

    def drop(self, event: Event, seconds: int, reason: Reason) -> None:
        self.drops.append((event.flow_id, seconds, reason))


def batch(kind: Kind, flow: int = 1, rule: int = 0, score: int = 0) -> Batch:
    """One event of a flow over HTTP."""
    zeros = dict.fromkeys(Detail._fields, 0) | {"packets_to_server": 2, "score": score, "reason": Reason.LABEL}
    event = dict.fromkeys(Event._fields, 0) | {"flow_id": flow, "kind": kind, "rule": rule, "app": 7, "packets": 2}
    event |= {"client": bytes(16), "server": bytes(16), "l4_proto": 6, "blob_len": DETAIL.size}
    return Batch(1, EVENT.pack(*event.values()), DETAIL.pack(*zeros.values()))


def told(*actions: FlowAction, **options: int) -> tuple[Story, Heard]:
    heard, names = Heard(), Names()
    return Story(EveLines(Origin("a/b", "n"), names), heard, ActionTable(actions, names), **options), heard


@pytest.mark.parametrize("engine_first", [True, False])
def test_one_flow_event_with_all_packets_whichever_end_comes_first(engine_first: bool) -> None:
    story, heard = told()
    if engine_first:
        story.take(batch(Kind.END))
        assert heard.events == []
        story.over(1, lambda _: TOTALS)
    else:
        story.over(1, lambda _: TOTALS)
        story.take(batch(Kind.END))
    assert story.settle(1)
    assert heard.kinds == ["flow"]
    assert heard.events[0]["flow"]["pkts_toclient"] == 6
    assert heard.events[0]["sniffing"]["records"] == 3
    story.close()
    assert len(heard.events) == 1


def test_a_flow_that_the_engine_does_not_know_is_asked_for() -> None:
    story, heard = told()
    story.over(1, lambda _: TOTALS)
    assert not story.settle(1)
    assert heard.events == []


def test_flows_that_wait_for_their_other_end_are_bounded_and_told_with_what_is_known() -> None:
    story, heard = told(max_early=2)
    for flow in range(1, 5):
        story.take(batch(Kind.END, flow))
    assert [(event["flow_id"], event["flow"]["reason"]) for event in heard.events] == [(1, "evicted"), (2, "evicted")]
    assert heard.events[0]["flow"]["pkts_toserver"] == 2
    story.close()
    assert [event["flow"]["reason"] for event in heard.events[2:]] == ["shutdown"] * 2


def test_a_label_asks_for_the_longest_drop_of_its_actions_and_alerts_for_each() -> None:
    story, heard = told(
        FlowAction("web", protocols=frozenset({"http"}), drop_seconds=9),
        FlowAction("category", categories=frozenset({"web"}), drop_seconds=30),
        FlowAction("risky", min_risk=100, drop_seconds=300),
        FlowAction("seen", protocols=frozenset({"http"})),
    )
    story.take(batch(Kind.CLASSIFIED, score=50))
    assert heard.drops == [(1, 30, Reason.PROTOCOL)]
    found = [(event["alert"]["signature"], event["alert"]["action"]) for event in heard.events]
    assert found == [("action web", "blocked"), ("action category", "blocked"), ("action seen", "allowed")]


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_an_event_that_cannot_be_written_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine() as engine:
        compiler = Compiler()
        sniffers = Sniffers(engine, compiler)
        sniffers.configure(Configure(1, "n", {0: Orders("a/b", Policy())}, {}))
        alert = EveLines.alert

        def broken(lines: EveLines, event: Event, detail: Detail) -> bytes:
            if event.flow_id == 1:
                raise ValueError("odd")
            return alert(lines, event, detail)

        monkeypatch.setattr(EveLines, "alert", broken)
        sniffers.take(batch(Kind.ALERT, 1, rule=5))
        sniffers.take(batch(Kind.ALERT, 2, rule=5))
        ((number, kind, lines),) = sniffers.lines()
        assert (number, kind, len(lines)) == (0, "alert", 1)
        assert (sniffers.failed, sniffers.failure) == (1, "ValueError('odd')")
        assert sniffers.lines() == []
        os.close(compiler.descriptor)


def test_a_signature_drops_only_what_else_its_action_asks_for() -> None:
    action = FlowAction("both", signature_ids=frozenset({5}), min_risk=40, drop_seconds=9)
    story, heard = told(action)
    story.take(batch(Kind.ALERT, rule=5, score=10))
    assert heard.drops == []
    story.take(batch(Kind.ALERT, flow=2, rule=5, score=50))
    assert heard.drops == [(2, 9, Reason.RULE)]
    assert [event["alert"]["action"] for event in heard.events] == ["allowed", "blocked"]
    assert int(Action.DROP) == 2
