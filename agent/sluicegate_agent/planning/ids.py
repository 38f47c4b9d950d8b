"""Ids of rows: found again in the kernel's tables after a restart, and given out so that none comes back soon.

An id that a flow, a counter or a packet in flight may still mean must not mean something else a moment later.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from sluicegate_agent.datapath.model import (
    BackendState,
    Endpoint,
    ForwardingMode,
    IPAddress,
    KernelState,
    ServiceId,
)
from sluicegate_api.common import ObjectKey

K = TypeVar("K", bound=Hashable)

MAX_GENERATION = 65_535
"""``struct backend.generation`` has 16 bits; 0 means that the id was never used."""


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """One port of a LoadBalancer in one address family (4 or 6). ``port`` is its name, or like ``TCP/80``."""

    object: ObjectKey
    port: str
    family: int


@dataclass(frozen=True, slots=True, order=True)
class BackendKey:
    """One backend of a service."""

    service: ServiceKey
    address: IPAddress
    port: int


class ServiceIdentity(NamedTuple):
    """What a service id stands for. A service that changes its mode becomes another one: swap, never edit."""

    key: ServiceKey
    mode: ForwardingMode


class Member(NamedTuple):
    """A backend as the kernel knows it."""

    service: ServiceId
    endpoint: Endpoint


def next_generation(generation: int) -> int:
    """The generation of a backend id's next holder: 1 to 65,535, then 1 again."""
    return generation % MAX_GENERATION + 1


class IdPool(Generic[K]):
    """Ids 1 to ``limit`` of one table. Unused ids go first, then the one that has been free for longest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[K, int] = {}
        self._in_use: set[int] = set()
        self._unseen = 1
        self._free: deque[int] = deque()

    @property
    def held(self) -> Mapping[K, int]:
        """What the last :meth:`assign` gave out."""
        return self._held

    def assign(self, wanted: Iterable[K], present: Mapping[int, K | None], spent: Collection[int] = ()) -> dict[K, int]:
        """An id for each wanted key; keys that find no free id are left out.

        ``present`` are the ids in the kernel and whom they belong to, as far as known: a key that is there keeps its
        id. ``spent`` are ids that are free but bear traces of use; what was free before this pool knew is taken
        in that order.
        """
        self._learn(present, spent)
        owners: dict[K, int] = {}
        for identity, key in sorted(present.items(), key=lambda item: item[0]):
            if key is not None:
                owners.setdefault(key, identity)
        given: dict[K, int] = {}
        missing: list[K] = []
        for key in dict.fromkeys(wanted):
            known = owners.get(key) or self._held.get(key)
            if known is not None and (known not in present or present[known] == key):
                given[key] = known
            else:
                missing.append(key)
        in_use = present.keys() | given.values()
        self._free.extend(sorted(self._in_use - in_use))
        for key in missing:
            fresh = self._take(in_use)
            if fresh is None:
                break
            given[key] = fresh
            in_use.add(fresh)
        self._held = given
        self._in_use = set(in_use)
        return given

    def _learn(self, present: Mapping[int, K | None], spent: Collection[int]) -> None:
        unknown = range(self._unseen, max((self._unseen - 1, *present, *spent)) + 1)
        idle = [identity for identity in unknown if identity not in present]
        traces = set(spent)
        self._free.extend(sorted(idle, key=lambda identity: (identity in traces, identity)))
        self._unseen = unknown.stop

    def _take(self, in_use: Collection[int]) -> int | None:
        if self._unseen <= self._limit:
            self._unseen += 1
            return self._unseen - 1
        while self._free:
            identity = self._free.popleft()
            if identity not in in_use and identity <= self._limit:
                return identity
        return None


def recover_services(
    wanted: Mapping[ServiceIdentity, tuple[Collection[Endpoint], Collection[Endpoint]]],
    observed: KernelState,
    held: Mapping[ServiceIdentity, int],
) -> dict[int, ServiceIdentity | None]:
    """Which service the ids in the kernel belong to. ``wanted`` gives VIP and backend endpoints of each service.

    An id that the agent gave out itself is known. After a restart, or when a LoadBalancer was renamed, a service is
    recognised by its VIPs; among several candidates by how many VIPs and then how many backends agree.
    """
    owners: dict[int, ServiceIdentity | None] = {frontend.service: None for frontend in observed.frontends.values()}
    owners.update(dict.fromkeys((*observed.slots, *observed.sources)))
    by_vip = {(row.endpoint, row.mode): row.service for row in observed.frontends.values()}
    members = {(row.service, row.endpoint) for row in observed.backends.values() if row.state is not BackendState.FREE}
    owners.update(dict.fromkeys(service for service, _ in members))
    known = {held[identity] for identity in wanted if identity in held}
    owners.update({held[identity]: identity for identity in wanted if held.get(identity) in owners})
    guesses: list[tuple[int, int, ServiceIdentity, ServiceId]] = []
    for identity, (vips, backends) in wanted.items():
        if identity in held:
            continue
        votes = Counter(by_vip[vip, identity.mode] for vip in vips if (vip, identity.mode) in by_vip)
        for service, agreeing in votes.items():
            same = sum((service, endpoint) in members for endpoint in backends)
            guesses.append((-agreeing, -same, identity, service))
    settled: set[ServiceIdentity] = set()
    for _, _, identity, service in sorted(guesses):
        if identity not in settled and service not in known:
            owners[service] = identity
            known.add(service)
            settled.add(identity)
    return owners
