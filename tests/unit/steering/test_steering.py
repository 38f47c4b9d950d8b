"""When steering decides, what it decides from, and what it hands on; the signals and the arithmetic are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from sluicegate_agent.datapath.model import Backend, BackendId, BackendState, NexthopId, ServiceId
from sluicegate_agent.datapath.protocol import DatapathError
from sluicegate_agent.overrides import OverrideStore
from sluicegate_agent.planning.desired import BackendOutcome, Desired
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.services import Service, expand
from sluicegate_agent.planning.steer import Steer
from sluicegate_agent.signals.model import Load, Reading, Report
from sluicegate_agent.signals.targets import AgentQuestion, SignalTarget
from sluicegate_agent.steering.loop import Steering
from sluicegate_agent.weights.model import Decision, Pool, PoolDecision
from sluicegate_api.loadbalancer import LoadBalancer
from virtual_time import run

WALL = 1_700_000_000.0
AGENT = {"dynamicWeights": {"type": "AgentCheck", "agentCheck": {"port": 9000}}}
PASSIVE = {"dynamicWeights": {"type": "Passive"}}
ONE, TWO = "10.0.0.1", "10.0.0.2"


class FakeCollector:
    """Signals as a test sets them."""

    def __init__(self) -> None:
        self.readings: dict[Hashable, Reading] = {}
        self.targets: Mapping[Hashable, SignalTarget] = {}
        self.event = asyncio.Event()

    async def __aenter__(self) -> FakeCollector:
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    async def changed(self) -> None:
        await self.event.wait()
        self.event.clear()

    def update(self, targets: Mapping[Hashable, SignalTarget]) -> None:
        self.targets = targets


class FakeController:
    """Notes each step; decides as told, or for the configured weights."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Pool]] = []
        self.decide: Callable[[Pool], PoolDecision] = lambda pool: PoolDecision(
            {key: Decision(1000 * member.weight) for key, member in pool.members.items()}
        )
        self.kept: set[Hashable] = set()

    def step(self, _key: Hashable, pool: Pool, now: float) -> PoolDecision:
        self.steps.append((now, pool))
        return self.decide(pool)

    def keep_only(self, keys: Collection[Hashable]) -> None:
        self.kept = set(keys)

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.steps]


@dataclass
class Scene:
    """A steering with its fakes; ``told`` has for each tick whether something moved."""

    directory: Path
    collector: FakeCollector = field(default_factory=FakeCollector)
    controller: FakeController = field(default_factory=FakeController)
    told: list[bool] = field(default_factory=list)
    reads: list[tuple[float, list[BackendId]]] = field(default_factory=list)
    loads: dict[BackendId, Load] = field(default_factory=dict)
    refuse: Exception | None = None
    wall: float = WALL
    services: tuple[Service, ...] = ()

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.steering = Steering(
            OverrideStore(self.directory),
            self.told.append,
            collector=self.collector,  # type: ignore[arg-type]
            controller=self.controller,  # type: ignore[arg-type]
            wall=lambda: self.wall + asyncio.get_running_loop().time(),
        )

    async def read(self, backends: Collection[BackendId]) -> tuple[float, Mapping[BackendId, Load]]:
        now = asyncio.get_running_loop().time()
        self.reads.append((now, list(backends)))
        if self.refuse is not None:
            raise self.refuse
        return now, {key: self.loads.get(key, Load()) for key in backends}

    def configure(self, **spec: object) -> None:
        self.services = tuple(expand(balancer(**spec)))
        self.steering.configure(self.services)

    def learn(self, *, usable: Collection[str] = (ONE, TWO), found: Mapping[str, int] | None = None) -> None:
        """What a step came to; ``found`` are weights of backends that the kernel had before, negative if drained."""
        outcomes = {}
        for identity, key in enumerate(self.keys, start=1):
            address = str(key.address)
            row = in_kernel(found[address]) if found and address in found else None
            outcomes[key] = BackendOutcome(
                BackendId(identity), BackendState.ACTIVE, 1, usable=address in usable, found=row
            )
        self.steering.learn(Desired(backends=outcomes), asyncio.get_running_loop().time())

    @property
    def keys(self) -> list[BackendKey]:
        return [backend.key for service in self.services for backend in service.backends]

    def key(self, address: str) -> BackendKey:
        return next(key for key in self.keys if str(key.address) == address)

    def last(self, address: str):  # type: ignore[no-untyped-def]
        return self.controller.steps[-1][1].members[self.key(address)]


