"""Kernel, engine and signatures are kept to what is to be sniffed; those three are fakes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from sluicegate_agent.attach import Attached, Mode
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.dpi.live.model import EndedFlow, RunState, WorkerConfig, WorkerState
from sluicegate_agent.dpi.rules.load import Outcome, RuleSet, State
from sluicegate_agent.kernel.libbpf import KernelError
from sluicegate_agent.network.model import Link, NetworkSnapshot
from sluicegate_agent.settings import AgentSettings
from sluicegate_agent.sniffing import service
from sluicegate_agent.sniffing.kernel import Look, SniffKernel
from sluicegate_agent.sniffing.model import Applied, SniffCounters, SnifferPlan, SniffState, Swept, Tap
from sluicegate_agent.sniffing.numbers import NumberStore
from sluicegate_agent.sniffing.room import EngineRoom
from sluicegate_agent.sniffing.service import LiveSniffing
from sluicegate_agent.sniffing.signatures import SignatureLoader
from sluicegate_agent.source.configuration import SnifferEntry
from sluicegate_agent.source.objects import Kept
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer

EDGE = ObjectKey("shop", "edge")
ETH0 = InterfaceIndex(2)
T = TypeVar("T")


class FakeKernel:
    """The kernel's half: what it was told, and what a test lets it have counted."""

    def __init__(self, manifest: object) -> None:
        self.manifest = manifest
        self.rings: tuple[int, ...] = ()
        self.ring_bytes, self.verdicts = 1 << 16, 99
        self.plans: Sequence[SnifferPlan] = ()
        self.taps: tuple[Tap, ...] = ()
        self.readers = False
        self.refuse: Applied | Exception = Applied()
        self.next = Look()
        self.closed = self.given_back = False
        self.numbers: frozenset[int] = frozenset()
        self.applies = 0

    def open_rings(self) -> None:
        self.rings = (7,)

    def apply(self, plans: Sequence[SnifferPlan], taps: Sequence[Tap]) -> Applied:
        if isinstance(self.refuse, Exception):
            raise self.refuse
        self.plans, self.taps = plans, tuple(taps)
        self.applies += 1
        return self.refuse

    def let_read(self, *, running: bool) -> None:
        self.readers = running

    def look(self) -> Look:
        return self.next

    def give_back(self) -> None:
        self.rings, self.given_back = (), True

    def close(self) -> None:
        self.closed = True


class FakePool:
    """The pool: knows what it was told as soon as a test lets it."""

    def __init__(self, rings: Sequence[int]) -> None:
        self.rings = rings
        self.configs: list[WorkerConfig] = []
        self.slow = False
        self.state = RunState.RUNNING
        self.ended: list[tuple[int, Sequence[EndedFlow]]] = []
        self.open = False

    async def __aenter__(self) -> FakePool:
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    @property
    def version(self) -> int:
        return len(self.configs)

    async def configure(self, config: WorkerConfig) -> None:
        self.configs.append(config)

    def end_flows(self, worker: int, flows: Sequence[EndedFlow]) -> None:
        self.ended.append((worker, flows))

    def states(self) -> tuple[WorkerState, ...]:
        return (WorkerState(0, self.state, config=0 if self.slow else self.version),)


