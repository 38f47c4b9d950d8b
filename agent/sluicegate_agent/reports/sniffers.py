"""From what the agent knows of its sniffers to what people are shown, with the reason of every empty part. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluicegate_agent.dpi.live.model import WorkerState
from sluicegate_agent.planning.attachments import sniffed_interfaces
from sluicegate_agent.programs import needed_features
from sluicegate_agent.reports.condition import Condition, ConditionType, condition_of
from sluicegate_agent.reports.conditions import refusal
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.sniffer_conditions import NOT_YET, sniffer_conditions
from sluicegate_agent.reports.sniffer_view import SniffedInterface, SnifferView, WorkerView
from sluicegate_agent.sniffing.state import Signatures, SnifferState
from sluicegate_api.detection import Depth
from sluicegate_api.dpisniffer import DpiSniffer

_MOST_NAMED = 5
"""Signatures that a note lists."""


def sniffer_views(situation: Situation) -> Iterator[SnifferView]:
    """All sniffers: those that are valid or were, then those of which no version ever was."""
    objects = situation.configuration.sniffers
    for entry in objects.accepted:
        yield _sniffer(situation, entry.object, entry.source, active=entry.active)
    for key, source in objects.refused:
        yield SnifferView(key.namespace, key.name, source, refusal(objects.problems[key]))


def _sniffer(situation: Situation, sniffer: DpiSniffer, source: str, *, active: bool) -> SnifferView:
    sniffing = situation.sniffing
    obstacle = situation.programs.obstacle_for(needed_features((), [sniffer]))
    if not active:
        obstacle = "spec.paused: nothing of it runs until that is false"
    conditions = sniffer_conditions(situation, sniffer, obstacle)
    state = sniffing.sniffers.get(sniffer.key, SnifferState())
    counters = state.counters
    losses = (*sniffing.ring_lost, *(0 for _ in sniffing.workers))
    return SnifferView(
        sniffer.key.namespace,
        sniffer.key.name,
        source,
        conditions,
        interfaces=tuple(_interfaces(situation, sniffer, state)),
        counters=counters,
        active_flows=sum(state.active.values()),
        rules=tuple(zip(state.rules, counters.rule_flows, strict=False)),
        workers=tuple(
            WorkerView(worker, sniffing.ring_bytes, lost)
            for worker, lost in zip(sniffing.workers, losses, strict=False)
        ),
        signatures=state.signatures,
        classification="" if sniffer.spec.classify.depth is Depth.OFF else sniffing.classification,
        output=state.output,
        events=state.events,
        seconds_per_million=sniffing.seconds_per_million,
        empty=dict(_empty(situation, sniffer, state, conditions)),
        notes=tuple(_notes(sniffer, state, sniffing.workers)),
        missing=tuple(text for text in state.place.problems if text not in state.place.lost.values()),
    )


def _interfaces(situation: Situation, sniffer: DpiSniffer, state: SnifferState) -> Iterator[SniffedInterface]:
    sniffing = situation.sniffing
    wanted = {**sniffed_interfaces(sniffer, situation.network)[0], **state.place.interfaces}
    for ifindex, because in wanted.items():
        link, attached = situation.network.links.get(ifindex), situation.attached.get(ifindex)
        sniffed = sniffing.sniffed.get(ifindex) == sniffer.key
        error = state.place.lost.get(ifindex) or situation.applied.attach_errors.get(ifindex) or NOT_YET
        yield SniffedInterface(
            link.name if link is not None else str(ifindex),
            str(attached.mode) if attached is not None else "",
            sniffed,
            because if sniffed else error,
        )


def _empty(
    situation: Situation, sniffer: DpiSniffer, state: SnifferState, conditions: tuple[Condition, ...]
) -> Iterator[tuple[str, str]]:
    """Parts of the view that hold nothing, each with the reason."""
    programmed, ready = (condition_of(conditions, kind) for kind in (ConditionType.PROGRAMMED, ConditionType.READY))
    counters, away = state.counters, situation.sniffing.engine_away
    missing = programmed.message if programmed is not None and not programmed.holds else ""
    if not state.place.interfaces:
        yield "interfaces", "; ".join(state.place.problems) or missing or NOT_YET
    if not situation.sniffing.workers:
        yield "workers", missing or away or NOT_YET
    if not counters.packets:
        yield "packets", missing or "no packet passed its interfaces yet"
    if not counters.opened:
        yield "flows", missing or ("no packet passed its interfaces yet" if not counters.packets else _no_flow(state))
    if not counters.sent:
        yield "sent", _nothing_sent(state, missing, away)
    if state.signatures is None:
        yield "signatures", "spec.signatures names none" if not sniffer.spec.signatures.given else missing or NOT_YET
    elif not state.signatures.in_force:
        yield "signatures", _no_signature(state)
    if sniffer.spec.classify.depth is Depth.OFF:
        yield "classification", "spec.classify.depth is Off"
    elif not situation.sniffing.classification:
        yield "classification", situation.sniffing.no_classification or missing or away or NOT_YET
    if not state.events:
        reason = ready.message if ready is not None and not ready.holds else ""
        yield "events", reason or ("flows become events when they are known, or end" if counters.sent else _SILENT)
    if sniffer.spec.export.eve is None:
        yield "output", "spec.export.eve is not given: events are counted, and shown by sluicegate observe"
    elif state.output is None:
        yield "output", missing or NOT_YET


_SILENT = "nothing was sent up yet"


def _no_flow(state: SnifferState) -> str:
    counters = state.counters
    if counters.no_room:
        return "the table of flows takes no entry: start the agent with a larger SLUICEGATE_SNIFFED_FLOWS"
    parts = f"{counters.unreadable} unreadable, {counters.fragments} fragments, {counters.no_worker} without a worker"
    return f"of {counters.packets} packets none began a flow: {parts}"


def _nothing_sent(state: SnifferState, missing: str, away: str) -> str:
    counters = state.counters
    if missing:
        return missing
    if not counters.packets:
        return "no packet passed its interfaces yet"
    if counters.no_worker:
        return f"no worker takes packets: {away}" if away else "no worker took packets when they came"
    if counters.lost:
        return f"the rings were full: {counters.lost} records were lost"
    if counters.ignored and not counters.stopped:
        return f"no rule takes what passes: {counters.ignored} packets belong to flows that are left alone"
    return "what passed had nothing to look at"


def _no_signature(state: SnifferState) -> str:
    signatures = state.signatures
    if signatures is None or signatures.loading:
        return "the signatures are being loaded"
    if signatures.error:
        return signatures.error
    if not signatures.left_out:
        return "spec.signatures holds no rule"
    return f"all {signatures.left_out} rules were left out: sluicegate rules failed -f FILE says why"


def _notes(sniffer: DpiSniffer, state: SnifferState, workers: Sequence[WorkerState]) -> Iterator[str]:
    """What is worth knowing beside the conditions."""
    counters = state.counters
    if state.pressed:
        yield (
            f"under pressure: {state.pressed} flows were cut short in the last second, because the rings fill faster "
            "than the engine reads"
        )
    elif counters.stopped_by_pressure:
        yield f"{counters.stopped_by_pressure} flows were cut short under pressure since the sniffer began"
    if counters.lost and not state.losing:
        yield f"{counters.lost} records were lost since the sniffer began, none in the last second"
    if ends := sum(worker.ends_dropped for worker in workers):
        yield f"the events of at most {ends} flows were lost, because a worker ended over them or none took their end"
    if forgotten := sum(worker.forgotten for worker in workers):
        yield f"workers that ended knew {forgotten} flows; what they had not told of these yet is lost"
    if counters.no_worker:
        yield f"{counters.no_worker} packets passed while no worker ran"
    if counters.no_room:
        yield f"{counters.no_room} packets found no room in the table of flows: SLUICEGATE_SNIFFED_FLOWS"
    yield from _signature_notes(sniffer, state.signatures)
    if state.output is not None and (state.output.dropped or state.output.lost):
        yield f"{state.output.dropped + state.output.lost} events did not reach {state.output.path or 'the output'}"
    if sniffer.spec.budget.adaptive is False and counters.lost:
        yield "spec.budget.adaptive is false: flows keep their budget while records are lost"


def _signature_notes(sniffer: DpiSniffer, signatures: Signatures | None) -> Iterator[str]:
    if signatures is not None and signatures.left_out and signatures.in_force:
        yield f"{signatures.left_out} signatures are not in force: sluicegate rules failed -f FILE says why"
    if signatures is not None and signatures.loading:
        yield "signatures are being loaded; those before stay in force"
    elif idle := sorted(_awaited(sniffer) - (signatures.sids if signatures is not None else frozenset())):
        numbers = ", ".join(map(str, idle[:_MOST_NAMED])) + (", ..." if len(idle) > _MOST_NAMED else "")
        yield f"spec.actions waits for signatures that are not in force: {numbers}"
    if signatures is not None and signatures.error and signatures.in_force:
        yield f"the signatures cannot be read as they are now, those before stay in force: {signatures.error}"


def _awaited(sniffer: DpiSniffer) -> set[int]:
    """Signatures that actions name."""
    return {sid for action in sniffer.spec.actions or () for sid in action.match.signature_ids or ()}


def silence(situation: Situation, what: str) -> str:
    """Why no event of a kind comes, "flows" or "alerts", as far as something is in the way; else empty."""
    views = list(sniffer_views(situation))
    reasons = [_obstacle(view, what) for view in views]
    if not views or not all(reasons):
        return ""
    return "; ".join(f"{view.namespace}/{view.name}: {reason}" for view, reason in zip(views, reasons, strict=True))


def _obstacle(view: SnifferView, what: str) -> str:
    ready = view.condition(ConditionType.READY)
    if ready is not None and not ready.holds:
        return ready.message
    if "sent" in view.empty:
        return view.empty["sent"]
    return view.empty.get("signatures", "") if what == "alerts" else ""
