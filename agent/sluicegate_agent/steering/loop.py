"""Weights and overrides of all services, moment by moment: signals and counters go in, steers for the tables come out.

Runs on the event loop. The loads are read in the kernel's thread; everything else is arithmetic.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self, cast

from sluicegate_agent.datapath.model import BackendId
from sluicegate_agent.datapath.protocol import DatapathError
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.overrides import OverrideStore
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.planning.pools import ASKED, STEP_SECONDS, overridden, pool_of, sight_of
from sluicegate_agent.planning.services import Service
from sluicegate_agent.planning.steer import AS_CONFIGURED, Steer
from sluicegate_agent.planning.targets import signal_targets
from sluicegate_agent.signals.collector import SignalCollector
from sluicegate_agent.signals.model import Load, Reading
from sluicegate_agent.signals.targets import SignalTarget
from sluicegate_agent.steering.glide import Moment
from sluicegate_agent.steering.pool import TOGETHER_SECONDS, SteeredPool
from sluicegate_agent.steering.uptime import Uptime
from sluicegate_agent.weights.controller import Controller
from sluicegate_agent.weights.model import Decision, Member, Override
from sluicegate_api.checks import WeightSource

log = logging.getLogger(__name__)

READ_SECONDS: Final = 0.1
"""Between two readings of the counters: short against a tick, so that their mean is one over time."""
SPARSE_READ_SECONDS: Final = 0.4
"""The same where no service sees replies, and the longest: rates need two readings per tick."""
READ_SHARE: Final = 0.1
"""Readings take at most this part of the time, as long as they are not further apart than that: thousands of backends
are read less often."""
HASTE_SECONDS: Final = 0.05
"""After one backend said something that cannot wait, others may be about to: they go together."""
LONGEST_WAIT: Final = 1.0
"""While an override is in force, the wall clock is looked at so often: it may jump."""

ReadLoads = Callable[[Collection[BackendId]], Awaitable[tuple[float, Mapping[BackendId, Load]]]]
"""Reads the loads of some backends; with the loop's time at which that was. Raises DatapathError, KernelError."""


@dataclass(frozen=True, slots=True)
class Steered:
    """What there is to show: see :class:`~sluicegate_agent.reports.situation.Situation`."""

    decisions: Mapping[BackendKey, Decision] = field(default_factory=dict)
    pool_notes: Mapping[ServiceKey, str] = field(default_factory=dict)
    readings: Mapping[BackendKey, Reading] = field(default_factory=dict)
    overrides: Mapping[BackendKey, Override] = field(default_factory=dict)


