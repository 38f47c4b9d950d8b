"""All that the agent knows at one moment: what status, why and the metrics are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from sluicegate_agent.attach import Attached
from sluicegate_agent.datapath.model import BackendId, Endpoint, InterfaceIndex
from sluicegate_agent.datapath.protocol import Census, Counters
from sluicegate_agent.health.model import Health
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.signals.model import Latencies, Load, Reading
from sluicegate_agent.sniffing.state import SniffingState
from sluicegate_agent.source.configuration import Configuration
from sluicegate_agent.weights.model import Decision, Override

T = TypeVar("T")


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
    """One moment. Everything in it is immutable or replaced as a whole, so any thread may read it.

    ``decisions`` are there for backends of services that have dynamic weights or a slow start; ``pool_notes`` for
    services of which there is something to say as a whole; ``overrides`` are those in force.
    """

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
    decisions: Mapping[BackendKey, Decision] = field(default_factory=dict)
    pool_notes: Mapping[ServiceKey, str] = field(default_factory=dict)
    readings: Mapping[BackendKey, Reading] = field(default_factory=dict)
    overrides: Mapping[BackendKey, Override] = field(default_factory=dict)
    loads: Mapping[BackendKey, Load] = field(default_factory=dict)
    latencies: Mapping[BackendKey, Latencies] = field(default_factory=dict)
    sniffing: SniffingState = field(default_factory=SniffingState)

    def with_counters(self, counters: Counters) -> Self:
        """This moment with what the kernel counted a moment later."""
        return replace(
            self,
            counters=counters,
            loads=self.by_name(counters.loads),
            latencies=self.by_name(counters.latencies),
        )

    def by_name(self, values: Mapping[BackendId, T]) -> dict[BackendKey, T]:
        """Values of ids as values of the backends that hold these ids; ids without a name are left out."""
        names = self.desired.names.backends
        return {names[identity]: value for identity, value in values.items() if identity in names}
