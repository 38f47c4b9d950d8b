"""All that the agent knows at one moment: what status, why and the metrics are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluicegate_agent.attach import Attached
from sluicegate_agent.datapath.model import Endpoint, InterfaceIndex
from sluicegate_agent.datapath.protocol import Census, Counters
from sluicegate_agent.health.model import Health
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.source.configuration import Configuration


@dataclass(frozen=True, slots=True)
class Programs:
    """The set of kernel programs in use.

    ``obstacle`` says why the set that the configuration needs is not in use (yet); it keeps back what needs more than
    ``features``, and nothing else.
    """

    features: frozenset[str] = frozenset()
    obstacle: str = "the programs are not loaded yet"

    def obstacle_for(self, needed: frozenset[str]) -> str:
        """Why something that needs these features cannot run; empty when it can."""
        return "" if needed <= self.features else self.obstacle


@dataclass(frozen=True, slots=True)
class Applied:
    """What the last reconciliation left: VIPs that are bound, and what the kernel refused, in words."""

    bound: frozenset[Endpoint] = frozenset()
    refused: tuple[str, ...] = ()
    attach_errors: Mapping[InterfaceIndex, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Situation:
    """One moment. Everything in it is immutable or replaced as a whole, so any thread may read it."""

    configuration: Configuration = field(default_factory=Configuration)
    network: NetworkSnapshot = field(default_factory=NetworkSnapshot)
    desired: Desired = field(default_factory=Desired)
    applied: Applied = field(default_factory=Applied)
    programs: Programs = field(default_factory=Programs)
    attached: Mapping[InterfaceIndex, Attached] = field(default_factory=dict)
    health: Mapping[BackendKey, Health] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    census: Census = field(default_factory=Census)
    config_generation: int = 0
    reconcile_failures: int = 0
