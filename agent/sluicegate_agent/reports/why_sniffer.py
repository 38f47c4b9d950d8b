"""Why a sniffer does or does not find anything: checks in the order of a packet's way, with the next step. Pure."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate_agent.dpi.live.model import RunState
from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.condition import ConditionType
from sluicegate_agent.reports.conditions import names
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.sniffer_view import SnifferView
from sluicegate_agent.reports.sniffers import sniffer_views
from sluicegate_agent.reports.targets import find_sniffer
from sluicegate_agent.reports.why_accepted import accepted
from sluicegate_api.common import ObjectKey

_LINES = 10
"""How many rules a check lists: it has to fit on a screen."""


def why_sniffer(situation: Situation, target: str) -> tuple[Check, ...]:
    """The checks for ``NAME`` or ``NAMESPACE/NAME``. Raises UnknownTargetError, also for a name in two namespaces."""
    key = find_sniffer(situation, target)
    view = next(view for view in sniffer_views(situation) if ObjectKey(view.namespace, view.name) == key)
    sniffers = situation.configuration.sniffers
    checks = [
        Check(CheckId.AGENT, ok=True, message="the agent answers"),
        accepted(situation, view, paused=key in sniffers.paused),
    ]
    if sniffers.object(key) is None:
        return tuple(checks)
    checks += [_interfaces(view), _sniffing(view)]
    if checks[-1].ok:
        checks += [step(view) for step in _IN_THE_KERNEL]
    return tuple(checks)


def _interfaces(view: SnifferView) -> Check:
    if not view.interfaces:
        return Check(
            CheckId.INTERFACES,
            ok=False,
            message=view.empty.get("interfaces", "it has no interface"),
            next="compare spec.attach.interfaces with: ip -br link",
        )
    wrong = [
        each.reason if each.name in each.reason else f"{each.name}: {each.reason}"
        for each in view.interfaces
        if not each.sniffed
    ]
    right = [f"{each.name} ({each.mode or 'no program'})" for each in view.interfaces if each.sniffed]
    if wrong:
        taken = any("one sniffer per interface" in text for text in wrong)
        remedy = "name other interfaces in spec.attach.interfaces, here or there" if taken else "sluicegate check"
        tail = f"; sniffed: {', '.join(right)}" if right else ""
        return Check(CheckId.INTERFACES, ok=False, message=names(wrong) + tail, next=remedy)
    return Check(
        CheckId.INTERFACES, ok=True, message="\n".join([f"it is sniffed at {', '.join(right)}", *view.missing])
    )


def _sniffing(view: SnifferView) -> Check:
    condition = view.condition(ConditionType.PROGRAMMED)
    if condition is not None and condition.holds:
        return Check(CheckId.SNIFFING, ok=True, message=condition.message)
    message = condition.message if condition is not None else "it is not in the kernel yet"
    return Check(CheckId.SNIFFING, ok=False, message=message, next="see the agent's log; sluicegate check")


def _engine(view: SnifferView) -> Check:
    ready = view.condition(ConditionType.READY)
    if ready is not None and not ready.holds:
        return Check(CheckId.ENGINE, ok=False, message=ready.message, next="see the agent's log; sluicegate check")
    states = [worker.state for worker in view.workers]
    troubles = [
        f"worker {each.number} is {each.state}" + (f": {each.reason}" if each.reason else "")
        for each in states
        if each.state not in {RunState.RUNNING, RunState.STARTING}
    ]
    off = view.empty.get("classification", "")
    wanted = off != "spec.classify.depth is Off"
    if off and wanted:
        troubles.append(f"classification is off: {off}")
    restarts, bad = sum(each.restarts for each in states), sum(each.quarantined for each in states)
    parts = [f"{sum(each.state is RunState.RUNNING for each in states)} of {len(states)} workers run"]
    if view.classification and wanted:
        parts.append(f"nDPI {view.classification} classifies")
    elif not wanted:
        parts.append("flows are not classified, as spec.classify.depth says")
    if restarts:
        parts.append(f"{restarts} restarts")
    if bad:
        parts.append(f"{bad} records that ended one are in quarantine")
    if view.seconds_per_million is not None:
        parts.append(f"{view.seconds_per_million:.2f} s of CPU time for a million packets on the wire")
    message = "; ".join([*troubles, *parts])
    remedy = "make setup installs what classification needs; a worker that ends is started again by itself"
    return Check(CheckId.ENGINE, ok=not troubles, message=message, next=remedy if troubles else "")


def _signatures(view: SnifferView) -> Check:
    signatures = view.signatures
    if signatures is None:
        return Check(CheckId.SIGNATURES, ok=True, message=view.empty.get("signatures", "there are none"))
    counts = ", ".join(f"{count} {state}" for state, count in signatures.counts.items() if count)
    message = counts or view.empty.get("signatures", "there are none")
    if signatures.loading:
        message += "; a newer version is being loaded"
    examples = "".join(f"\n{text}" for text in signatures.examples)
    broken = signatures.error or ("" if signatures.in_force or signatures.loading else message)
    if broken:
        return Check(
            CheckId.SIGNATURES, ok=False, message=f"{broken}{examples}", next="sluicegate rules failed -f FILE"
        )
    return Check(CheckId.SIGNATURES, ok=True, message=message + examples)


def _sniffed(view: SnifferView) -> Check:
    counters = view.counters
    if not counters.packets:
        return Check(
            CheckId.SNIFFED,
            ok=False,
            message=view.empty.get("packets", "no packet passed its interfaces yet"),
            next="see whether traffic passes there: ip -s link; compare spec.attach.interfaces with the routes",
        )
    lines = [f"{counters.packets} packets passed, {counters.opened} flows began, {view.active_flows} are there now"]
    rows = [(name, flows) for name, flows in view.rules if flows]
    lines += [f"rule {name}: {flows} flows" for name, flows in rows[:_LINES]]
    if len(rows) > _LINES:
        lines.append(f"and {len(rows) - _LINES} more rules: sluicegate status -o json")
    if counters.unmatched:
        lines.append(f"no rule: {counters.unmatched} flows, which are left alone")
    wanted = counters.sent or not counters.opened or counters.ignored < counters.packets
    remedy = "" if wanted else "widen the rules of spec.sniff: the first that matches a flow's first packet counts"
    return Check(CheckId.SNIFFED, ok=bool(wanted), message="\n".join(lines), next=remedy)


def _sent(view: SnifferView) -> Check:
    counters = view.counters
    if not counters.sent:
        reason = view.empty.get("sent", "nothing was sent up yet")
        return Check(CheckId.SENT, ok=not counters.packets, message=reason, next="mend what the checks above name")
    share = counters.share_sent or 0.0
    decided = ", ".join(
        f"{count} {words}"
        for words, count in (
            ("flows stopped by a verdict", counters.stopped_by_verdict),
            ("by their budget", counters.stopped_by_budget),
            ("under pressure", counters.stopped_by_pressure),
            ("dropped", counters.dropped_by_verdict),
        )
        if count
    )
    parts = [f"{share:.1%} of the packets were sent up ({counters.sent} of {counters.packets})", decided]
    if counters.dropped:
        parts.append(f"{counters.dropped} packets were dropped by actions")
    return Check(CheckId.SENT, ok=True, message="; ".join(filter(None, parts)))


def _losses(view: SnifferView) -> Check:
    """Losses of the past are told but fail nothing."""
    counters = view.counters
    parts = [text for text in view.notes if "lost" in text or "pressure" in text or "no worker" in text]
    degraded = view.condition(ConditionType.DEGRADED)
    losing = degraded is not None and degraded.reason == "Losing"
    dropped = sum(each.state.lines_dropped for each in view.workers)
    if dropped:
        parts.append(f"{dropped} lines of events were dropped between worker and agent")
    if losing and degraded is not None:
        return Check(
            CheckId.LOSSES,
            ok=False,
            message="; ".join([degraded.message, *parts]),
            next="start the agent with more SLUICEGATE_DPI_WORKERS or larger SLUICEGATE_DPI_RING_BYTES, narrow "
            "spec.sniff, or give flows a smaller spec.budget",
        )
    told = "; ".join(parts) or f"none of {counters.sent} records was lost"
    return Check(CheckId.LOSSES, ok=True, message=told)


def _events(view: SnifferView) -> Check:
    total = sum(view.events.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(view.events.items()))
    output = view.output
    where = view.empty.get("output", "") if output is None else f"written to {output.path or 'standard output'}"
    if output is not None and output.problem:
        return Check(
            CheckId.EVENTS,
            ok=False,
            message=f"{output.problem}; {output.dropped + output.lost} lines did not get there",
            next="mend the output; what comes meanwhile is kept as far as it fits, then counted",
        )
    if not total:
        reason = view.empty.get("events", "none yet")
        return Check(CheckId.EVENTS, ok=True, message=f"no event yet: {reason}")
    missed = output.dropped + output.lost if output is not None else 0
    tail = f"; {missed} did not get there" if missed else ""
    return Check(CheckId.EVENTS, ok=True, message=f"{listed}; {where}{tail}")


_IN_THE_KERNEL: tuple[Callable[[SnifferView], Check], ...] = (_engine, _signatures, _sniffed, _sent, _losses, _events)
