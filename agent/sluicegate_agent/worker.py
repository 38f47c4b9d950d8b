"""The one writer of the kernel's state: tables and links. Blocking; runs in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sluicegate_agent.attach import Attached, AttachError, Attachments
from sluicegate_agent.datapath.kernel import KernelDatapath
from sluicegate_agent.datapath.model import BackendId, InterfaceIndex, KernelState, Settings
from sluicegate_agent.datapath.protocol import Census, Counters
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.kernel.libbpf import Descriptor, KernelError
from sluicegate_agent.kernel.statistics import measure_run_time
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.pins import Pins
from sluicegate_agent.planning.attachments import Attachment
from sluicegate_agent.planning.builder import DesiredBuilder
from sluicegate_agent.planning.desired import Desired, Limits
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.reconcile import Reconciler
from sluicegate_agent.planning.steer import Steer
from sluicegate_agent.reports.situation import Applied
from sluicegate_agent.signals.model import Load
from sluicegate_api.loadbalancer import LoadBalancer

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step came to; ``converged`` is False when it should be tried again."""

    desired: Desired
    applied: Applied
    attached: Mapping[InterfaceIndex, Attached]
    converged: bool


class Sniffing(Protocol):
    """What is to be sniffed."""

    @property
    def interfaces(self) -> Mapping[InterfaceIndex, str]:
        """Interfaces that need our programs for it, each with the reason."""
        ...

    def apply(self, manifest: Manifest, attached: Mapping[InterfaceIndex, Attached]) -> bool:
        """Bring its tables in line with what is attached; False when it is to be tried again."""
        ...


class KernelWorker:
    """Owns the data path and the links of one set of programs at a time."""

    def __init__(
        self, pins: Pins, limits: Limits, settings: Settings, manifest: Manifest, *, use_tcx: bool | None = None
    ) -> None:
        """Opens what the manifest names and takes up links of an agent before. Raises KernelError, DatapathError."""
        self._pins = pins
        self._builder = DesiredBuilder(limits, settings)
        self._manifest = manifest
        self._datapath = KernelDatapath(manifest)
        self._reconciler = Reconciler(self._datapath)
        self._attachments = Attachments(pins, manifest, use_tcx=use_tcx)
        self._attachments.adopt()
        self._links_wait = True
        self._carriers: frozenset[InterfaceIndex] = frozenset()
        self._statistics: Descriptor | None = None

    def install(self, manifest: Manifest) -> None:
        """Work on this set from now on; the next step moves the links to it. Raises KernelError, DatapathError."""
        datapath = KernelDatapath(manifest)
        self._datapath.close()
        self._manifest, self._datapath, self._reconciler = manifest, datapath, Reconciler(datapath)
        self._links_wait = True

    def step(
        self,
        balancers: Sequence[LoadBalancer],
        network: NetworkSnapshot,
        health: Mapping[BackendKey, HealthState],
        now: float,
        *,
        steering: Mapping[BackendKey, Steer],
        sniffing: Sniffing,
    ) -> Step:
        """Bring the kernel in line. Raises DatapathError when the tables cannot be read, KernelError for links."""
        observed = self._reconciler.observed()
        desired = self._builder.build(
            balancers, network, health, observed, now, steering=steering, sniffed=sniffing.interfaces
        )
        # Programs come before tables: a VIP must not take requests whose replies nobody translates.
        errors = self._attach(desired.attachments, network)
        report = self._reconciler.reconcile(desired.state)
        if self._links_wait:
            # Only now: the maps of a new set may be new as well, and were empty until here.
            self._attachments.update_all(self._manifest)
            self._pins.prune(self._manifest)
            self._links_wait = False
        for ifindex in (self._carriers | self._attachments.observed().keys()) - desired.attachments.keys():
            self._attachments.detach(ifindex)
        self._carriers = frozenset(desired.attachments)
        sniffs = sniffing.apply(self._manifest, self._attachments.observed())
        refused = tuple(failure.error for failure in report.failed)
        for text in refused:
            log.warning("the kernel refused: %s", text)
        applied = Applied(frozenset(self._reconciler.observed().vips), refused, errors)
        converged = report.converged and not errors and sniffs
        return Step(desired, applied, self._attachments.observed(), converged)

    def counters(self) -> Counters:
        """All counters now."""
        return self._datapath.counters()

    def loads(self, backends: Collection[BackendId]) -> Mapping[BackendId, Load]:
        """What these backends did so far. Raises DatapathError."""
        return self._datapath.loads(backends)

    def measure_programs(self) -> None:
        """Let the kernel measure run times as long as this process lives. Raises KernelError."""
        self._statistics = measure_run_time()

    def sweep(self) -> Census:
        """Count flows and remove those that expired."""
        return self._datapath.sweep()

    def look(self, question: Callable[[Manifest, KernelState], T]) -> T:
        """Answer a question about this set of programs and its tables; it leaves what the plan wrote as it is."""
        return question(self._manifest, self._reconciler.observed())

    def _attach(
        self, wanted: Mapping[InterfaceIndex, Attachment], network: NetworkSnapshot
    ) -> dict[InterfaceIndex, str]:
        errors: dict[InterfaceIndex, str] = {}
        for ifindex, attachment in wanted.items():
            name = network.links[ifindex].name
            try:
                self._attachments.attach(ifindex, name, attachment.want_xdp, attachment.tc_only)
            except (AttachError, KernelError) as error:
                errors[ifindex] = f"interface {name}: {error}"
                log.warning("interface %s: %s", name, error)
        return errors