class Stage:
    """Live sniffing with fakes, and an agent that takes a step whenever it is asked to."""

    def __init__(self, tmp_path: Path) -> None:
        self.kernels: list[FakeKernel] = []
        self.pools: list[FakePool] = []
        self.refuse_pool: Exception | None = None
        self.slow_pool = False
        self.told = asyncio.Event()
        self.manifest = SimpleNamespace(features={"SNIFF": True})
        self.entries: Sequence[SnifferEntry] = (entry(),)
        self.converged = True
        self.left_behind: tuple[frozenset[int], tuple[Tap, ...]] = (frozenset(), ())
        self.rules = RuleSet((Outcome("here", 1, State.LOADED),), {})
        self.reading = threading.Event()
        self.reading.set()
        settings = AgentSettings(state_dir=tmp_path, dpi_workers=1)
        room = EngineRoom(tmp_path, lambda *_: None, cast("Any", self._pool))
        loader = SignatureLoader(self._read)
        self.sniffing = LiveSniffing(
            settings,
            tmp_path,
            tmp_path / "rings",
            self._changed,
            open_kernel=cast("Callable[..., SniffKernel]", self._kernel),
            room=room,
            loader=loader,
        )

    def _read(self, _sniffer: DpiSniffer, _folder: Path) -> RuleSet:
        assert self.reading.wait(10)
        return self.rules

    def _pool(self, rings: Sequence[int], *_: object) -> FakePool:
        if self.refuse_pool is not None:
            raise self.refuse_pool
        self.pools.append(FakePool(rings))
        self.pools[-1].slow = self.slow_pool
        return self.pools[-1]

    def _kernel(self, manifest: object, *_: object) -> FakeKernel:
        self.kernels.append(FakeKernel(manifest))
        self.kernels[-1].numbers, self.kernels[-1].taps = self.left_behind
        return self.kernels[-1]

    def _changed(self, moved: bool) -> None:
        self.told.set()
        if moved:
            self.step()

    def step(self) -> None:
        """What the agent does in a step."""
        self.sniffing.configure(self.entries, network())
        attached = {ETH0: Attached(ETH0, "eth0", Mode.XDP, "", "xdp_main")}
        self.converged = self.sniffing.apply(cast("Any", self.manifest), attached)
        self.sniffing.applied()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that is told."""
        while not true():
            self.told.clear()
            await self.told.wait()

    @property
    def kernel(self) -> FakeKernel:
        return self.kernels[-1]

    @property
    def pool(self) -> FakePool:
        return self.pools[-1]


async def in_kernel(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


def entry(name: str = "edge", **spec: object) -> SnifferEntry:
    spec.setdefault("attach", {"interfaces": ["eth0"]})
    body = {"metadata": {"name": name, "namespace": "shop"}, "spec": spec}
    return Kept(DpiSniffer.model_validate(body), "/etc/a.yaml", 1)


def network() -> NetworkSnapshot:
    link = Link(ETH0, "eth0", "", 1500, bytes(6), up=True, ethernet=True, takes_redirect=True)
    return NetworkSnapshot(links={ETH0: link})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(service, "SOON_SECONDS", 0.001)


def play(tmp_path: Path, story: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        stage = Stage(tmp_path)
        async with asyncio.timeout(20), stage.sniffing:
            running = asyncio.create_task(stage.sniffing.run(in_kernel))
            try:
                await story(stage)
            finally:
                stage.reading.set()
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    asyncio.run(run())


def test_a_sniffer_begins_with_rings_workers_and_a_tap(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.step()
        assert dict(stage.sniffing.interfaces) == {ETH0: "spec.attach.interfaces[0] of shop/edge names it"}
        await stage.until(lambda: bool(stage.kernel.taps) and stage.kernel.readers)
        assert stage.kernel.taps == (Tap(ETH0, 1, xdp=True),)
        assert [plan.owner for plan in stage.kernel.plans] == ["shop/edge"]
        config = stage.pool.configs[-1]
        assert stage.pool.rings == (7,)
        assert config.policies[1].name == "edge"
        assert config.interfaces == {2: "eth0"}
        assert stage.sniffing.hub.sniffers[1].name == "shop/edge"
        state = stage.sniffing.state
        assert state.sniffed == {ETH0: EDGE}
        assert not state.engine_away

    play(tmp_path, story)


def test_nothing_goes_up_before_the_workers_know_the_sniffer(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.slow_pool = True
        stage.step()
        await stage.until(lambda: bool(stage.pools) and bool(stage.pool.configs))
        for _ in range(5):
            stage.told.clear()
            await stage.told.wait()
        assert not stage.kernel.taps
        stage.pool.slow = False
        await stage.until(lambda: bool(stage.kernel.taps))

    play(tmp_path, story)


def test_workers_that_never_learn_hold_nothing_up_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        stage.slow_pool = True
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps))

    monkeypatch.setattr(service, "NEWS_SECONDS", 0.02)
    play(tmp_path, story)


def test_a_sniffer_waits_for_its_first_signatures_and_keeps_the_last_ones_later(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.reading.clear()
        stage.entries = (entry(signatures={"inline": "alert one"}),)
        stage.step()
        await stage.until(lambda: stage.sniffing.state.sniffers[EDGE].signatures is not None)
        assert not stage.kernel.plans
        stage.reading.set()
        await stage.until(lambda: bool(stage.kernel.taps))
        stage.reading.clear()
        stage.entries = (entry(signatures={"inline": "alert two"}, budget={"maxPackets": 99}),)
        stage.step()
        signatures = stage.sniffing.state.sniffers[EDGE].signatures
        assert signatures is not None
        assert signatures.in_force == 1
        assert [plan.budget.max_packets for plan in stage.kernel.plans] == [99]

    play(tmp_path, story)


def test_without_an_engine_traffic_passes_and_the_state_says_so(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.refuse_pool = OSError("no memory for rings")
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps))
        assert not stage.kernel.readers
        assert "no memory for rings" in stage.sniffing.state.engine_away

    play(tmp_path, story)


def test_nothing_goes_up_while_all_workers_fail(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.step()
        await stage.until(lambda: stage.kernels != [] and stage.kernel.readers)
        stage.pool.state = RunState.FAILED
        await stage.until(lambda: not stage.kernel.readers)
        assert "does not start" in stage.sniffing.state.engine_away
        stage.pool.state = RunState.RESTARTING
        await stage.until(lambda: stage.kernel.readers)

    play(tmp_path, story)


def test_flows_that_ended_go_to_their_worker_and_counters_to_the_state(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps))
        ended = cast("EndedFlow", SimpleNamespace(flow_id=5))
        before = SniffCounters(packets=1_000_000, sent=90, lost=3, stopped_by_pressure=1)
        stage.kernel.next = Look({1: before}, (3,))
        await stage.until(lambda: stage.sniffing.state.sniffers[EDGE].counters == before)
        assert stage.sniffing.state.sniffers[EDGE].losing == 0
        after = SniffCounters(packets=1_500_000, sent=100, lost=5, stopped_by_pressure=4)
        kinds = {(1, SniffState.SNIFF): 8, (2, SniffState.SNIFF): 9}
        swept = Swept({0: cast("Any", (ended,))}, kinds, {"sniffs4": 17}, evicted=1)
        stage.kernel.next = Look({1: after}, (5,), swept)
        losing: list[tuple[int, int]] = []
        await stage.until(lambda: _note(losing, stage) and bool(stage.pool.ended))
        await stage.until(lambda: stage.sniffing.state.seen == 500_000)
        assert stage.pool.ended[0] == (0, (ended,))
        state = stage.sniffing.state.sniffers[EDGE]
        assert state.active == {SniffState.SNIFF: 8}
        assert stage.sniffing.state.ring_lost == (5,)
        assert stage.sniffing.state.entries == {"sniffs4": 17}
        assert stage.sniffing.state.capacity == {"sniffs4": 65_536}
        assert stage.sniffing.state.evicted >= 1
        assert (2, 3) in losing

    play(tmp_path, story)


def _note(found: list[tuple[int, int]], stage: Stage) -> bool:
    state = stage.sniffing.state.sniffers[EDGE]
    found.append((state.losing, state.pressed))
    return (2, 3) in found


def test_what_the_kernel_refuses_is_told_and_tried_again(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps))
        stage.kernel.refuse = KernelError("taps", 1, "no permission")
        stage.step()
        assert not stage.converged
        assert "no permission" in stage.sniffing.state.refused
        assert stage.sniffing.state.sniffed == {ETH0: EDGE}
        stage.kernel.refuse = Applied({1: "no room"}, {ETH0: "a neighbour has the slot"})
        stage.step()
        assert stage.converged
        assert not stage.sniffing.state.refused
        assert stage.sniffing.state.sniffers[EDGE].refused == ("no room", "a neighbour has the slot")

    play(tmp_path, story)


def test_what_an_agent_before_left_goes_on_while_this_one_reads_signatures(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        tap = Tap(ETH0, 5, xdp=True)
        NumberStore(tmp_path).save({EDGE: 5})
        stage.left_behind = (frozenset({5}), (tap,))
        stage.entries = (entry(signatures={"inline": "alert one"}),)
        stage.reading.clear()
        stage.step()
        assert stage.converged
        assert stage.kernel.taps == (tap,)
        assert stage.sniffing.state.sniffed == {ETH0: EDGE}
        await stage.until(lambda: stage.sniffing.state.sniffers[EDGE].signatures is not None)
        assert [plan.number for plan in stage.kernel.plans] == [5]
        assert stage.kernel.taps == (tap,)
        assert not stage.pools, "workers without its signatures would look past what they are to find"
        stage.reading.set()
        await stage.until(lambda: stage.kernel.readers)
        assert list(stage.pool.configs[0].policies) == [5]
        assert stage.kernel.taps == (tap,)

    play(tmp_path, story)


def test_what_an_agent_before_left_of_a_sniffer_that_is_gone_goes(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.left_behind = (frozenset({5}), (Tap(ETH0, 5, xdp=True),))
        stage.entries = ()
        stage.step()
        assert stage.kernel.taps == ()

    play(tmp_path, story)


def test_the_last_sniffer_takes_workers_and_rings_with_it(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps))
        pool = stage.pool
        stage.entries = ()
        stage.step()
        await stage.until(lambda: stage.kernel.given_back)
        assert not pool.open
        assert not stage.kernel.taps
        assert stage.sniffing.state.sniffers == {}
        stage.entries = (entry(),)
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps) and stage.kernel.readers)
        assert stage.pool is not pool

    play(tmp_path, story)


def test_other_programs_get_workers_of_their_own_and_the_old_half_is_closed_after_them(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps))
        first, pool = stage.kernel, stage.pool
        stage.manifest = SimpleNamespace(features={"SNIFF": True})
        stage.step()
        assert not first.closed
        await stage.until(lambda: first.closed)
        assert not pool.open
        await stage.until(lambda: stage.kernel is not first and stage.kernel.readers)
        assert stage.kernel.taps == first.taps

    play(tmp_path, story)


def test_programs_that_cannot_sniff_are_left_alone(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.manifest = SimpleNamespace(features={})
        stage.entries = ()
        stage.step()
        assert stage.converged
        assert not stage.kernels

    play(tmp_path, story)


def test_a_changed_sniffer_reaches_workers_and_outputs_and_another_step_alone_does_not(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.step()
        await stage.until(lambda: bool(stage.kernel.taps))
        known = len(stage.pool.configs)
        stage.step()
        for _ in range(3):
            stage.told.clear()
            await stage.told.wait()
        assert len(stage.pool.configs) == known
        stage.entries = (entry(classify={"depth": "Full"}),)
        stage.step()
        await stage.until(lambda: len(stage.pool.configs) == known + 1)
        policies: Mapping[int, Any] = stage.pool.configs[-1].policies
        assert policies[1].spec.classify.depth == "Full"

    play(tmp_path, story)
