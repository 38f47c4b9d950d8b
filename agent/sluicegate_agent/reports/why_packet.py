"""Why one client's packet does or does not get to a backend: its way step by step, then the program's own word. Pure.

Each failed check says by which reasons of bpf/reasons.h the program must confirm it. What the program does with a
made-up packet is the last check; that it agrees with the first failed one is a check of its own, because two accounts
that differ mean that one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sluicegate_agent.control.questions import PacketQuestion, text_of
from sluicegate_agent.datapath.flowquery import FlowState
from sluicegate_agent.datapath.model import ForwardingMode, Protocol
from sluicegate_agent.inspection.evidence import Evidence, Target
from sluicegate_agent.inspection.trial import Trial
from sluicegate_agent.network.model import Path
from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.packet_way import backend_checks, way_back
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.view import AddressView, LoadBalancerView, PortView

_FORWARD = "forward"
_ANY = frozenset({"*"})
"""Agrees with every reason: what was looked up may be another thing by the time the packet came."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A check, and the reasons by which the program confirms its failure; none when such packets still pass."""

    check: Check
    confirmed_by: frozenset[str] = frozenset()


def why_packet(situation: Situation, question: PacketQuestion, evidence: Evidence) -> tuple[Check, ...]:
    """The checks in the order of the packet's way."""
    findings = [
        Finding(Check(CheckId.AGENT, ok=True, message="the agent answers")),
        _arrival(situation, question, evidence),
    ]
    target = evidence.target
    findings.append(_vip(situation, question, target))
    if target is not None:
        findings += _admitted(question, evidence, target)
        findings += (
            Finding(check, _CONFIRMED.get(check.id, frozenset()))
            for check in backend_checks(situation, target, from_here=evidence.from_here)
        )
        findings.append(_capacity(situation, question, target))
        findings += (Finding(check) for check in way_back(situation, question, evidence, target))
        findings.append(Finding(_drops(situation, target)))
    return (*(finding.check for finding in findings), *_trial(situation, question, evidence, findings))


_CONFIRMED = {
    CheckId.TABLE: frozenset({"no_backend", "no_flow", "local_loop"}),
    CheckId.FLOW: frozenset({"backend_gone"}),
    CheckId.ROUTES: frozenset({"no_route", "internal"}),
}


def _arrival(situation: Situation, question: PacketQuestion, evidence: Evidence) -> Finding:
    if evidence.from_here:
        return Finding(_exit(situation, question, evidence))
    attached = situation.attached.get(evidence.ingress) if evidence.ingress is not None else None
    guess = "by the route back to it" if isinstance(evidence.path, Path) else "if it comes in where VIP traffic does"
    if attached is not None:
        why = f": {attached.reason}" if attached.reason else ""
        message = f"{question.client} comes in on {attached.name}, {guess}; programs run there ({attached.mode}{why})"
        return Finding(Check(CheckId.INTERFACES, ok=True, message=message))
    link = situation.network.links.get(evidence.ingress) if evidence.ingress is not None else None
    where = link.name if link else "an interface that is not known"
    used = ", ".join(sorted(each.name for each in situation.attached.values())) or "none"
    return Finding(
        Check(
            CheckId.INTERFACES,
            ok=False,
            message=f"{question.client} comes in on {where}, {guess}, and no program of ours runs there",
            next=f"name {where} in spec.interfaces; in use now: {used}",
        )
    )


def _exit(situation: Situation, question: PacketQuestion, evidence: Evidence) -> Check:
    """Where the node's own packets to the VIP leave: there the program on the way out takes them."""
    vip, way = question.vip.address, evidence.exit
    if not isinstance(way, Path):
        reason = way.reason if way is not None else f"no way to {vip} is known"
        return Check(
            CheckId.INTERFACES,
            ok=False,
            message=f"{question.client} is this node, and its packets to the VIP never leave: {reason}",
            next=f"give this node a route to {vip}, as to any address outside: ip route get {vip}",
        )
    if way.local:
        return Check(
            CheckId.INTERFACES,
            ok=False,
            message=f"{question.client} is this node, which takes {vip} for its own address",
            next=f"remove {vip} from this node's interfaces",
        )
    link = situation.network.links.get(way.ifindex)
    name = link.name if link else str(way.ifindex)
    if way.ifindex in situation.attached:
        message = f"{question.client} is this node: its packets to the VIP leave by {name}, where a program takes them"
        return Check(CheckId.INTERFACES, ok=True, message=message)
    return Check(
        CheckId.INTERFACES,
        ok=False,
        message=f"{question.client} is this node: its packets to the VIP leave by {name}, which has no program of ours",
        next=f"name {name} in spec.interfaces",
    )


