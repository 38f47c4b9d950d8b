"""A node whose data path is in memory: configuration, network and health go in, tables come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address

from plan_worlds import builder, network, without_free

from sluicegate_agent.datapath.memory import MemoryDatapath
from sluicegate_agent.datapath.model import Backend, BackendState, KernelState, Slots
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.planning.builder import DesiredBuilder
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.reconcile import Reconciler, Report
from sluicegate_agent.planning.steer import Steer
from sluicegate_api.common import ObjectKey
from sluicegate_api.loadbalancer import LoadBalancer

ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"
NET = network([ONE, TWO, THREE, "fd00::1"])
ACTIVE, DRAINING, DOWN = BackendState.ACTIVE, BackendState.DRAINING, BackendState.DOWN


class Node:
    """A node with a data path in memory; ``restart`` forgets all that is not in the kernel."""

    def __init__(self) -> None:
        self.datapath = MemoryDatapath()
        self.now = 1000.0
        self.health: dict[str, HealthState] = {}
        self.steering: Mapping[BackendKey, Steer] = {}
        self.restart()

    def restart(self) -> None:
        self.builder: DesiredBuilder = builder()
        self.steering = {}
        self.reconciler = Reconciler(self.datapath)

    def run(self, *balancers: LoadBalancer, net: NetworkSnapshot = NET) -> Desired:
        desired = self.look(*balancers, net=net)
        self.report: Report = self.reconciler.reconcile(desired.state)
        assert self.report.converged
        return desired

    def look(self, *balancers: LoadBalancer, net: NetworkSnapshot = NET) -> Desired:
        observed = self.reconciler.observed()
        keys = self.builder.build(balancers, net, {}, observed, self.now).backends if self.health else {}
        health = {key: self.health[str(key.address)] for key in keys if str(key.address) in self.health}
        return self.builder.build(balancers, net, health, observed, self.now, steering=self.steering)

    @property
    def state(self) -> KernelState:
        return without_free(self.datapath.observe())

    def row(self, address: str) -> Backend | None:
        wanted = ip_address(address)
        rows = self.state.backends.values()
        return next((row for row in rows if row.endpoint and row.endpoint.address == wanted), None)

    def share(self) -> Mapping[str, int]:
        """Slots by backend address over all tables."""
        slots: list[Slots] = list(self.state.slots.values())
        endpoints = (self.state.backends[each].endpoint for table in slots for each in table)
        return Counter(str(endpoint.address) for endpoint in endpoints if endpoint)


def problems(desired: Desired, name: str = "web") -> tuple[str, ...]:
    return desired.problems.get(ObjectKey("shop", name), ())
