"""Live sniffing as the agent has it: one object that is told what to sniff and keeps kernel and engine to that.

Whatever goes wrong in it, packets pass and the balancer works on: it says so in its state, and tries again.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from sluicegate_agent.attach import Attached
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.dpi.events.hub import EventHub, SnifferEvents
from sluicegate_agent.dpi.live.model import WorkerConfig, WorkerPolicy
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.programs import SNIFF
from sluicegate_agent.settings import AgentSettings
from sluicegate_agent.sniffing.assignment import Place, assign
from sluicegate_agent.sniffing.kernel import Look, SniffKernel
from sluicegate_agent.sniffing.model import SnifferPlan
from sluicegate_agent.sniffing.numbers import NumberStore
from sluicegate_agent.sniffing.observed import Done, Told, seen_since, sniffed, sniffer_states
from sluicegate_agent.sniffing.plans import Orders, taps_of
from sluicegate_agent.sniffing.room import EngineRoom
from sluicegate_agent.sniffing.signatures import SignatureLoader
from sluicegate_agent.sniffing.state import ENGINE_STOPPED, SniffingState
from sluicegate_agent.sniffing.stats import StatsLines
from sluicegate_agent.source.configuration import SnifferEntry
from sluicegate_api.common import ObjectKey

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks at the kernel's tables: so late are counters, and events of flows that ended."""
SOON_SECONDS: Final = 0.05
FILES_SECONDS: Final = 5.0
"""Between two looks whether files of signatures changed."""
NEWS_SECONDS: Final = 5.0
"""How long a new sniffer waits for workers to know it, before it begins all the same."""

T = TypeVar("T")


class KernelThread(Protocol):
    """Runs blocking work on the kernel's tables in the thread that they belong to."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]:
        """The result."""
        ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the kernel shall do. ``rings``: whether there is somebody to send packets to, now or soon."""

    plans: tuple[SnifferPlan, ...] = ()
    places: tuple[Place, ...] = ()
    rings: bool = False