def _vip(situation: Situation, question: PacketQuestion, target: Target | None) -> Finding:
    vip = question.vip
    if target is not None:
        named = situation.desired.names.frontends.get(target.id)
        owner = f"{named[0].object}, port {named[0].port}" if named else "a load balancer that is leaving"
        return Finding(Check(CheckId.VIP, ok=True, message=f"{vip} belongs to {owner}"))
    confirmed = frozenset({"not_ours", "no_translation", "other_port", "other_protocol"})
    places = [
        (view, port, address)
        for view in status(situation).loadbalancers
        for port in view.ports
        for address in port.addresses
        if address.address == str(vip.address)
    ]
    if not places:
        known = sorted({row.address for _, row in situation.desired.names.frontends.values()}, key=str)
        listed = ", ".join(map(str, known[:5])) or "none"
        check = Check(
            CheckId.VIP,
            ok=False,
            message=f"{vip.address} is no VIP here; VIPs: {listed}{', …' if len(known) > 5 else ''}",
            next="add it to spec.addresses of a LoadBalancer, or correct the address",
        )
        return Finding(check, confirmed)
    return Finding(_other_port(question, places), confirmed)


def _other_port(question: PacketQuestion, places: list[tuple[LoadBalancerView, PortView, AddressView]]) -> Check:
    vip = question.vip
    for view, port, address in places:
        if (port.port, port.protocol) == (vip.port, vip.protocol.name):
            return Check(
                CheckId.VIP,
                ok=False,
                message=f"{vip} belongs to {view.namespace}/{view.name} and is not balanced: {address.reason}",
                next=f"sluicegate why lb/{view.namespace}/{view.name}",
            )
    ports = ", ".join(sorted({f"{port.protocol}/{port.port}" for _, port, _ in places}))
    view = places[0][0]
    return Check(
        CheckId.VIP,
        ok=False,
        message=f"nothing balances {vip.protocol.name} port {vip.port} of {vip.address}; balanced there: {ports}",
        next=f"add the port to spec.ports of {view.namespace}/{view.name}, or correct it",
    )


def _admitted(question: PacketQuestion, evidence: Evidence, target: Target) -> Iterator[Finding]:
    """Sources and limits bind new flows alone."""
    known = target.flow is not None and target.flow.state is not FlowState.CLOSED
    yield _sources(question, target, known=known)
    yield _limits(evidence, target, known=known)


def _sources(question: PacketQuestion, target: Target, *, known: bool) -> Finding:
    if target.sources is None:
        return Finding(Check(CheckId.SOURCES, ok=True, message="every client may open flows"))
    admitting = [network for network in target.sources if question.client in network]
    if admitting:
        message = f"allowedSources holds {max(admitting, key=lambda network: network.prefixlen)}"
        return Finding(Check(CheckId.SOURCES, ok=True, message=message))
    message = f"{question.client} is not among the {len(target.sources)} networks of allowedSources"
    if known:
        return Finding(Check(CheckId.SOURCES, ok=True, message=f"{message}; the flow it has already goes on"))
    check = Check(CheckId.SOURCES, ok=False, message=message, next="add its network to spec.allowedSources")
    return Finding(check, frozenset({"source_denied"}))


def _limits(evidence: Evidence, target: Target, *, known: bool) -> Finding:
    rate, admission, limit = target.row.rate, target.admission, evidence.settings.half_open_limit
    if target.row.endpoint.protocol is Protocol.TCP:
        half_open = f"{admission.half_open} of at most {limit} half-open flows"
    else:
        half_open = "no limit of half-open flows for UDP"
    if known:
        return Finding(Check(CheckId.LIMITS, ok=True, message=f"limits bind new flows alone; {half_open}"))
    if admission.rate_is_used_up:
        check = Check(
            CheckId.LIMITS,
            ok=False,
            message=f"maxNewConnectionsPerSecond: {rate} new flows per second are used up at this moment",
            next="ask again: if it stays so, raise spec.maxNewConnectionsPerSecond",
        )
        return Finding(check, _ANY)
    if target.row.endpoint.protocol is Protocol.TCP and admission.half_open >= limit:
        nat = target.row.mode is ForwardingMode.FULL_NAT
        fate = "new ones are dropped" if nat else "new ones are forwarded by hash, without an entry"
        check = Check(
            CheckId.LIMITS,
            ok=not nat,
            message=f"a flood: {half_open}; {fate}",
            next="" if not nat else "find who sends SYNs and never answers: sluicegate flows --state half-open",
        )
        return Finding(check, _ANY if nat else frozenset())
    new = f"at most {rate} new flows per second, not used up; " if rate else ""
    return Finding(Check(CheckId.LIMITS, ok=True, message=f"{new}{half_open}"))


