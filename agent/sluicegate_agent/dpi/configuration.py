"""From a DpiSniffer to what sniffer and engine take."""

from __future__ import annotations

from sluicegate_agent.dpi.capture.headers import ICMP, ICMPV6, SCTP, TCP, UDP
from sluicegate_agent.dpi.engine_model import Limits, Policy
from sluicegate_agent.dpi.sniffing.rules import Side, SniffRule
from sluicegate_agent.dpi.sniffing.sniffer import DEFAULT_CAPACITY, Budget, SniffPolicy
from sluicegate_api import dpisniffer
from sluicegate_api.detection import DEFAULT_ACTION_SECONDS
from sluicegate_api.dpisniffer import ActionType, Depth, DpiSnifferSpec, SniffProtocol

_NUMBERS = {
    SniffProtocol.TCP: TCP,
    SniffProtocol.UDP: UDP,
    SniffProtocol.SCTP: SCTP,
    SniffProtocol.ICMP: ICMP,
    SniffProtocol.ICMP_V6: ICMPV6,
}
_NEVER = 1 << 30
"""Seconds, 34 years: offline the sniffer alone says when a flow is over."""
_LEAN: tuple[tuple[None, str, str], ...] = tuple(
    (None, name, "0")
    for name in (
        "fpc",
        "dpi.compute_entropy",
        "metadata.tcp_fingerprint",
        "fully_encrypted_heuristic",
        "metadata.ndpi_fingerprint",
    )
)


def sniff_policy(spec: DpiSnifferSpec) -> SniffPolicy:
    """Rules and budget as the sniffer takes them."""
    rules = () if spec.sniff is None else tuple(_rule(index, rule) for index, rule in enumerate(spec.sniff))
    budget = Budget(spec.budget.payload_packets, spec.budget.payload_bytes, spec.budget.max_packets)
    drops = [action.effective_seconds for action in spec.actions or () if action.action is ActionType.DROP]
    return SniffPolicy(rules=rules, budget=budget, drop_seconds=max(drops, default=DEFAULT_ACTION_SECONDS))


def rule_drops(spec: DpiSnifferSpec) -> dict[int, int]:
    """By sid, for how many seconds rules drop whose match alone is enough: the engine does it at once."""
    found: dict[int, int] = {}
    for action in spec.actions or ():
        if action.action is ActionType.DROP and not action.match.needs_classification:
            for sid in action.match.signature_ids or ():
                found[sid] = max(action.effective_seconds, found.get(sid, 0))
    return found


def engine_policy(spec: DpiSnifferSpec) -> Policy:
    """The same budget as the engine takes it: it gives up a flow when the sniffer does."""
    return Policy(
        max_packets=spec.budget.max_packets,
        payload_packets=spec.budget.payload_packets,
        payload_bytes=spec.budget.payload_bytes,
        classify=spec.classify.depth is not Depth.OFF,
    )


def offline_limits() -> Limits:
    """The engine has as many flows as the sniffer, and ends them when the sniffer does."""
    return Limits(
        max_flows=DEFAULT_CAPACITY,
        max_undecided=DEFAULT_CAPACITY,
        tcp_new_seconds=_NEVER,
        tcp_open_seconds=_NEVER,
        datagram_seconds=_NEVER,
        decided_seconds=_NEVER,
    )


def ndpi_settings(depth: Depth) -> tuple[tuple[None, str, str], ...]:
    """nDPI's own settings. Lean leaves out what costs a quarter of its time and adds no label, name or JA4."""
    return () if depth is Depth.FULL else _LEAN


def _rule(index: int, rule: dpisniffer.SniffRule) -> SniffRule:
    protocols = rule.effective_protocols
    return SniffRule(
        name=rule.name or f"sniff[{index}]",
        protocols=frozenset() if protocols is None else frozenset(_NUMBERS[protocol] for protocol in protocols),
        source=_side(rule.source),
        destination=_side(rule.destination),
        ignore=rule.ignore,
    )


def _side(side: dpisniffer.Side) -> Side:
    return Side(tuple(side.cidrs or ()), tuple((ports.first, ports.last) for ports in side.ports or ()))