class LiveSniffing:
    """Sniffers of one node.

    ``changed`` is called on the loop when :attr:`state` is another one; its argument says whether the agent is to take
    a step, because the kernel's tables are to follow. :meth:`apply` alone is called in the kernel's thread.
    """

    def __init__(
        self,
        settings: AgentSettings,
        state_dir: Path,
        rings: Path,
        changed: Callable[[bool], None],
        *,
        open_kernel: Callable[[Manifest, Path, int, int], SniffKernel] = SniffKernel,
        room: EngineRoom | None = None,
        loader: SignatureLoader | None = None,
    ) -> None:
        """``rings`` is where the rings are pinned."""
        self._settings = settings
        self._rings = rings
        self._changed = changed
        self._open_kernel = open_kernel
        self.hub = EventHub()
        self._node = platform.node()
        self._numbers = NumberStore(state_dir)
        self._room = room or EngineRoom(state_dir, self.hub.publish)
        self._loader = loader or SignatureLoader()
        self._stats = StatsLines(self._node, self.hub.publish)
        self._entries: Mapping[ObjectKey, SnifferEntry] = {}
        self._names: Mapping[int, str] = {}
        self._places: Mapping[ObjectKey, Place] = {}
        self._begun: frozenset[ObjectKey] = frozenset()
        self._waiting_since: float | None = None
        self._orders = Orders()
        self._plans: Mapping[ObjectKey, SnifferPlan] = {}
        self._told: tuple[Mapping[int, WorkerPolicy], Mapping[int, str]] = ({}, {})
        self._wanted = _Wanted()
        self._done = Done()
        self._found: frozenset[int] = frozenset()
        self._kernel: SniffKernel | None = None
        self._old: list[SniffKernel] = []
        self._look = self._before = Look()
        self._seen = self._evicted = 0
        self._wake = asyncio.Event()
        self.state = SniffingState()

    @property
    def interfaces(self) -> Mapping[InterfaceIndex, str]:
        """Interfaces that need our programs for it, each with the reason."""
        return {ifindex: because for place in self._places.values() for ifindex, because in place.interfaces.items()}

    def configure(self, entries: Sequence[SnifferEntry], network: NetworkSnapshot) -> None:
        """What is to be sniffed, and on what; call it before each step. On the loop, and quick."""
        wanted = {entry.object.key: entry for entry in entries}
        numbers = {key: place.number for key, place in self._places.items() if place.number is not None}
        places = assign([entry.object for entry in entries], network, numbers or self._numbers.load())
        names = {int(ifindex): link.name for ifindex, link in network.links.items()}
        if (wanted, places, names) != (self._entries, self._places, self._names):
            self._wake.set()
        self._entries, self._places, self._names = wanted, places, names
        if places:
            self._numbers.save({key: place.number for key, place in places.items() if place.number is not None})
        self._plan()

    def apply(self, manifest: Manifest, attached: Mapping[InterfaceIndex, Attached]) -> bool:
        """Bring the kernel's tables in line; False when it is to be tried again. In the kernel's thread."""
        wanted, before = self._wanted, self._kernel
        try:
            kernel = self._kernel_for(manifest)
            if kernel is None:
                self._done = Done()
                return True
            if wanted.rings:
                kernel.open_rings()
            numbers = {place.number for place in self._places.values()}
            if kernel is not before and not kernel.numbers.isdisjoint(numbers):
                # An agent before left them: they go on, and are planned for from the next step on.
                self._found = kernel.numbers
                self._done = Done(taps=kernel.taps)
                return True
            applied = kernel.apply(wanted.plans, taps_of(wanted.places, attached))
        except (KernelError, OSError, ValueError) as error:
            log.error("the kernel's tables cannot be made to sniff: %s", error)
            self._done = Done(taps=self._done.taps, refused=str(error))
            return False
        self._done = Done(applied, kernel.taps)
        return True

    def applied(self) -> None:
        """A step was taken. On the loop."""
        found, self._found = self._found, frozenset()
        if found:
            self._begun |= {key for key, place in self._places.items() if place.number in found}
            self._plan()
        self._tell(moved=bool(found))
        if self._waiting_since is not None or self._room.rings is not self._kernel:
            self._wake.set()

    async def run(self, in_kernel: KernelThread) -> None:
        """Keep the engine to what is wanted, and look at the tables, until cancelled."""
        files_at = looked_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            soon = self._waiting_since is not None or self._look.swept.more or not self._loader.idle
            with suppress(TimeoutError):
                async with asyncio.timeout(SOON_SECONDS if soon else LOOK_SECONDS):
                    await self._wake.wait()
            woken, now = self._wake.is_set(), loop.time()
            self._wake.clear()
            try:
                if woken or now >= files_at:
                    await self._loader.configure([*self._entries.values()])
                    files_at = now + FILES_SECONDS
                await self._keep_engine(in_kernel, now)
                if now - looked_at >= LOOK_SECONDS or self._look.swept.more:
                    looked_at = now
                    await self._take_a_look(in_kernel)
            except (KernelError, OSError) as error:
                log.warning("live sniffing: %s", error)
            except Exception:
                log.exception("live sniffing broke")  # the next turn may go through, and the rest must go on
            self._tell(moved=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._loader.close()
        await self._room.close()
        left = await asyncio.to_thread(self.hub.close)
        if left:
            log.warning("%d lines of events were left unwritten", left)

    def _kernel_for(self, manifest: Manifest) -> SniffKernel | None:
        """The kernel's half of this set of programs; one of an older set is closed when the workers have left it."""
        kernel = self._kernel
        if kernel is not None and kernel.manifest is manifest:
            return kernel
        if kernel is not None:
            self._old.append(kernel)
            self._kernel = None
        if manifest.features.get(SNIFF):
            settings = self._settings
            self._kernel = self._open_kernel(manifest, self._rings, settings.worker_count, settings.dpi_ring_bytes)
        return self._kernel

    async def _keep_engine(self, in_kernel: KernelThread, now: float) -> None:
        """Workers for the rings that there are, told of all sniffers whose signatures are settled."""
        kernel = self._kernel
        numbers = {
            key: number
            for key, place in self._places.items()
            if (number := place.number) is not None and self._loader.settled(key)
        }
        await self._inform(numbers)
        used = kernel is not None and self._entries and kernel.rings
        if not used or self._begun <= numbers.keys():  # records of sniffers that an agent before left wait for theirs
            await self._room.move(kernel if used else None, now)
        while self._old:
            await in_kernel(self._old.pop().close)
        self._begin(frozenset(numbers), now)
        if kernel is not None and used:
            takes = self._room.takes
            if takes is not None:
                await in_kernel(lambda: kernel.let_read(running=takes))
        elif kernel is not None and not self._entries and not self._done.taps:
            await in_kernel(kernel.give_back)

    async def _inform(self, numbers: Mapping[ObjectKey, int]) -> None:
        """Tell workers and outputs what has changed."""
        policies = {
            number: self._orders.policy(self._entries[key].object, self._loader.rules(key))
            for key, number in numbers.items()
        }
        if (policies, self._names) != self._told:
            self._told = (policies, self._names)
            exports = {key: self._entries[key].object.spec.export.eve for key in numbers}
            self.hub.configure({number: SnifferEvents(str(key), exports[key]) for key, number in numbers.items()})
            await self._room.tell(WorkerConfig(policies, self._node, self._names))

    def _begin(self, ready: frozenset[ObjectKey], now: float) -> None:
        """Let sniffers begin that the workers know: what comes up of another one would be judged by no rules.

        The kernel follows changes of rules, too.
        """
        begin = bool(ready - self._begun)
        if not begin:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        if begin and (self._room.knows or now - (self._waiting_since or now) >= NEWS_SECONDS):
            self._waiting_since = None
            self._begun |= ready
        before = self._wanted
        self._plan()
        if self._wanted != before:
            self._tell(moved=True)

    def _plan(self) -> None:
        """What the next step is to write: sniffers that have begun, where they have a place."""
        self._orders.keep(self._places.keys())
        self._begun &= self._places.keys()
        self._plans = {
            key: self._orders.plan(self._entries[key].object, place.number, self._loader.rules(key))
            for key, place in self._places.items()
            if key in self._begun and place.number is not None
        }
        places = tuple(self._places[key] for key in self._plans)
        self._wanted = _Wanted(tuple(self._plans.values()), places, rings=bool(self._places))

    async def _take_a_look(self, in_kernel: KernelThread) -> None:
        kernel = self._kernel
        if kernel is None or not self._done.taps:
            self._look = self._before = Look()
            return
        if self._room.problem == ENGINE_STOPPED:
            return  # flows that ended meanwhile are told to workers that start now
        look = await in_kernel(kernel.look)
        self._room.end(look.swept.ended)
        self._before, self._look = self._look, look
        self._seen += seen_since(look, self._before)
        self._evicted += look.swept.evicted
        self._stats.publish(self.state, time.time_ns())

    def _tell(self, *, moved: bool) -> None:
        plans = self._plans
        told = {
            key: Told(
                place,
                tuple(rule.name for rule in plans[key].rules) if key in plans else (),
                self._loader.summary(key),
            )
            for key, place in self._places.items()
        }
        self.state = SniffingState(
            sniffers=sniffer_states(told, self._done, self._look, self._before, self.hub.stats()),
            sniffed=sniffed(self._places, self._done),
            refused=self._done.refused,
            engine_problem=self._room.problem,
            workers=self._room.states,
            ring_lost=self._look.losses,
            ring_bytes=self._kernel.ring_bytes if self._kernel is not None else 0,
            seen=self._seen,
            entries=self._look.swept.entries,
            capacity=dict.fromkeys(self._look.swept.entries, self._settings.sniffed_flows),
            evicted=self._evicted,
        )
        self._changed(moved)