class Steering:
    """An async context manager: signals are asked for while it is open, and :meth:`run` decides.

    ``tell`` is called on the loop after every tick, with whether anything moved that the tables depend on.
    """

    def __init__(
        self,
        overrides: OverrideStore,
        tell: Callable[[bool], None],
        *,
        collector: SignalCollector | None = None,
        controller: Controller | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = overrides
        self._tell = tell
        self._collector = collector or SignalCollector()
        self._controller = controller or Controller()
        self._wall = wall
        self._uptime = Uptime()
        self._services: Mapping[ServiceKey, Service] = {}
        self._pools: dict[ServiceKey, SteeredPool] = {}
        self._ids: Mapping[BackendKey, BackendId] = {}
        self._overrides: Mapping[BackendKey, Override] = overrides.current(wall())
        self._steers: Mapping[BackendKey, Steer] = {}
        self._wake = asyncio.Event()
        self._measured = asyncio.Event()
        self._steers = self._combined()

    async def __aenter__(self) -> Self:
        await self._collector.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._collector.__aexit__(*exception)

    @property
    def steers(self) -> Mapping[BackendKey, Steer]:
        """What the tables are to be made from; replaced, never changed."""
        return self._steers

    @property
    def steered(self) -> Steered:
        """All that is to be shown of this moment."""
        readings = cast("Mapping[BackendKey, Reading]", self._collector.readings)
        return Steered(
            {key: decision for pool in self._pools.values() for key, decision in pool.decisions.items()},
            {key: pool.note for key, pool in self._pools.items() if pool.note},
            dict(readings),
            self._overrides,
        )

    def configure(self, services: Sequence[Service]) -> None:
        """Steer these services from now on; what is known of those that stay is kept."""
        self._services = {service.key: service for service in services if service.steered}
        self._pools = {key: self._pools.get(key) or SteeredPool() for key in self._services}
        for key, pool in self._pools.items():
            pool.follow(self._services[key])
        self._ids = {key: identity for key, identity in self._ids.items() if key.service in self._services}
        self._follow_ids()
        self._controller.keep_only(self._services.keys())
        targets = signal_targets(self._services.values())
        self._collector.update(cast("dict[Hashable, SignalTarget]", targets))
        self._steers = self._combined()
        self._wake.set()

    def learn(self, desired: Desired, now: float) -> None:
        """Take note of what the last step made of the backends, and when that was."""
        steered = {key: outcome for key, outcome in desired.backends.items() if key.service in self._services}
        moved = self._uptime.follow(desired.backends, self._overrides.keys(), now)
        self._ids = {
            key: outcome.id
            for key, outcome in steered.items()
            if outcome.id is not None and self._services[key.service].weights.type is not WeightSource.NONE
        }
        self._follow_ids()
        for key in {backend.service for backend in moved} & self._pools.keys():
            self._pools[key].due = now
            self._wake.set()

    def drain(self, backends: Collection[BackendKey], until: float, by: str) -> None:
        """An operator wants no new flows on these backends until then (seconds since the epoch)."""
        self._store.drain(backends, until, by)
        self._follow_overrides()

    def ready(self, backends: Collection[BackendKey]) -> frozenset[BackendKey]:
        """An operator takes that back; those that were drained."""
        found = self._store.ready(backends)
        self._follow_overrides()
        return found

    async def run(self, read: ReadLoads) -> None:
        """Decide until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_again(lambda: self._measure(read)))
            tasks.create_task(_again(self._hasten))
            tasks.create_task(_again(self._decide))

    async def _measure(self, read: ReadLoads) -> None:
        loop = asyncio.get_running_loop()
        failing = False
        due, seconds = loop.time(), 0.0
        while True:
            await self._measured.wait()
            due = max(due + self._read_seconds(seconds), loop.time())
            await asyncio.sleep(due - loop.time())
            began = loop.time()
            try:
                now, loads = await read(list(self._ids.values()))
            except (DatapathError, KernelError) as error:
                if not failing:
                    log.warning("the load of backends cannot be read: %s", error)
                failing = True
                continue
            failing = False
            self._sample(now, loads)
            seconds = loop.time() - began

    def _follow_ids(self) -> None:
        if self._ids:
            self._measured.set()
        else:
            self._measured.clear()

    def _read_seconds(self, last: float) -> float:
        """Until the next reading, when the last one took so long."""
        if not any(sight_of(self._services[key.service]).replies for key in self._ids):
            return SPARSE_READ_SECONDS
        return min(max(READ_SECONDS, last / READ_SHARE), SPARSE_READ_SECONDS)

    def _sample(self, now: float, loads: Mapping[BackendId, Load]) -> None:
        by_service: dict[ServiceKey, dict[Hashable, Load]] = {}
        for key, identity in self._ids.items():
            if identity in loads:
                by_service.setdefault(key.service, {})[key] = loads[identity]
        for service, found in by_service.items():
            self._pools[service].meter.sample(now, found, dict.fromkeys(found, sight_of(self._services[service])))

    async def _hasten(self) -> None:
        while True:
            await self._collector.changed()
            await asyncio.sleep(HASTE_SECONDS)
            now = asyncio.get_running_loop().time()
            for key, pool in self._pools.items():
                if self._services[key].weights.type in ASKED:
                    pool.due = min(pool.due, now)
            self._wake.set()

    async def _decide(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            self._step(loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next_time(loop.time())):
                    await self._wake.wait()

    def _next_time(self, now: float) -> float | None:
        times = [pool.due for pool in self._pools.values()]
        expiry = self._store.next_expiry()
        if expiry is not None:
            times.append(now + min(LONGEST_WAIT, max(0.0, expiry - self._wall())))
        return min(times, default=None)

    def _step(self, now: float) -> None:
        for key, pool in self._pools.items():
            if pool.due <= now + TOGETHER_SECONDS:
                self._step_pool(key, pool, now)
        self._overrides = self._store.current(self._wall())
        self._publish()

    def _step_pool(self, key: ServiceKey, pool: SteeredPool, now: float) -> None:
        service = self._services[key]
        whole = pool.begin(now, STEP_SECONDS)
        if whole:
            pool.passive = pool.meter.tick()
        # Of others nothing is known before the next step, and what the kernel has of them stays until then.
        known = [backend for backend in service.backends if self._uptime.knows(backend.key)]
        for backend in known:
            pool.glide.begin(backend.key, self._uptime.found(backend.key))
        if not known:
            return
        members = {backend.key: self._member(backend.key, backend.weight, pool) for backend in known}
        try:
            decided = self._controller.step(key, pool_of(service, members), now)
        except Exception:
            # A defect must not end all the rest; the weights stay as they are.
            log.exception("deciding on the weights of %s broke", key)
            return
        pool.take(service, members, decided, Moment(service.weights.type, whole, pool.patient(service, now)))

    def _member(self, key: BackendKey, weight: int, pool: SteeredPool) -> Member:
        found = self._uptime.found(key)
        return Member(
            # Drained by hand, it is not ill: no panic of its pool may count it.
            weight=0 if key in self._overrides else weight,
            usable=self._uptime.usable(key),
            usable_since=self._uptime.since(key),
            passive=pool.passive.get(key),
            reading=self._collector.readings.get(key),
            published=found.weight or None if found is not None else None,
        )

    def _follow_overrides(self) -> None:
        self._overrides = self._store.current(self._wall())
        self._wake.set()
        self._publish()

    def _publish(self) -> None:
        steers = self._combined()
        moved = steers != self._steers
        if moved:
            self._steers = steers
        self._tell(moved)

    def _combined(self) -> Mapping[BackendKey, Steer]:
        steers = {key: steer for pool in self._pools.values() for key, steer in pool.steers.items()}
        for key, override in self._overrides.items():
            steers[key] = overridden(steers.get(key, AS_CONFIGURED), override)
        return steers


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Do work that does not end by itself. A defect must not end the agent with it: it is told, and work goes on."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("steering broke")
        await asyncio.sleep(LONGEST_WAIT)
