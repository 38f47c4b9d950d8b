"""From the VIP to a backend and back to the client: the middle of ``why SRC:PORT VIP:PORT``. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sluicegate_agent.control.questions import PacketQuestion, text_of
from sluicegate_agent.datapath.flowquery import FlowRow, FlowState
from sluicegate_agent.datapath.model import Backend, BackendId, BackendState, ForwardingMode, Nexthop, Protocol
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.inspection.evidence import Evidence, Target
from sluicegate_agent.network.model import NoPath
from sluicegate_agent.planning.routes import small_for_ipv6
from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.conditions import names
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.why import SYSCTL

_STATES = {
    BackendState.FREE: "free",
    BackendState.ACTIVE: "active",
    BackendState.DRAINING: "draining",
    BackendState.DOWN: "down",
}


def backend_checks(situation: Situation, target: Target, *, from_here: bool = False) -> Iterator[Check]:
    """The flow or, without one, the candidates for a new one; then the way to them.

    ``from_here``: the client is on this node, for which backends on it are no candidates.
    """
    flow = target.flow
    yield _flow(target)
    if flow is not None and flow.state is not FlowState.CLOSED:
        row = target.backends.get(flow.backend_id)
        chosen = {flow.backend_id: row} if row is not None and row.state is not BackendState.FREE else {}
    else:
        chosen = _candidates(target)
        if from_here and chosen and all(row.local for row in chosen.values()):
            yield Check(
                CheckId.TABLE,
                ok=False,
                message="the client and all usable backends are on this node: those it cannot reach through a VIP",
                next="ask a backend of this node directly, or add one elsewhere",
            )
            return
        if from_here:
            chosen = {key: row for key, row in chosen.items() if not row.local}
        yield _table(situation, target, chosen)
    if chosen:
        yield _health(situation, target, chosen)
        yield _routes(situation, target, chosen)
        yield _neighbours(situation, target, chosen)
        yield _mtu(situation, target, chosen)


def way_back(situation: Situation, question: PacketQuestion, evidence: Evidence, target: Target) -> Iterator[Check]:
    """Whether an answer finds its way from this node to the client."""
    if target.row.mode is ForwardingMode.DIRECT_RETURN:
        yield Check(
            CheckId.RETURN, ok=True, message="DirectReturn: the backend answers the client itself, past this node"
        )
        return
    sysctl = SYSCTL[question.client.version]
    if situation.network.forwarding.get(question.client.version, False):
        yield Check(CheckId.FORWARDING, ok=True, message="this node forwards packets")
    else:
        yield Check(
            CheckId.FORWARDING,
            ok=False,
            message=f"{sysctl} is off: this node sends no answer on",
            next=f"sysctl -w {sysctl}=1",
        )
    path = evidence.path
    if evidence.from_here:
        yield Check(CheckId.RETURN, ok=True, message="answers are handed to this node's own stack")
        return
    if isinstance(path, NoPath):
        yield Check(CheckId.RETURN, ok=False, message=path.reason, next=f"ip route get {question.client}")
        return
    link = situation.network.links.get(path.ifindex)
    through = "" if path.onlink else f" through {path.gateway}"
    yield Check(
        CheckId.RETURN,
        ok=True,
        message=f"answers to {question.client} leave by {link.name if link else path.ifindex}{through}",
    )


def _flow(target: Target) -> Check:
    flow = target.flow
    if flow is None:
        return Check(CheckId.FLOW, ok=True, message="no flow of this client and port is known: a new one is opened")
    where = text_of(flow.backend.address, flow.backend.port) if flow.backend else "a backend that is gone"
    source = f", where it comes from {text_of(flow.source, flow.source_port or 0)}" if flow.source else ""
    message = (
        f"{flow.state}, at {where}{source}; idle for {flow.idle_seconds:.0f} s, "
        f"forgotten in {flow.expires_in_seconds:.0f} s"
    )
    if _is_lost(flow, target):
        return Check(
            CheckId.FLOW,
            ok=False,
            message=f"{message}: the backend was removed and its time to drain is over",
            next="connect again; a longer spec.drainSeconds lets connections end by themselves",
        )
    return Check(CheckId.FLOW, ok=True, message=message)


def _is_lost(flow: FlowRow, target: Target) -> bool:
    """A UDP flow moves to another backend, a TCP connection cannot."""
    row = target.backends.get(flow.backend_id)
    if flow.vip.protocol is Protocol.UDP or flow.state is FlowState.HALF_OPEN:
        return False
    return flow.backend is None or row is None or row.endpoint != flow.backend


def _candidates(target: Target) -> dict[BackendId, Backend]:
    return {
        key: row for key, row in target.backends.items() if key in target.table and row.state is BackendState.ACTIVE
    }


def _table(situation: Situation, target: Target, candidates: dict[BackendId, Backend]) -> Check:
    total = [row for row in target.backends.values() if row.state is not BackendState.FREE]
    others = [
        f"{_name(row)} is {_STATES[row.state]}" + _held(situation, key)
        for key, row in target.backends.items()
        if key not in candidates and row.state is not BackendState.FREE
    ]
    tail = f"; {names(others)}" if others else ""
    if not candidates:
        reasons = names(others) or "it has none in the kernel"
        return Check(
            CheckId.TABLE,
            ok=False,
            message=f"no backend takes new flows: {reasons}",
            next="mend a backend, or give one a weight above 0: sluicegate status",
        )
    listed = names([_name(row) for row in candidates.values()])
    message = f"{len(candidates)} of {len(total)} backends take new flows: {listed}{tail}"
    return Check(CheckId.TABLE, ok=True, message=message)


def _health(situation: Situation, target: Target, chosen: dict[BackendId, Backend]) -> Check:
    service = situation.desired.names.services.get(target.row.service)
    panic = situation.desired.panics.get(service) if service else None
    failing = [f"{_name(row)}{reason}" for key, row in chosen.items() if (reason := _reason(situation, key))]
    if failing:
        return Check(
            CheckId.HEALTH,
            ok=False,
            message=f"checks fail, packets go there all the same: {names(failing)}"
            + (f"; panic: {panic}" if panic else ""),
            next="start the server there, or see whether a firewall stands between",
        )
    draining = [_name(row) for row in chosen.values() if row.state is BackendState.DRAINING]
    if draining:
        return Check(CheckId.HEALTH, ok=True, message=f"{draining[0]} is leaving and keeps this flow until it drained")
    return Check(CheckId.HEALTH, ok=True, message="none of them fails its health check")


def _routes(situation: Situation, target: Target, chosen: dict[BackendId, Backend]) -> Check:
    lost = {
        row.endpoint.address: _no_way(situation, row)
        for row in chosen.values()
        if row.endpoint is not None and row.nexthop not in target.nexthops
    }
    if lost:
        address, reason = next(iter(lost.items()))
        return Check(CheckId.ROUTES, ok=False, message=reason, next=f"ip route get {address}")
    hops = {_hop_text(situation, target.nexthops[row.nexthop]) for row in chosen.values()}
    return Check(CheckId.ROUTES, ok=True, message=f"the way there is known: {names(sorted(hops))}")


def _no_way(situation: Situation, row: Backend) -> str:
    address = row.endpoint.address if row.endpoint else None
    path = situation.network.paths.get(address) if address else None
    return path.reason if isinstance(path, NoPath) else f"no next hop to {address} is in the kernel"


def _neighbours(situation: Situation, target: Target, chosen: dict[BackendId, Backend]) -> Check:
    """Unresolved is no fault by itself: the kernel resolves a neighbour with the first packet."""
    hops = [target.nexthops[row.nexthop] for row in chosen.values() if row.nexthop in target.nexthops]
    unresolved = sorted({str(hop.gateway) for hop in hops if hop.destination_mac is None and not hop.local})
    if not unresolved:
        return Check(CheckId.NEIGHBOURS, ok=True, message="every next hop has a MAC address")
    traffic = situation.counters.frontends.get(target.id)
    answered = target.row.mode is ForwardingMode.DIRECT_RETURN or traffic is None or traffic.reply_packets
    if traffic and traffic.opened and not answered:
        return Check(
            CheckId.NEIGHBOURS,
            ok=False,
            message=f"no MAC address for {names(unresolved)}, and no reply ever came",
            next=f"ping {unresolved[0]}; ip neigh show {unresolved[0]}",
        )
    return Check(CheckId.NEIGHBOURS, ok=True, message=f"{names(unresolved)} will be resolved with the first packet")


def _mtu(situation: Situation, target: Target, chosen: dict[BackendId, Backend]) -> Check:
    hops = [target.nexthops[row.nexthop] for row in chosen.values() if row.nexthop in target.nexthops]
    smallest = min(hops, key=lambda hop: hop.mtu, default=None)
    if smallest is None:
        return Check(CheckId.MTU, ok=True, message="no way, no MTU")
    link = situation.network.links.get(smallest.ifindex)
    problem = small_for_ipv6(smallest.mtu, link.name if link else str(smallest.ifindex))
    if target.row.endpoint.address.version == 6 and problem:
        what, _, remedy = problem.partition(": ")
        return Check(CheckId.MTU, ok=False, message=what, next=remedy)
    message = f"packets of up to {smallest.mtu} bytes fit; the sender of a larger one is told so"
    return Check(CheckId.MTU, ok=True, message=message)


def _reason(situation: Situation, key: BackendId) -> str:
    """Why the checks of a backend fail, in brackets; empty when they do not."""
    named = situation.desired.names.backends.get(key)
    health = situation.health.get(named) if named else None
    return f" ({health.reason})" if health and health.state is HealthState.DOWN else ""


def _held(situation: Situation, key: BackendId) -> str:
    """Who keeps new flows from it, in brackets: its checks, an operator, or what it said itself; empty for nobody."""
    named = situation.desired.names.backends.get(key)
    outcome = situation.desired.backends.get(named) if named else None
    return _reason(situation, key) or (f" ({outcome.held})" if outcome and outcome.held else "")


def _hop_text(situation: Situation, hop: Nexthop) -> str:
    if hop.local:
        return f"{hop.gateway} is this node itself"
    link = situation.network.links.get(hop.ifindex)
    return f"{hop.gateway} on {link.name if link else hop.ifindex}"


def _name(row: Backend) -> str:
    return text_of(row.endpoint.address, row.endpoint.port) if row.endpoint else "a free row"