def _capacity(situation: Situation, question: PacketQuestion, target: Target) -> Finding:
    """Fill level of the tables as the last sweep found it, and of the ports towards the backend."""
    family = question.client.version
    full_nat = target.row.mode is ForwardingMode.FULL_NAT
    names = [f"nat{family}", f"flows{family}"] if full_nat else [f"flows{family}"]
    counters = situation.counters
    levels = {
        name: (counters.map_entries.get(name, 0), counters.map_capacity[name])
        for name in names
        if name in counters.map_capacity
    }
    told = [f"{name} holds {used} of {size}" for name, (used, size) in levels.items()]
    if not full_nat:
        return Finding(Check(CheckId.CAPACITY, ok=True, message="; ".join(told) or "no table was counted yet"))
    ports = situation.desired.state.settings.nat_port_count
    busiest = max((situation.census.flows.get(key, 0) for key in target.table), default=0)
    told.append(f"{busiest} of {ports} source ports are in use towards the busiest backend")
    used, size = levels.get(f"nat{family}", (0, 1))
    new = target.flow is None
    if new and used >= size:
        check = Check(
            CheckId.CAPACITY,
            ok=False,
            message="; ".join(told),
            next="start the agent with more: SLUICEGATE_NAT_ENTRIES",
        )
        return Finding(check, _ANY)
    if new and busiest * 10 >= ports * 9:
        check = Check(
            CheckId.CAPACITY,
            ok=False,
            message="; ".join(told),
            next="add backends, give more ports with --nat-ports, or use forwarding.mode DNAT",
        )
        return Finding(check, _ANY)
    return Finding(Check(CheckId.CAPACITY, ok=True, message="; ".join(told)))


def _drops(situation: Situation, target: Target) -> Check:
    """Of the past, so they fail nothing: what happens now, the packet tells."""
    traffic = situation.counters.frontends.get(target.id)
    if traffic is None or not traffic.dropped:
        return Check(CheckId.DROPS, ok=True, message="no new flow of this VIP and port was refused so far")
    totals: dict[str, int] = {}
    for verdict in situation.counters.verdicts:
        if verdict.kind == "drop" and verdict.packets:
            totals[verdict.reason] = totals.get(verdict.reason, 0) + verdict.packets
    listed = ", ".join(f"{reason} {count}" for reason, count in sorted(totals.items(), key=lambda item: -item[1]))
    return Check(
        CheckId.DROPS,
        ok=True,
        message=f"{traffic.dropped} packets for this VIP and port were dropped so far; on this node by reason: "
        f"{listed}",
    )


def _trial(
    situation: Situation, question: PacketQuestion, evidence: Evidence, findings: list[Finding]
) -> Iterator[Check]:
    trial = evidence.trial
    if trial is None:
        yield Check(CheckId.PACKET, ok=False, message=evidence.obstacle, next="mend the first check above that fails")
        return
    forwarded = trial.last.kind == _FORWARD
    blocking = [finding for finding in findings if not finding.check.ok and finding.confirmed_by]
    yield Check(
        CheckId.PACKET,
        ok=forwarded,
        message=_story(situation, question, evidence, trial),
        next="" if forwarded else _after_refusal(blocking),
    )
    reasons = {reason.name.lower() for reason in trial.last.reasons}
    first = blocking[0] if blocking else None
    if first is None:
        agrees = forwarded
        claim = "the checks found nothing that stops the packet"
    else:
        agrees = first.confirmed_by is _ANY or bool(reasons & first.confirmed_by)
        claim = f"the check {first.check.id!s} says that the packet does not get through"
    yield Check(
        CheckId.AGREEMENT,
        ok=agrees,
        message=f"{claim}, and so does the program" if agrees else f"{claim}, but the program does something else",
        next="" if agrees else "ask again; if it stays so, trust the program and report this answer as a bug",
    )


def _after_refusal(blocking: list[Finding]) -> str:
    if blocking:
        return f"mend what the check {blocking[0].check.id!s} says"
    return "see the section of this reason in docs/troubleshooting.md, under packet"


def _story(situation: Situation, question: PacketQuestion, evidence: Evidence, trial: Trial) -> str:
    attached = situation.attached[evidence.ingress] if evidence.ingress is not None else None
    where = f" on {attached.name}" if attached else ""
    words = []
    for step in trial.steps:
        reasons = " or ".join(f"{reason.name.lower()}: {reason.text}" for reason in step.reasons)
        words.append(f"{step.hook}: {step.kind} ({reasons or 'nothing was counted'})")
    sent = ""
    if trial.sent is not None:
        seen = text_of(trial.sent.source, trial.sent.source_port)
        sent = f"; it left for {text_of(trial.sent.destination, trial.sent.destination_port)} from {seen}"
    tail = "; the flow that it opened was removed again" if trial.opened else ""
    kind = f"{question.vip.protocol.name} {trial.packet}"
    return f"a {kind} of {question.client_text} run{where}: {', then '.join(words)}{sent}{tail}"
