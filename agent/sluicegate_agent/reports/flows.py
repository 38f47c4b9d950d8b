"""Flows for people: which frontends a question means, and the document that answers it. Pure."""

from __future__ import annotations

from dataclasses import replace

from sluicegate_agent.control.questions import DEFAULT_FLOWS, FlowQuestion
from sluicegate_agent.datapath.flowquery import LIVE_STATES, FlowDump, FlowFilter, FlowRow
from sluicegate_agent.datapath.model import ForwardingMode, FrontendId
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.targets import find_target
from sluicegate_agent.reports.top import why_silent

MODES = {
    ForwardingMode.FULL_NAT: "FullNAT",
    ForwardingMode.DNAT: "DNAT",
    ForwardingMode.DIRECT_RETURN: "DirectReturn",
}


def flow_filter(situation: Situation, question: FlowQuestion) -> FlowFilter:
    """The question in the kernel's ids. Raises UnknownTargetError for a load balancer that there is not."""
    return FlowFilter(
        limit=question.limit,
        frontends=_frontends(situation, question),
        client=question.client,
        backend=question.backend,
        states=LIVE_STATES if question.state is None else frozenset({question.state}),
    )


def flows_document(situation: Situation, question: FlowQuestion, dump: FlowDump) -> dict[str, object]:
    """What ``flows -o json`` prints. ``note`` says what was left out, or why there is nothing; else it is empty."""
    left = dump.matched - len(dump.rows)
    note = (
        f"{len(dump.rows)} of {dump.matched} flows that match are shown: narrow it down with --vip, --client, "
        f"--backend, --lb, --state or --protocol, or raise --limit (now {question.limit})"
    )
    return {
        "matched": dump.matched,
        "truncated": left > 0,
        "note": note if left > 0 else "" if dump.matched else _why_none(situation, question, dump),
        "states": {str(state): count for state, count in dump.states.items()},
        "flows": [_flow(situation, row) for row in dump.rows],
    }


def _why_none(situation: Situation, question: FlowQuestion, dump: FlowDump) -> str:
    others = ", ".join(f"{count} {state}" for state, count in dump.states.items() if count)
    if others:
        return f"none in the state that was asked for; in others: {others} (--state)"
    if situation.programs.obstacle:
        return f"the programs are not in use: {situation.programs.obstacle}"
    if not situation.desired.names.frontends:
        return "no VIP is balanced, so there are no flows: sluicegate status says why"
    if replace(question, limit=DEFAULT_FLOWS) != FlowQuestion():
        return "no flow fits what was asked for; leave out a filter"
    return why_silent(situation, status(situation)) or "no flow is open: those of before ended or idled for too long"


def _frontends(situation: Situation, question: FlowQuestion) -> frozenset[FrontendId] | None:
    if question.vip is None and question.balancer is None and question.protocol is None:
        return None
    owner = find_target(situation, question.balancer) if question.balancer is not None else None
    found = set()
    for identity, (service, endpoint) in situation.desired.names.frontends.items():
        if question.vip is not None:
            address, port = question.vip
            if endpoint.address != address or port not in {None, endpoint.port}:
                continue
        if question.protocol not in {None, endpoint.protocol} or owner not in {None, service.object}:
            continue
        found.add(identity)
    return frozenset(found)


def _flow(situation: Situation, row: FlowRow) -> dict[str, object]:
    named = situation.desired.names.frontends.get(row.frontend)
    owner = named[0] if named else None
    return {
        "protocol": row.vip.protocol.name,
        "client": {"address": str(row.client), "port": row.client_port},
        "vip": {"address": str(row.vip.address), "port": row.vip.port},
        "loadBalancer": {"namespace": owner.object.namespace, "name": owner.object.name, "port": owner.port}
        if owner
        else None,
        "backend": {"address": str(row.backend.address), "port": row.backend.port} if row.backend else None,
        "mode": MODES[row.mode],
        "source": {"address": str(row.source), "port": row.source_port} if row.source else None,
        "state": str(row.state),
        "idleSeconds": round(row.idle_seconds, 1),
        "expiresInSeconds": round(row.expires_in_seconds, 1),
    }
