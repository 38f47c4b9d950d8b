"""Why a load balancer does or does not work: checks in the order of a packet's way, each with the next step. Pure."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate_agent.datapath.model import IPAddress
from sluicegate_agent.network.model import NoPath, Path
from sluicegate_agent.planning.attachments import arrival_interfaces
from sluicegate_agent.planning.desired import closed_words
from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.condition import ConditionType
from sluicegate_agent.reports.conditions import backend_name, names
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.status import WAITING, status
from sluicegate_agent.reports.targets import find_target
from sluicegate_agent.reports.view import LoadBalancerView, PortView
from sluicegate_agent.reports.weight_words import takes_flows, weight_reason
from sluicegate_agent.reports.why_accepted import accepted
from sluicegate_agent.reports.why_weights import weights
from sluicegate_api.common import ObjectKey
from sluicegate_api.forwarding import ForwardingMode
from sluicegate_api.loadbalancer import LoadBalancer

SYSCTL = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
"""What lets this node forward, by family."""


def why(situation: Situation, target: str) -> tuple[Check, ...]:
    """The checks for ``NAME`` or ``NAMESPACE/NAME``. Raises UnknownTargetError, also for a name in two namespaces."""
    key = find_target(situation, target)
    view = next(view for view in status(situation).loadbalancers if ObjectKey(view.namespace, view.name) == key)
    balancer = situation.configuration.object(key)
    checks = [
        Check(CheckId.AGENT, ok=True, message="the agent answers"),
        accepted(situation, view, paused=key in situation.configuration.paused),
    ]
    if balancer is not None:
        vips = _vips(situation, balancer, view)
        steps = (*_ON_THE_WAY, *(_IN_THE_KERNEL if vips.ok else ()))
        checks += [vips, *(step(situation, balancer, view) for step in steps)]
    return tuple(checks)


def _vips(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del situation
    missing = [
        f"{address.address} {port.protocol}/{port.port}: {address.reason}"
        for port in view.ports
        for address in port.addresses
        if not address.programmed
    ]
    if missing:
        condition = view.condition(ConditionType.PROGRAMMED)
        waiting = all(address.reason in {"", WAITING} for port in view.ports for address in port.addresses)
        message = condition.message if condition and waiting else names(missing)
        remedy = "see the agent's log" if waiting else "change the VIP or the port, here or where the reason says"
        return Check(CheckId.VIP, ok=False, message=message, next=remedy)
    listed = ", ".join(map(str, balancer.spec.addresses))
    return Check(CheckId.VIP, ok=True, message=f"the kernel balances {listed}")


def _attached(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del view
    wanted, problems = arrival_interfaces(balancer, situation.network)
    errors = [
        text
        for ifindex, text in situation.applied.attach_errors.items()
        if ifindex in wanted or ifindex not in situation.network.links
    ]
    missing = [
        situation.network.links[ifindex].name
        for ifindex in wanted
        if ifindex not in situation.attached and ifindex in situation.network.links
    ]
    if errors or missing or (problems and not wanted):
        text = [*errors, *(f"{name} has no program yet" for name in missing), *problems]
        return Check(
            CheckId.INTERFACES,
            ok=False,
            message=names(text),
            next="compare spec.interfaces with: ip -br link; sluicegate check",
        )
    on = [
        f"{each.name} ({each.mode}{': ' + each.reason if each.reason else ''})" for each in situation.attached.values()
    ]
    return Check(CheckId.INTERFACES, ok=True, message=f"programs run on {', '.join(on)}")


def _forwarding(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del view
    off = [
        SYSCTL[family]
        for family in sorted({address.version for address in balancer.spec.addresses})
        if not situation.network.forwarding.get(family, False)
    ]
    if off:
        return Check(
            CheckId.FORWARDING,
            ok=False,
            message=f"{' and '.join(off)} off: this node forwards no packets",
            next="; ".join(f"sysctl -w {name}=1" for name in off),
        )
    return Check(CheckId.FORWARDING, ok=True, message="this node forwards packets")


def _sources(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    """Clients that are kept out on purpose are told; families that nobody may use are a mistake."""
    del view
    allowed = balancer.spec.allowed_sources
    if allowed is None:
        return Check(CheckId.SOURCES, ok=True, message="every client may open flows")
    denied = sum(each.packets for each in situation.counters.verdicts if each.reason.lower() == "source_denied")
    tail = f"; this node dropped {denied} packets of others" if denied else ""
    closed = sorted({vip.version for vip in balancer.spec.addresses} - {network.version for network in allowed})
    if closed:
        return Check(
            CheckId.SOURCES,
            ok=False,
            message=f"{'; '.join(map(closed_words, closed))}{tail}",
            next="add a network of that family to spec.allowedSources, or take the VIPs of that family out",
        )
    return Check(CheckId.SOURCES, ok=True, message=f"only {names([*map(str, allowed)])} may open flows{tail}")


def _routes(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del view
    lost = {
        address: path.reason
        for address in _backend_addresses(balancer)
        if isinstance(path := situation.network.paths.get(address), NoPath)
    }
    if lost:
        return Check(CheckId.ROUTES, ok=False, message=names([*lost.values()]), next=f"ip route get {next(iter(lost))}")
    return Check(CheckId.ROUTES, ok=True, message="every backend has a route")


def _neighbours(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    """Unresolved is no fault by itself: the kernel resolves a neighbour with the first packet."""
    paths = [situation.network.paths.get(address) for address in _backend_addresses(balancer)]
    unresolved = sorted({str(path.gateway) for path in paths if isinstance(path, Path) and path.mac is None})
    dead = any(
        port.traffic.opened and not port.traffic.reply_packets
        for port in view.ports
        if port.mode != ForwardingMode.DIRECT_RETURN  # whose replies never pass here
    )
    if unresolved and dead:
        return Check(
            CheckId.NEIGHBOURS,
            ok=False,
            message=f"no MAC address for {names(unresolved)}, and no reply ever came",
            next=f"ping {unresolved[0]}; ip neigh show {unresolved[0]}",
        )
    if unresolved:
        return Check(CheckId.NEIGHBOURS, ok=True, message=f"{names(unresolved)} will be resolved with the first packet")
    return Check(CheckId.NEIGHBOURS, ok=True, message="every next hop has a MAC address")


def _health(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del situation, balancer
    down = [
        f"{backend_name(backend)}: {backend.reason}"
        for port in view.ports
        for backend in port.backends
        if backend.health == "down"
    ]
    unknown = sum(1 for port in view.ports for backend in port.backends if backend.health == "unknown")
    if down:
        panics = "; ".join(f"{port.name} {port.panic}" for port in view.ports if port.panic)
        return Check(
            CheckId.HEALTH,
            ok=False,
            message=names(down) + (f"; panic: {panics}" if panics else ""),
            next="start the server there, or see whether a firewall stands between",
        )
    tail = f"; {unknown} not probed yet" if unknown else ""
    return Check(CheckId.HEALTH, ok=True, message=f"no backend fails its health check{tail}")


def _table(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del situation, balancer
    empty = [(port, family) for port in view.ports for family in _families_without_taker(port)]
    if empty:
        reasons = [text for port, family in empty for text in _kept_out(port, family)]
        where = names([f"{port.name} over IPv{family}" for port, family in empty])
        message = f"no backend takes new flows for {where}" + (f": {names(reasons)}" if reasons else "")
        drained = any(backend.override is not None for port, _ in empty for backend in port.backends)
        remedy = f"sluicegate ready {view.namespace}/{view.name}/BACKEND; or " if drained else ""
        return Check(
            CheckId.TABLE, ok=False, message=message, next=f"{remedy}mend a backend above, or give one a weight above 0"
        )
    backends = [backend for port in view.ports for backend in port.backends]
    takers = sum(1 for backend in backends if takes_flows(backend))
    return Check(CheckId.TABLE, ok=True, message=f"{takers} of {len(backends)} backends take new flows")


def _families_without_taker(port: PortView) -> list[int]:
    """Families in which the port has a VIP, and nobody who serves it."""
    taking = {6 if ":" in backend.address else 4 for backend in port.backends if takes_flows(backend)}
    return sorted({6 if ":" in address.address else 4 for address in port.addresses} - taking)


def _kept_out(port: PortView, family: int) -> list[str]:
    """The backends of a family, each with what keeps new flows away."""
    found = []
    for backend in port.backends:
        if (":" in backend.address) == (family == 6):
            reason = weight_reason(backend) or ("its weight is 0" if not backend.weight else "")
            found.append(f"{backend_name(backend)} is {backend.state}" + (f" ({reason})" if reason else ""))
    return found or [f"there is no IPv{family} backend: a VIP uses backends of its own family"]


def _weights(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del situation, balancer
    return weights(view)


def _traffic(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    del situation, balancer
    silent = [
        f"{address.address} {port.protocol}/{port.port}"
        for port in view.ports
        for address in port.addresses
        if not address.traffic.request_packets and not address.traffic.dropped
    ]
    if silent and len(silent) == sum(len(port.addresses) for port in view.ports):
        address = view.ports[0].addresses[0].address
        return Check(
            CheckId.TRAFFIC,
            ok=False,
            message=f"no packet for {names(silent)} was ever seen",
            next=f"route the VIP to this node: on the client or its router, ip route add {address} via NODE",
        )
    tail = f"; none yet for {names(silent)}" if silent else ""
    seen = sum(port.traffic.request_packets for port in view.ports)
    return Check(CheckId.TRAFFIC, ok=True, message=f"{seen} request packets were forwarded{tail}")


def _drops(situation: Situation, balancer: LoadBalancer, view: LoadBalancerView) -> Check:
    """Drops of the past are told but fail nothing, unless nothing but drops happens."""
    del balancer
    dropped = sum(port.traffic.dropped for port in view.ports)
    forwarded = sum(port.traffic.request_packets for port in view.ports)
    if not dropped:
        return Check(CheckId.DROPS, ok=True, message="no packet for it was dropped")
    totals: dict[str, int] = {}
    for verdict in situation.counters.verdicts:
        if verdict.kind == "drop" and verdict.packets:
            totals[verdict.text] = totals.get(verdict.text, 0) + verdict.packets
    reasons = ", ".join(f"{text} ({count})" for text, count in sorted(totals.items(), key=lambda item: -item[1]))
    return Check(
        CheckId.DROPS,
        ok=forwarded > 0,
        message=f"{dropped} packets for it were dropped; on this node by reason: {reasons}",
        next="" if forwarded else "mend the first reason: it is the most frequent one",
    )


def _backend_addresses(balancer: LoadBalancer) -> list[IPAddress]:
    return [backend.address for backend in balancer.spec.backends.static or ()]


_Step = Callable[[Situation, LoadBalancer, LoadBalancerView], Check]
_ON_THE_WAY: tuple[_Step, ...] = (_attached, _sources, _forwarding, _routes, _neighbours, _health)
_IN_THE_KERNEL: tuple[_Step, ...] = (_table, _weights, _traffic, _drops)
"""What can only be asked of VIPs that are in the kernel."""
