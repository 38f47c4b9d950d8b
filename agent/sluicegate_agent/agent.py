"""The running agent: one loop that every event wakes, and that brings the kernel in line with what is wanted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar, cast

from sluicegate_agent.datapath.model import BackendId, IPAddress, KernelState
from sluicegate_agent.datapath.protocol import Counters, DatapathError
from sluicegate_agent.health.checker import HealthChecker
from sluicegate_agent.health.model import HealthState, Target
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader import client as loader
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.network.monitor import NetworkMonitor
from sluicegate_agent.overrides import OverrideStore
from sluicegate_agent.pins import Pins
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.services import Service, expand
from sluicegate_agent.planning.targets import (
    backend_addresses,
    found_down,
    health_targets,
    leaving_addresses,
    vip_addresses,
)
from sluicegate_agent.programs import SNIFF, features_of, kernel_settings, limits, needed_features, request, runnable
from sluicegate_agent.reports.narrate import configuration_changes, transitions
from sluicegate_agent.reports.narrate_sniffing import sniffing_changes
from sluicegate_agent.reports.narrate_weights import WeightNarrator
from sluicegate_agent.reports.situation import Programs, Situation
from sluicegate_agent.settings import AgentSettings, TcHook
from sluicegate_agent.signals.model import Load
from sluicegate_agent.sniffing.service import LiveSniffing
from sluicegate_agent.source.configuration import Configuration, configure
from sluicegate_agent.source.files import Files, FileWatcher
from sluicegate_agent.source.store import ConfigurationStore
from sluicegate_agent.steering.loop import Steering
from sluicegate_agent.worker import KernelWorker
from sluicegate_api.loadbalancer import LoadBalancer

log = logging.getLogger(__name__)

DEBOUNCE_SECONDS = 0.02
SWEEP_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 5.0
LOADER_RETRY_SECONDS = 30.0

T = TypeVar("T")


class Agent:
    """Everything that runs after start-up. Kernel state is written in one thread, so the loop never waits for it."""

    def __init__(self, settings: AgentSettings, pins: Pins, watcher: FileWatcher) -> None:
        self._settings = settings
        self._pins = pins
        self._watcher = watcher
        self._store = ConfigurationStore(pins.state_dir)
        self._network = NetworkMonitor()
        self._health = HealthChecker()
        self._steering = Steering(OverrideStore(pins.state_dir), self._steered)
        self._narrator = WeightNarrator()
        self.sniffing = LiveSniffing(settings, pins.state_dir, pins.root / "rings", self._sniffed)
        self._kernel = ThreadPoolExecutor(1, thread_name_prefix="kernel")
        self._worker: KernelWorker | None = None
        # A set that an agent before left pinned keeps its features: a restart then compiles nothing.
        self._features = features_of(Manifest.read(pins.manifest_path))
        self._loading: asyncio.Task[None] | None = None
        self._load_at: float | None = None
        self._retry_at: float | None = None
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._wake = asyncio.Event()
        self._balancers: Sequence[LoadBalancer] = ()
        self._to_steer: Sequence[Service] | None = None
        self._targets: Mapping[BackendKey, Target] = {}
        self._addresses: frozenset[IPAddress] = frozenset()
        self.situation = Situation(configuration=self._store.load())

    def take_files(self, files: Files) -> None:
        """Take over what the files hold now."""
        self._take(configure(files, self.situation.configuration))

    def count(self) -> Future[Counters] | None:
        """Start reading the counters; None before programs are loaded. For any thread."""
        worker = self._worker
        return self._kernel.submit(worker.counters) if worker is not None else None

    def look(self, question: Callable[[Manifest, KernelState], T]) -> Future[T] | None:
        """Start answering a question in the kernel's thread; None before programs are loaded. For any thread."""
        worker = self._worker
        return self._kernel.submit(worker.look, question) if worker is not None else None

    def drain(self, backends: Collection[BackendKey], until: float, by: str) -> None:
        """These backends of this node get no new flows until then (seconds since the epoch). On the loop."""
        self._steering.drain(backends, until, by)

    def ready(self, backends: Collection[BackendKey]) -> frozenset[BackendKey]:
        """Take that back; those of which it was said. On the loop."""
        return self._steering.ready(backends)

    async def run(self) -> None:
        """Run until cancelled. Raises LoaderError and KernelError when the first programs cannot be loaded."""
        async with self._network, self._health, self._steering, self.sniffing:
            self._loading = self._start_loading()
            if self._loading is not None:
                await self._loading
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_files())
                tasks.create_task(self._follow(self._network.changed))
                tasks.create_task(self._follow(self._health.changed))
                tasks.create_task(self._steering.run(self._read_loads))
                tasks.create_task(self.sniffing.run(self._in_kernel))
                tasks.create_task(self._sweep())
                tasks.create_task(self._reconcile())

    def _take(self, configuration: Configuration) -> None:
        before = self.situation.configuration
        for line in configuration_changes(before, configuration):
            log.info("%s", line)
        for line in configuration.problem_lines:
            if line not in before.problem_lines:
                log.error("%s", line)
        self._store.save(configuration)
        generation = self.situation.config_generation + 1
        self.situation = replace(self.situation, configuration=configuration, config_generation=generation)
        self._load_at = None
        self._choose()
        self._wake.set()

    def _choose(self) -> None:
        wanted = self.situation.configuration.effective()
        self._balancers = runnable(wanted, self._balancers, self.situation.programs.features)
        services = [service for balancer in self._balancers for service in expand(balancer)]
        self._targets = health_targets(services)
        self._to_steer = tuple(services)
        # Ways are looked up for what waits, too: it then starts with them.
        services += [service for balancer in wanted for service in expand(balancer)]
        self._addresses = backend_addresses(services) | vip_addresses(services)
        self._watch()

    def _watch(self) -> None:
        self._network.watch(self._addresses | leaving_addresses(self.situation.desired))

    async def _follow_files(self) -> None:
        async for files in self._watcher.changes():
            self._take(await asyncio.to_thread(configure, files, self.situation.configuration))

    async def _follow(self, changed: Callable[[], Awaitable[None]]) -> None:
        while True:
            await changed()
            self._wake.set()

    async def _read_loads(self, backends: Collection[BackendId]) -> tuple[float, Mapping[BackendId, Load]]:
        worker, clock = self._worker, asyncio.get_running_loop().time
        if worker is None:
            return clock(), {}
        return await self._in_kernel(lambda: (clock(), worker.loads(backends)))

    def _steered(self, moved: bool) -> None:
        """Show what steering came to; when the tables are to follow, wake the loop."""
        before, steered = self.situation, self._steering.steered
        self.situation = replace(
            before,
            decisions=steered.decisions,
            pool_notes=steered.pool_notes,
            readings=steered.readings,
            overrides=steered.overrides,
        )
        for line in self._narrator.lines(self.situation, time.monotonic()):
            log.info("%s", line)
        if moved:
            self._wake.set()

    def _sniffed(self, moved: bool) -> None:
        """The same of the sniffers."""
        for line in sniffing_changes(self.situation, self.sniffing.state):
            log.info("%s", line)
        self.situation = replace(self.situation, sniffing=self.sniffing.state)
        if moved:
            self._wake.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            worker = self._worker
            if worker is None:
                continue
            try:
                census = await self._in_kernel(worker.sweep)
                counters = await self._in_kernel(worker.counters)
                self.situation = replace(self.situation.with_counters(counters), census=census)
            except (DatapathError, KernelError) as error:
                log.warning("cannot read the kernel's tables: %s", error)
            except Exception:
                log.exception("a sweep broke")  # the next one may go through, and the rest must go on

    async def _reconcile(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._next_event()
            await asyncio.sleep(DEBOUNCE_SECONDS)
            self._wake.clear()
            self._retry_at = None
            if self._loading is None and (self._load_at is None or self._load_at <= loop.time()):
                self._loading = self._start_loading()
            if self._worker is None:
                continue
            try:
                converged = await self._step(self._worker)
            except (DatapathError, KernelError) as error:
                log.error("cannot bring the kernel in line: %s", error)  # the message says it all
                applied = replace(self.situation.applied, refused=(str(error),))
                self.situation = replace(self.situation, applied=applied)
                converged = False
            except Exception:
                # A defect must not end health checks and all the rest: the next event may well go through.
                log.exception("a step broke")
                converged = False
            self._plan_retry(converged, loop.time())

    async def _next_event(self) -> None:
        times = (self._retry_at, self._load_at, self.situation.desired.wake_at)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min((each for each in times if each is not None), default=None)):
                await self._wake.wait()

    def _plan_retry(self, converged: bool, now: float) -> None:
        if converged:
            self._retry_seconds = FIRST_RETRY_SECONDS
            return
        self._retry_at = now + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, LAST_RETRY_SECONDS)
        self.situation = replace(self.situation, reconcile_failures=self.situation.reconcile_failures + 1)

    async def _step(self, worker: KernelWorker) -> bool:
        targets, states = self._targets, self._health.states
        health = {key: states[key].state if key in states else HealthState.UNKNOWN for key in targets}
        self._watch()
        network = self._network.snapshot
        now = asyncio.get_running_loop().time()
        if self._to_steer is not None:
            self._steering.configure(self._to_steer)
            self._to_steer = None
        steers = self._steering.steers
        sniffs = SNIFF in self.situation.programs.features
        self.sniffing.configure(self.situation.configuration.running_sniffers() if sniffs else (), network)
        step = await self._in_kernel(
            lambda: worker.step(self._balancers, network, health, now, steering=steers, sniffing=self.sniffing)
        )
        self._health.update(
            cast("dict[Hashable, Target]", targets), dict.fromkeys(found_down(step.desired), HealthState.DOWN)
        )
        before = self.situation
        self.situation = replace(
            before,
            network=network,
            desired=step.desired,
            applied=step.applied,
            attached=step.attached,
            health={key: states[key] for key in targets},
        )
        self._steering.learn(step.desired, now)
        self.sniffing.applied()
        for line in transitions(before, self.situation):
            log.info("%s", line)
        return step.converged

    def _start_loading(self) -> asyncio.Task[None] | None:
        """Load another set of programs beside the running one, if the configuration needs one."""
        configuration = self.situation.configuration
        wanted = self._features | needed_features(configuration.effective(), configuration.running_sniffers())
        if not wanted or (self._worker is not None and wanted == self._features):
            return None
        return asyncio.get_running_loop().create_task(self._load(wanted))

    async def _load(self, features: frozenset[str]) -> None:
        asked = request(self._settings, self._pins.root, features)
        try:
            self._tell_programs("the programs are being compiled")
            manifest = await asyncio.to_thread(loader.pinned, asked, self._pins.manifest_path)
            if manifest is None:
                manifest = await asyncio.to_thread(
                    loader.load,
                    asked,
                    progress=_tell_progress,
                    previous=Manifest.read(self._pins.manifest_path),
                )
                manifest.save(self._pins.manifest_path)
            await self._in_kernel(lambda: self._install(manifest))
        except (LoaderError, KernelError, DatapathError) as error:
            if self._worker is None:
                raise
            log.error("the programs that the configuration needs cannot be loaded: %s", error)
            self._tell_programs(str(error))
            self._load_at = asyncio.get_running_loop().time() + LOADER_RETRY_SECONDS
        else:
            self._features = features
            self._load_at = None
            self.situation = replace(self.situation, programs=Programs(features, ""))
            self._choose()
        finally:
            self._loading = None
            self._wake.set()

    def _install(self, manifest: Manifest) -> None:
        if self._worker is None:
            settings = self._settings
            use_tcx = False if settings.tc is TcHook.CLSACT else None
            self._worker = KernelWorker(
                self._pins, limits(settings), kernel_settings(settings), manifest, use_tcx=use_tcx
            )
            if settings.program_statistics:
                self._worker.measure_programs()
        else:
            self._worker.install(manifest)

    def _tell_programs(self, obstacle: str) -> None:
        self.situation = replace(self.situation, programs=replace(self.situation.programs, obstacle=obstacle))

    async def _in_kernel(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._kernel, work)


def _tell_progress(line: str) -> None:
    log.info("loader: %s", line)
