"""From sniffers to what workers take."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from sluicegate_agent.dpi.actions import flow_actions
from sluicegate_agent.dpi.configuration import engine_policy, ndpi_settings, rule_drops
from sluicegate_agent.dpi.engine_model import Action, Limits
from sluicegate_agent.dpi.live.messages import Configure, Ended, Orders, SignatureName, Start, packed_rules
from sluicegate_agent.dpi.live.model import EndedFlow, WorkerConfig, WorkerPolicy
from sluicegate_agent.dpi.rules.load import RuleSet
from sluicegate_api.dpisniffer import Depth, DpiSniffer

_ENDS = {"idle": 0, "closed": 0, "reused": 1, "evicted": 2, "untapped": 3}


def worker_policy(sniffer: DpiSniffer, rules: RuleSet | None) -> WorkerPolicy:
    """A sniffer with those of its rules that are in force, and what its actions make of them."""
    drops = dict.fromkeys(rule_drops(sniffer.spec), int(Action.DROP))
    return WorkerPolicy(
        sniffer.metadata.name,
        sniffer.metadata.namespace,
        sniffer.spec,
        None if rules is None or not rules.rules else rules.tables(drops),
        {} if rules is None else {signature.sid: signature for signature in rules.signatures},
    )


def start_of(config: WorkerConfig, ring_bytes: int, limits: Limits) -> Start:
    """What cannot change while a worker runs: nDPI's settings are of all its flows, the closest wanted look wins."""
    depths = {policy.spec.classify.depth for policy in config.policies.values()}
    settings = ndpi_settings(Depth.FULL if Depth.FULL in depths else Depth.LEAN)
    return Start(os.getpid(), ring_bytes, limits, not depths <= {Depth.OFF}, settings)


def orders_of(policy: WorkerPolicy) -> Orders:
    """For one sniffer. Takes tenths of a second for thousands of rules."""
    rules = None
    if policy.rules is not None:
        signatures = {
            sid: SignatureName(each.sid, each.gid, each.rev, each.message, each.classtype, each.priority)
            for sid, each in policy.signatures.items()
        }
        rules = packed_rules(policy.rules, rule_drops(policy.spec), signatures)
    return Orders(
        vnf=f"{policy.namespace}/{policy.name}",
        engine=engine_policy(policy.spec),
        actions=flow_actions(policy.spec.actions or ()),
        digest=b"" if rules is None else hashlib.sha256(rules).digest(),
        rules=rules,
    )


def configure_of(version: int, config: WorkerConfig, orders: Mapping[int, Orders]) -> Configure:
    """All of it for the workers."""
    return Configure(version, config.node, orders, dict(config.interfaces))


def ended_row(flow: EndedFlow) -> Ended:
    """A flow's end as it goes to the worker."""
    return Ended(
        flow.flow_id,
        *flow.packets,
        *flow.octets,
        flow.first_ns,
        flow.last_ns,
        flow.client,
        flow.server,
        *flow.ports,
        flow.ifindex,
        flow.tunnel,
        flow.sent,
        flow.family,
        flow.protocol,
        flow.state,
        flow.why,
        flow.closing,
        flow.sniffer,
        _ENDS.get(flow.end, 0),
    )
