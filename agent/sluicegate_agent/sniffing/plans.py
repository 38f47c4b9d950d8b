"""From a sniffer, its place and its rules to what the kernel and the workers get."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sluicegate_agent.attach import Attached, Mode
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.dpi.configuration import sniff_policy
from sluicegate_agent.dpi.live.model import WorkerPolicy
from sluicegate_agent.dpi.live.orders import worker_policy
from sluicegate_agent.dpi.rules.empty import needs_empty_segments
from sluicegate_agent.dpi.rules.load import RuleSet
from sluicegate_agent.sniffing.assignment import Place
from sluicegate_agent.sniffing.model import SnifferPlan, Tap
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer


def plan_of(sniffer: DpiSniffer, number: int, rules: RuleSet | None) -> SnifferPlan:
    """The row and the rules of one sniffer."""
    policy = sniff_policy(sniffer.spec)
    return SnifferPlan(
        number,
        str(sniffer.key),
        rules=tuple(policy.rules),
        budget=policy.budget,
        adaptive=sniffer.spec.budget.adaptive,
        send_empty=rules is not None and needs_empty_segments(rules.tables()),
    )


def taps_of(places: Iterable[Place], attached: Mapping[InterfaceIndex, Attached]) -> tuple[Tap, ...]:
    """Interfaces that carry our programs, each with its sniffer."""
    return tuple(
        Tap(ifindex, place.number, attached[ifindex].mode is Mode.XDP)
        for place in places
        for ifindex in place.interfaces
        if place.number is not None and ifindex in attached
    )


class Orders:
    """Plans and policies, each made once for a sniffer and its rules: thousands of rules take a while."""

    def __init__(self) -> None:
        self._plans: dict[ObjectKey, tuple[DpiSniffer, int, RuleSet | None, SnifferPlan]] = {}
        self._policies: dict[ObjectKey, tuple[DpiSniffer, RuleSet | None, WorkerPolicy]] = {}

    def plan(self, sniffer: DpiSniffer, number: int, rules: RuleSet | None) -> SnifferPlan:
        """For the kernel."""
        known = self._plans.get(sniffer.key)
        if known is None or known[:2] != (sniffer, number) or known[2] is not rules:
            known = self._plans[sniffer.key] = (sniffer, number, rules, plan_of(sniffer, number, rules))
        return known[3]

    def policy(self, sniffer: DpiSniffer, rules: RuleSet | None) -> WorkerPolicy:
        """For the workers."""
        known = self._policies.get(sniffer.key)
        if known is None or known[0] != sniffer or known[1] is not rules:
            known = self._policies[sniffer.key] = (sniffer, rules, worker_policy(sniffer, rules))
        return known[2]

    def keep(self, keys: Collection[ObjectKey]) -> None:
        """Forget all other sniffers."""
        self._plans = {key: known for key, known in self._plans.items() if key in keys}
        self._policies = {key: known for key, known in self._policies.items() if key in keys}
