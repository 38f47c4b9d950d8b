"""What the outcome of one moment is made of: the tables, what surrounds them, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sluicegate_agent.datapath.model import (
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    FrontendId,
    InterfaceIndex,
    KernelState,
    ServiceId,
)
from sluicegate_agent.planning.attachments import Attachment
from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.planning.lifecycle import Panic
from sluicegate_agent.planning.services import Service
from sluicegate_api.common import ObjectKey


@dataclass(frozen=True, slots=True)
class Limits:
    """Entries of the kernel's arrays, of which entry 0 stays unused, and of its table of allowed clients per family."""

    services: int = 1024
    frontends: int = 4096
    backends: int = 4096
    nexthops: int = 4096
    sources: int = 16_384


@dataclass(frozen=True, slots=True)
class Names:
    """What ids stand for, for labels. Backends of a service that is gone have no name."""

    frontends: Mapping[FrontendId, tuple[ServiceKey, Endpoint]] = field(default_factory=dict)
    services: Mapping[ServiceId, ServiceKey] = field(default_factory=dict)
    backends: Mapping[BackendId, BackendKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackendOutcome:
    """What becomes of one backend, configured or leaving.

    ``id`` and ``state`` are None while it has no row in the kernel: ``problem`` says why, or is empty while the way to
    it is still being looked up; with a row it says what is wrong with the way to it. ``weight`` is what the table is
    made from, in thousandths of the unit of configured weights; 0 for a backend that is not active. ``drained_at`` is
    when a leaving backend gives up its flows, in the caller's clock; None for configured ones. ``distrusted``: its
    checks fail, and it is active because its service is in panic. ``held`` is who wants a backend that is not active
    out of use, as far as that is a signal, a decision or an operator. ``usable``: it would take new flows if nobody
    steered it. ``found`` is its row as it was in the kernel before.
    """

    id: BackendId | None
    state: BackendState | None
    weight: int
    problem: str = ""
    drained_at: float | None = None
    distrusted: bool = False
    held: str = ""
    usable: bool = False
    found: Backend | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """The outcome for one moment. ``wake_at`` is when time alone changes it, in the caller's clock.

    ``refused`` gives for each VIP that gets no frontend the reason; it is also among ``problems``, which are per
    LoadBalancer and each name their place. ``panics`` are the services that use all backends because too few are
    healthy.
    """

    state: KernelState = field(default_factory=KernelState)
    attachments: Mapping[InterfaceIndex, Attachment] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    services: tuple[Service, ...] = ()
    backends: Mapping[BackendKey, BackendOutcome] = field(default_factory=dict)
    refused: Mapping[tuple[ServiceKey, Endpoint], str] = field(default_factory=dict)
    problems: Mapping[ObjectKey, tuple[str, ...]] = field(default_factory=dict)
    wake_at: float | None = None
    panics: Mapping[ServiceKey, Panic] = field(default_factory=dict)


def closed_words(family: int) -> str:
    """What is wrong with ``allowedSources`` that name networks of the other family only."""
    return f"spec.allowedSources: no IPv{family} network, so no client may use the IPv{family} VIPs"


class Problems:
    """Messages per LoadBalancer, each once, in order."""

    def __init__(self) -> None:
        self._messages: dict[ObjectKey, dict[str, None]] = {}

    def add(self, key: ObjectKey, message: str) -> None:
        """One message, which starts with its place."""
        self._messages.setdefault(key, {})[message] = None

    def add_all(
        self,
        services: Sequence[Service],
        outcomes: Mapping[BackendKey, BackendOutcome],
        refused: Mapping[tuple[ServiceKey, Endpoint], str],
        panics: Mapping[ServiceKey, Panic],
    ) -> None:
        """What follows from the outcome of services, backends and VIPs."""
        for (service_key, vip), reason in refused.items():
            self.add(service_key.object, f"VIP {vip.address}: {reason}")
        for service in services:
            family = service.key.family
            if not service.backends:
                self.add(
                    service.key.object,
                    f"port {service.key.port}: no IPv{family} backend for its IPv{family} VIPs: "
                    "a VIP uses backends of its own family",
                )
            if service.closed:
                self.add(service.key.object, closed_words(family))
        for service_key, panic in panics.items():
            self.add(service_key.object, f"port {service_key.port} over IPv{service_key.family}: {panic}")
        for key, outcome in outcomes.items():
            if outcome.problem:
                self.add(key.service.object, f"backend {key.address}: {outcome.problem}")

    def by_object(self) -> dict[ObjectKey, tuple[str, ...]]:
        """All messages."""
        return {key: tuple(messages) for key, messages in self._messages.items()}
