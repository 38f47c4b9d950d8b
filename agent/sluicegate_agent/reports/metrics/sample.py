"""Everything that one scrape shows, and the rows that its metrics are read from."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from sluicegate_agent.datapath.protocol import ProgramRuns, Verdict
from sluicegate_agent.health.model import Health
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.sniffer_view import SnifferView, WorkerView
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.view import BackendView, LoadBalancerView, PortView, StatusView

BackendLabels = tuple[str, str, str, str, int]
"""Namespace and name of a load balancer, port label, address and port of a backend."""


@dataclass(frozen=True, slots=True)
class BalancerRow:
    """One load balancer."""

    view: LoadBalancerView

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of the labels of its scope."""
        return self.view.namespace, self.view.name


@dataclass(frozen=True, slots=True)
class PortRow:
    """One port of a load balancer."""

    balancer: LoadBalancerView
    view: PortView

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of the labels of its scope."""
        return self.balancer.namespace, self.balancer.name, self.view.name, self.view.protocol


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend of a port. ``health`` is None while it is not checked."""

    port: PortRow
    view: BackendView
    health: Health | None

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of the labels of its scope."""
        host = f"[{self.view.address}]" if ":" in self.view.address else self.view.address
        return *self.port.labels, f"{host}:{self.view.port}"

    @property
    def measured(self) -> bool:
        """Whether the kernel counts and times answers: those of TCP, where they come this way."""
        return self.port.view.protocol == "TCP" and self.port.view.mode != "DirectReturn"


@dataclass(frozen=True, slots=True)
class SnifferRow:
    """One sniffer."""

    view: SnifferView

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of the labels of its scope."""
        return self.view.namespace, self.view.name


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One process of the sniffers' engine."""

    view: WorkerView

    @property
    def labels(self) -> tuple[str, ...]:
        """Values of the labels of its scope."""
        return (str(self.view.state.number),)


@dataclass(frozen=True, slots=True)
class Sample:
    """``health`` is by the names of a backend, ``runs`` by program.

    ``config_generation`` counts accepted configurations of this process. ``most_backends`` have series of their own.
    """

    status: StatusView = field(default_factory=StatusView)
    verdicts: tuple[Verdict, ...] = ()
    map_entries: Mapping[str, int] = field(default_factory=dict)
    map_capacity: Mapping[str, int] = field(default_factory=dict)
    runs: Mapping[str, ProgramRuns] = field(default_factory=dict)
    health: Mapping[BackendLabels, Health] = field(default_factory=dict)
    config_generation: int = 0
    config_stale: bool = False
    reconcile_failures: int = 0
    evicted_sniffed_flows: int = 0
    most_backends: int = sys.maxsize

    @classmethod
    def of(cls, situation: Situation) -> Self:
        """The sample of this moment."""
        return cls(
            status=status(situation),
            verdicts=situation.counters.verdicts,
            map_entries={**situation.counters.map_entries, **situation.sniffing.entries},
            map_capacity={**situation.counters.map_capacity, **situation.sniffing.capacity},
            evicted_sniffed_flows=situation.sniffing.evicted,
            runs=situation.counters.runs,
            health={
                (
                    key.service.object.namespace,
                    key.service.object.name,
                    key.service.port,
                    str(key.address),
                    key.port,
                ): health
                for key, health in situation.health.items()
            },
            config_generation=situation.config_generation,
            config_stale=bool(situation.configuration.problem_lines),
            reconcile_failures=situation.reconcile_failures,
        )

    def balancers(self) -> Iterator[BalancerRow]:
        """All load balancers."""
        return map(BalancerRow, self.status.loadbalancers)

    def ports(self) -> Iterator[PortRow]:
        """All ports."""
        return (PortRow(balancer, port) for balancer in self.status.loadbalancers for port in balancer.ports)

    def backends(self) -> Iterator[BackendRow]:
        """Backends with series of their own: the first ones in the order of the configuration."""
        rows = (self._row(port, backend) for port in self.ports() for backend in port.view.backends)
        return islice(rows, self.most_backends)

    def sniffers(self) -> Iterator[SnifferRow]:
        """All sniffers."""
        return map(SnifferRow, self.status.sniffers)

    def workers(self) -> Iterator[WorkerRow]:
        """All workers; every sniffer's view has them."""
        return map(WorkerRow, next((view.workers for view in self.status.sniffers if view.workers), ()))

    @property
    def left_out(self) -> int:
        """How many backends have no series of their own."""
        return max(0, sum(len(port.view.backends) for port in self.ports()) - self.most_backends)

    @property
    def overrides(self) -> int:
        """On how many backends an operator's word is in force."""
        return sum(backend.override is not None for port in self.ports() for backend in port.view.backends)

    def _row(self, port: PortRow, backend: BackendView) -> BackendRow:
        names = (port.balancer.namespace, port.balancer.name, port.view.name, backend.address, backend.port)
        return BackendRow(port, backend, self.health.get(names))