def in_kernel(weight: int) -> Backend:
    state = BackendState.ACTIVE if weight > 0 else BackendState.DRAINING
    return Backend(ServiceId(1), None, None, NexthopId(1), state, 1, abs(weight))


def balancer(**spec: object) -> LoadBalancer:
    return LoadBalancer.model_validate(
        {
            "apiVersion": "sluicegate.io/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "addresses": ["203.0.113.10"],
                "ports": [{"port": 80}],
                "backends": {"static": [{"address": ONE}, {"address": TWO}]},
                **spec,
            },
        }
    )


def play(tmp_path: Path, story: Callable[[Scene], Coroutine[object, object, None]]) -> None:
    """Run a story beside a running steering, in virtual time."""

    async def both() -> None:
        scene = Scene(tmp_path)
        async with scene.steering:
            running = asyncio.create_task(scene.steering.run(scene.read))
            try:
                await story(scene)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running

    run(both())


def test_a_pool_is_decided_on_once_per_second_whatever_the_interval_of_its_signals(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(100)
        scene.configure(dynamicWeights={**PASSIVE["dynamicWeights"], "intervalSeconds": 2})
        scene.learn()
        await asyncio.sleep(6.5)
        assert scene.controller.times == pytest.approx([*range(100, 107)])
        assert scene.controller.kept == {scene.services[0].key}

    play(tmp_path, story)


def test_what_a_backend_states_does_not_wait_for_the_next_tick(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**AGENT)
        scene.learn()
        await asyncio.sleep(1.5)
        before = len(scene.controller.steps)
        scene.collector.readings[scene.key(ONE)] = Reading(Report(share=0.5), at=1.5)
        scene.collector.event.set()
        await asyncio.sleep(0.1)
        assert len(scene.controller.steps) == before + 1
        assert scene.last(ONE).reading.report.share == 0.5
        await asyncio.sleep(0.5)
        assert scene.controller.times[-1] == pytest.approx(2.0)

    play(tmp_path, story)


def test_the_backends_of_the_pool_are_asked_at_their_agent(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**AGENT)
        assert {target.question for target in scene.collector.targets.values()} == {
            AgentQuestion(ip_address(address), 9000) for address in (ONE, TWO)
        }
        scene.configure(**PASSIVE)
        assert not scene.collector.targets

    play(tmp_path, story)


def test_counters_are_read_only_while_a_pool_needs_them(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(slowStartSeconds=10)
        scene.learn()
        await asyncio.sleep(3)
        assert not scene.reads
        scene.configure(**PASSIVE)
        scene.learn()
        await asyncio.sleep(1.05)
        assert len(scene.reads) == pytest.approx(10, abs=1)
        assert scene.reads[-1][1] == [1, 2]
        scene.reads.clear()
        scene.configure(forwarding={"mode": "DirectReturn"}, **AGENT)
        scene.learn()
        await asyncio.sleep(2)
        assert len(scene.reads) <= 6

    play(tmp_path, story)


def test_what_the_kernel_counted_reaches_the_controller(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**PASSIVE)
        scene.learn()
        for opened in range(21):
            scene.loads[BackendId(1)] = Load(opened=opened, closed=opened, requests=opened, responses=opened)
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        busy = [pool.members[scene.key(ONE)].passive for _, pool in scene.controller.steps]
        assert sum(each.new_flows for each in busy if each) in range(15, 21)

    play(tmp_path, story)


def test_counters_that_cannot_be_read_are_told_once_and_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(scene: Scene) -> None:
        scene.refuse = DatapathError("loads: gone")
        scene.configure(**PASSIVE)
        scene.learn()
        await asyncio.sleep(3)
        assert caplog.text.count("loads: gone") == 1
        assert len(scene.reads) > 20
        assert scene.last(ONE).passive is None

    play(tmp_path, story)


def test_only_what_moves_wakes_the_reconciler(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**PASSIVE)
        scene.learn()
        await asyncio.sleep(0.5)
        scene.told.clear()
        await asyncio.sleep(3)
        assert scene.told == [False] * 3
        scene.controller.decide = lambda pool: PoolDecision(
            {key: Decision(50_000, reason="slow") for key in pool.members}, "half of them"
        )
        await asyncio.sleep(2)
        assert scene.told[3:] == [True, False]
        assert scene.steering.steers[scene.key(ONE)] == Steer(50_000)
        assert scene.steering.steered.decisions[scene.key(ONE)].reason == "slow"
        assert list(scene.steering.steered.pool_notes.values()) == ["half of them"]

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("decision", "steer"),
    [
        (Decision(0, state="drain", reason="says drain"), Steer(held=True, because="says drain")),
        (Decision(0, state="maint", reason="says maint"), Steer(held=True, down=True, because="says maint")),
        (Decision(0, state="down", reason="says down"), Steer(down=True, because="says down")),
        (Decision(0, state="ejected", reason="ejected"), Steer(held=True, because="ejected")),
        (Decision(0, reason="says 0 %"), Steer(held=True, because="says 0 %")),
        (Decision(100_000, state="ejected", reason="panic"), Steer(100_000)),
        (Decision(10_000, state="probation"), Steer(10_000)),
    ],
)
def test_a_state_becomes_what_the_tables_understand(tmp_path: Path, decision: Decision, steer: Steer) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**AGENT)
        scene.learn()
        scene.controller.decide = lambda pool: PoolDecision(dict.fromkeys(pool.members, decision))
        await asyncio.sleep(1.5)
        assert scene.steering.steers[scene.key(ONE)] == steer

    play(tmp_path, story)


