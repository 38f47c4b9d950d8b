"""Whether a rule can only match TCP segments without data, which the sniffer keeps down unless it is told otherwise."""

from __future__ import annotations

from sluicegate_agent.dpi.rules.model import L4, App, Flow
from sluicegate_agent.dpi.rules.tables import Rule, RuleTables


def needs_empty_segments(tables: RuleTables) -> bool:
    """Whether a rule can depend on a TCP segment without data that neither opens nor closes, nor is its side's first.

    What goes up in any case, SYN and its answer among them, is enough for rules that search for something, and for
    those that take a flow's first packets. It is not for "established", which a bare acknowledgement makes true, and
    for dsize:0 in an application, which is known only when data has flowed.
    """
    return any(map(_needs, tables.rules))


def _needs(rule: Rule) -> bool:
    if rule.need or rule.forbid or rule.dsize_low or rule.l4 not in {L4.ANY, L4.TCP}:
        return False
    if rule.app != App.ANY:
        return rule.dsize_high == 0
    return bool(rule.flags & Flow.ESTABLISHED)