def test_a_backend_without_traffic_for_other_reasons_keeps_its_place_in_a_panic(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**AGENT)
        scene.learn(usable=[TWO])
        scene.controller.decide = lambda pool: PoolDecision(dict.fromkeys(pool.members, Decision(0)))
        await asyncio.sleep(0.5)
        assert scene.steering.steers[scene.key(ONE)] == Steer()
        scene.configure(slowStartSeconds=10, **AGENT)
        await asyncio.sleep(0.5)
        assert scene.steering.steers[scene.key(ONE)] == Steer(10_000)

    play(tmp_path, story)


def test_a_backend_in_use_before_has_no_beginning_and_its_weight_is_told(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(50)
        scene.configure(slowStartSeconds=10)
        scene.learn(found={ONE: 40_000})
        await asyncio.sleep(0.5)
        assert (scene.last(ONE).usable_since, scene.last(ONE).published) == (None, 40_000)
        assert (scene.last(TWO).usable_since, scene.last(TWO).published) == (50, None)

    play(tmp_path, story)


def test_what_no_step_has_seen_yet_is_not_decided_on(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**PASSIVE)
        await asyncio.sleep(0.5)
        assert not scene.steering.steers, "the kernel may have another weight"
        scene.learn(found={ONE: 40_000})
        await asyncio.sleep(0.1)
        assert scene.steering.steers[scene.key(ONE)] == Steer(40_000)

    play(tmp_path, story)


def test_weights_move_on_from_those_before_the_agent_started(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**PASSIVE)
        scene.learn(found={ONE: 40_000, TWO: 300_000})
        weights = []
        await asyncio.sleep(0.5)
        for _ in range(5):
            await asyncio.sleep(1)
            weights.append([scene.steering.steers[scene.key(address)].weight for address in (ONE, TWO)])
        assert weights[0] == [67_600, 100_000]
        assert weights[-1] == [100_000, 100_000]
        assert "before the agent started" not in scene.steering.steered.decisions[scene.key(ONE)].reason

    play(tmp_path, story)


def test_who_is_yet_to_be_asked_keeps_its_weight_or_stays_drained_for_a_while(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(30)
        scene.configure(dynamicWeights={**AGENT["dynamicWeights"], "staleAfterSeconds": 5})
        scene.learn(found={ONE: 40_000, TWO: -70_000})
        await asyncio.sleep(3)
        assert scene.steering.steers[scene.key(ONE)] == Steer(40_000)
        assert scene.steering.steers[scene.key(TWO)].held
        scene.collector.readings[scene.key(TWO)] = Reading(Report(share=1.0), at=33)
        scene.collector.event.set()
        await asyncio.sleep(1)
        assert scene.steering.steers[scene.key(TWO)] == Steer(100_000)
        await asyncio.sleep(8)
        assert scene.steering.steers[scene.key(ONE)] == Steer(100_000)

    play(tmp_path, story)


def test_a_backend_that_comes_back_begins_again(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(slowStartSeconds=10)
        scene.learn(found={ONE: 40_000})
        await asyncio.sleep(20)
        scene.learn(usable=[TWO])
        await asyncio.sleep(1)
        assert not scene.last(ONE).usable
        scene.learn()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert scene.last(ONE).usable_since == 21
        assert scene.controller.times[-1] == 21, "what becomes usable is decided on at once"

    play(tmp_path, story)


def test_an_operator_outranks_signals_until_the_word_expires(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**AGENT)
        scene.learn()
        await asyncio.sleep(0.5)
        scene.told.clear()
        scene.steering.drain([scene.key(ONE)], WALL + 5, "eve")
        assert scene.told == [True]
        steer = scene.steering.steers[scene.key(ONE)]
        assert (steer.held, steer.down) == (True, False)
        assert "by an operator (eve) until 2023-11-14T22:13:25Z" in steer.because
        scene.learn()
        await asyncio.sleep(1)
        assert not scene.last(ONE).usable
        await asyncio.sleep(4)
        assert not scene.steering.steers[scene.key(ONE)].held
        assert not scene.steering.steered.overrides

    play(tmp_path, story)


def test_an_override_of_a_service_with_configured_weights_outlives_a_restart_and_can_be_taken_back(
    tmp_path: Path,
) -> None:
    async def story(scene: Scene) -> None:
        scene.configure()
        scene.steering.drain([scene.key(ONE)], WALL + 3600, "")
        scene.restart()
        scene.configure()
        assert scene.steering.steers.keys() == {scene.key(ONE)}, "before the first tick"
        assert scene.steering.ready([scene.key(ONE), scene.key(TWO)]) == {scene.key(ONE)}
        assert not scene.steering.steers

    play(tmp_path, story)


def test_a_wall_clock_that_jumps_ends_an_override_within_a_second(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure()
        scene.steering.drain([scene.key(ONE)], WALL + 3600, "")
        await asyncio.sleep(5)
        assert scene.steering.steers
        scene.wall += 7200
        await asyncio.sleep(1.1)
        assert not scene.steering.steers

    play(tmp_path, story)


def test_a_defect_in_a_decision_leaves_the_weights_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**PASSIVE)
        scene.learn()
        await asyncio.sleep(0.5)

        def break_down(_pool: Pool) -> PoolDecision:
            raise RuntimeError("a defect")

        scene.controller.decide = break_down
        await asyncio.sleep(1)
        assert scene.steering.steers[scene.key(ONE)] == Steer(100_000)
        assert "a defect" in caplog.text

    play(tmp_path, story)


def test_what_is_not_configured_any_more_is_forgotten(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        scene.configure(**PASSIVE)
        scene.learn()
        await asyncio.sleep(1.5)
        gone = scene.key(TWO)
        scene.configure(backends={"static": [{"address": ONE}]}, **PASSIVE)
        assert gone not in scene.steering.steers
        assert gone not in scene.steering.steered.decisions
        scene.configure()
        assert not scene.steering.steers
        assert scene.controller.kept == set()

    play(tmp_path, story)
