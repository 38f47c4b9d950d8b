"""The loop: every event leads to a step, whatever a step or the loader does."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest
from surface_moments import configured, document, files, moment, network

from sluicegate_agent import agent as agent_module
from sluicegate_agent.agent import Agent
from sluicegate_agent.control.protocol import JsonObject
from sluicegate_agent.control.server import CommandRefusedError
from sluicegate_agent.datapath.flowquery import FlowDump
from sluicegate_agent.datapath.model import BackendId, InterfaceIndex, KernelState
from sluicegate_agent.datapath.protocol import Census, Counters, DatapathError, Traffic
from sluicegate_agent.health.checker import HealthChecker
from sluicegate_agent.health.model import HealthState, Outcome, Target
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.steer import Steer
from sluicegate_agent.reports import answers as answers_module
from sluicegate_agent.reports.answers import Answers
from sluicegate_agent.reports.situation import Programs, Situation
from sluicegate_agent.settings import load_settings
from sluicegate_agent.signals.model import Load
from sluicegate_agent.source.files import FileWatcher
from sluicegate_agent.worker import Sniffing, Step
from sluicegate_api.loadbalancer import LoadBalancer

T = TypeVar("T")

DIRECT = {"addresses": ["203.0.113.20"], "forwarding": {"mode": "DirectReturn"}, "ports": [{"port": 80}]}


class FakeWorker:
    """Takes the place of the kernel: remembers what it was told, and fails on command."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []
        self.healths: list[dict[str, HealthState]] = []
        self.steers: list[Mapping[BackendKey, Steer]] = []
        self.sniffed: list[Mapping[InterfaceIndex, str]] = []
        self.installed = 0
        self.fail: list[Exception] = []
        self.fail_sweeps: list[Exception] = []
        self.swept = asyncio.Event()
        self.unconverged = 0
        self.stepped = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def install(self, _manifest: object) -> None:
        self.installed += 1

    def step(
        self,
        balancers: Sequence[LoadBalancer],
        _network: object,
        health: Mapping[object, HealthState],
        _now: float,
        *,
        steering: Mapping[BackendKey, Steer],
        sniffing: Sniffing,
    ) -> Step:
        self.sniffed.append(sniffing.interfaces)
        self.steers.append(steering)
        self.steps.append([balancer.key.name for balancer in balancers])
        self.healths.append({str(getattr(key, "address")): state for key, state in health.items()})  # noqa: B009
        self.loop.call_soon_threadsafe(self.stepped.set)
        if self.fail:
            raise self.fail.pop(0)
        situation = moment(configured(*(document(balancer.key.name) for balancer in balancers[:1])))
        self.unconverged -= 1
        return Step(situation.desired, situation.applied, situation.attached, converged=self.unconverged < 0)

    def counters(self) -> Counters:
        return Counters()

    def loads(self, _backends: object) -> Mapping[BackendId, Load]:
        return {}

    def sweep(self) -> Census:
        if self.fail_sweeps:
            raise self.fail_sweeps.pop(0)
        self.loop.call_soon_threadsafe(self.swept.set)
        return Census()

    def look(self, question: Callable[[object, KernelState], T]) -> T:
        return question(None, KernelState())


class Stage:
    """An agent whose kernel, loader and network are fakes; ``loads`` are the feature sets that were asked for."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.worker = FakeWorker()
        self.loads: list[frozenset[str]] = []
        self.refuse: list[LoaderError] = []
        self.network_event = asyncio.Event()
        stage = self

        class Network:
            snapshot = network()

            async def __aenter__(self) -> "Network":
                return self

            async def __aexit__(self, *error: object) -> None:
                pass

            def watch(self, addresses: object) -> None:
                pass

            async def changed(self) -> None:
                await stage.network_event.wait()
                stage.network_event.clear()

        def load(request: object, **options: object) -> object:
            features: dict[str, bool] = getattr(request, "features")  # noqa: B009
            self.loads.append(frozenset(name for name, on in features.items() if on))
            if self.refuse:
                raise self.refuse.pop(0)
            return SimpleNamespace(save=lambda _path: None)

        async def never_ends(_target: Target) -> Outcome:
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(agent_module, "NetworkMonitor", Network)
        monkeypatch.setattr(agent_module, "HealthChecker", lambda: HealthChecker(never_ends))
        monkeypatch.setattr(agent_module, "KernelWorker", lambda *_arguments, **_options: self.worker)
        monkeypatch.setattr(agent_module, "loader", SimpleNamespace(pinned=lambda _request, _path: None, load=load))
        pins = SimpleNamespace(state_dir=tmp_path, root=tmp_path, manifest_path=tmp_path / "manifest.json")
        self.agent = Agent(load_settings(), pins, FileWatcher([str(tmp_path / "a.yaml")]))  # type: ignore[arg-type]

    async def next_step(self) -> list[str]:
        async with asyncio.timeout(5):
            await self.worker.stepped.wait()
        self.worker.stepped.clear()
        return self.worker.steps[-1]

    async def step_with(self, *names: str) -> None:
        while await self.next_step() != list(names):
            pass


def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: Callable[[Stage], object]) -> None:
    """Run a story beside a running agent."""

    async def run() -> None:
        stage = Stage(tmp_path, monkeypatch)
        stage.agent.take_files(files(a=document()))
        running = asyncio.create_task(stage.agent.run())
        try:
            await story(stage)  # type: ignore[misc]
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    asyncio.run(run())


def test_the_first_programs_are_loaded_and_the_configuration_steps_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        assert await stage.next_step() == ["web"]
        assert stage.loads == [{"IPV4", "FULL_NAT", "DNAT"}]
        assert stage.agent.situation.programs.obstacle == ""

    play(tmp_path, monkeypatch, story)


def test_backends_that_are_checked_are_unknown_at_first_and_never_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        await stage.next_step()
        assert stage.worker.healths[0] == {"10.0.0.1": HealthState.UNKNOWN, "10.0.0.2": HealthState.UNKNOWN}

    play(tmp_path, monkeypatch, story)


def test_an_event_of_the_network_leads_to_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        await stage.next_step()
        stage.network_event.set()
        assert await stage.next_step() == ["web"]

    play(tmp_path, monkeypatch, story)


def test_what_an_operator_says_reaches_the_tables_at_once_and_the_situation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def story(stage: Stage) -> None:
        await stage.next_step()
        stage.network_event.set()
        await stage.next_step()  # what the first one came to is known now
        key = min(stage.agent.situation.desired.backends)
        stage.agent.drain([key], time.time() + 3600, "eve")
        while not stage.worker.steers[-1]:
            await stage.next_step()
        assert stage.worker.steers[-1][key].held
        assert stage.agent.situation.overrides[key].by == "eve"
        assert stage.agent.ready([key]) == {key}
        while stage.worker.steers[-1]:
            await stage.next_step()
        assert not stage.agent.situation.overrides

    play(tmp_path, monkeypatch, story)
    assert "drained by an operator (eve)" in caplog.text


def test_decisions_on_weights_lead_to_a_step_and_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        stage.agent.take_files(files(a=document(slowStartSeconds=3600)))
        await stage.next_step()
        while not stage.worker.steers[-1]:
            await stage.next_step()
        situation = stage.agent.situation
        assert situation.decisions.keys() == stage.worker.steers[-1].keys()

    play(tmp_path, monkeypatch, story)


@pytest.mark.parametrize("error", [DatapathError("tables: gone"), RuntimeError("a defect")])
def test_a_step_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def story(stage: Stage) -> None:
        stage.worker.fail = [error]
        await stage.next_step()
        await stage.next_step()
        assert stage.agent.situation.reconcile_failures == 1

    play(tmp_path, monkeypatch, story)
    assert str(error) in caplog.text


def test_a_sweep_that_fails_is_told_and_the_next_one_goes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agent_module, "SWEEP_SECONDS", 0.01)

    async def story(stage: Stage) -> None:
        stage.worker.fail_sweeps = [DatapathError("flow tables: gone"), RuntimeError("a defect")]
        async with asyncio.timeout(5):
            await stage.worker.swept.wait()

    play(tmp_path, monkeypatch, story)
    assert "flow tables: gone" in caplog.text
    assert "a defect" in caplog.text


def test_a_step_that_did_not_converge_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(stage: Stage) -> None:
        stage.worker.unconverged = 2
        for _ in range(3):
            await stage.next_step()

    play(tmp_path, monkeypatch, story)


SNIFFER = """
apiVersion: sluicegate.io/v1alpha1
kind: DpiSniffer
metadata: {name: edge, namespace: shop}
spec: {}
"""


def test_a_sniffer_alone_has_programs_loaded_and_its_interface_in_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        stage.agent.take_files(files(a=SNIFFER))
        async with asyncio.timeout(5):
            while not any(stage.worker.sniffed):
                stage.worker.stepped.clear()
                await stage.worker.stepped.wait()
        assert stage.loads[-1] >= {"IPV4", "IPV6", "SNIFF"}
        assert stage.worker.steps[-1] == []
        assert stage.worker.sniffed[-1] == {2: "it holds a default route"}

    play(tmp_path, monkeypatch, story)


def test_other_programs_are_loaded_beside_and_only_what_needs_them_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        await stage.next_step()
        stage.agent.take_files(files(a=document(drainSeconds=1), b=document("direct", **DIRECT)))
        assert await stage.next_step() == ["web"]
        await stage.step_with("web", "direct")
        assert stage.loads[-1] == {"IPV4", "FULL_NAT", "DNAT", "DIRECT_RETURN"}
        assert stage.worker.installed == 1
        stage.agent.take_files(files(a=document()))
        await stage.step_with("web")
        assert len(stage.loads) == 2

    play(tmp_path, monkeypatch, story)


def test_programs_that_cannot_be_loaded_later_are_told_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(stage: Stage) -> None:
        await stage.next_step()
        stage.refuse = [LoaderError("no kernel headers")]
        stage.agent.take_files(files(a=document(), b=document("direct", **DIRECT)))
        while stage.agent.situation.programs.obstacle != "no kernel headers":
            await stage.next_step()
        stage.network_event.set()
        assert await stage.next_step() == ["web"]
        stage.agent.take_files(files(a=document(), b=document("direct", **DIRECT)))
        await stage.step_with("web", "direct")

    play(tmp_path, monkeypatch, story)
    assert "no kernel headers" in caplog.text


def test_first_programs_that_cannot_be_loaded_end_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        stage = Stage(tmp_path, monkeypatch)
        stage.agent.take_files(files(a=document()))
        stage.refuse = [LoaderError("no kernel headers")]
        with pytest.raises(LoaderError):
            await stage.agent.run()

    asyncio.run(run())


def test_an_agent_without_load_balancers_loads_nothing_until_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        stage = Stage(tmp_path, monkeypatch)
        stage.agent.take_files(files(a=""))
        running = asyncio.create_task(stage.agent.run())
        await asyncio.sleep(0)
        assert stage.loads == []
        stage.agent.take_files(files(a=document()))
        assert await stage.next_step() == ["web"]
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())


@pytest.fixture
def working() -> Situation:
    return moment(configured(document()))


class FakeKernel:
    """Answers with what a test prepared; without counters no programs are loaded."""

    def __init__(self, counters: Counters | Exception | None = None, found: object = None) -> None:
        self._counters = counters
        self._found = found

    def count(self) -> Future[Counters] | None:
        return None if self._counters is None else finished(self._counters)

    def look(self, _question: Callable[[Manifest, KernelState], T]) -> Future[T] | None:
        return None if self._found is None else finished(self._found)  # type: ignore[arg-type]


def finished(outcome: T | Exception) -> Future[T]:
    future: Future[T] = Future()
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return future


def test_answers_use_fresh_counters(working: Situation) -> None:
    (frontend,) = working.desired.names.frontends
    fresh = Counters(frontends={frontend: Traffic(opened=42)})
    answers = Answers(lambda: working, FakeKernel(fresh))
    assert answers.sample().status.loadbalancers[0].ports[0].traffic.opened == 42


def test_answers_fall_back_to_the_last_counters_when_the_kernel_does_not_answer(
    working: Situation, caplog: pytest.LogCaptureFixture
) -> None:
    (frontend,) = working.desired.names.frontends
    last = replace(working, counters=Counters(frontends={frontend: Traffic(opened=7)}))
    for kernel in (FakeKernel(DatapathError("gone")), FakeKernel()):
        assert Answers(lambda: last, kernel).sample().status.loadbalancers[0].ports[0].traffic.opened == 7
    assert "gone" in caplog.text


def ask(situation: Situation, kernel: FakeKernel, command: str, **arguments: str) -> JsonObject:
    async def run() -> JsonObject:
        return await Answers(lambda: situation, kernel).handlers()[command](arguments)

    return asyncio.run(run())


def test_the_control_socket_knows_status_and_why(working: Situation) -> None:
    assert ask(working, FakeKernel(), "status")["ready"] is True
    assert ask(working, FakeKernel(), "why", target="web")["ok"] is False
    with pytest.raises(CommandRefusedError, match="lb/shop/web"):
        ask(working, FakeKernel(), "why", target="nope")


def test_flows_are_asked_of_the_kernel_and_none_without_programs(working: Situation) -> None:
    assert ask(working, FakeKernel(), "flows")["matched"] == 0
    assert ask(working, FakeKernel(found=FlowDump(matched=3)), "flows")["note"]
    for arguments, words in (({"vip": "nonsense"}, "--vip"), ({"lb": "nope"}, "lb/shop/web"), ({"x": "1"}, "x")):
        with pytest.raises(CommandRefusedError, match=words):
            ask(working, FakeKernel(), "flows", **arguments)


def test_tables_that_cannot_be_read_refuse_the_command_in_words(working: Situation) -> None:
    with pytest.raises(CommandRefusedError, match="nat4: gone"):
        ask(working, FakeKernel(found=DatapathError("nat4: gone")), "flows")


def test_a_kernel_that_is_busy_for_long_refuses_the_command(
    working: Situation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(FakeKernel):
        def look(self, _question: object) -> Future[T] | None:
            return Future()

    monkeypatch.setattr(answers_module, "_KERNEL_SECONDS", 0)
    with pytest.raises(CommandRefusedError, match="busy"):
        ask(working, Busy(), "flows")


def test_why_of_a_packet_needs_programs_and_a_question(working: Situation) -> None:
    loading = replace(working, programs=Programs(obstacle="the programs are being compiled"))
    answer = ask(loading, FakeKernel(), "why-packet", client="198.51.100.7:40000", vip="203.0.113.10:80")
    assert answer["ok"] is False
    assert "being compiled" in str(answer["checks"])
    with pytest.raises(CommandRefusedError, match="VIP:PORT"):
        ask(working, FakeKernel(), "why-packet", client="198.51.100.7:40000", vip="203.0.113.10")


def test_questions_run_in_the_kernels_thread_and_only_once_programs_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        assert stage.agent.look(lambda _manifest, state: state) is None
        await stage.next_step()
        looking = stage.agent.look(lambda *_: threading.current_thread().name)
        assert looking is not None
        assert (await asyncio.wrap_future(looking)).startswith("kernel")

    play(tmp_path, monkeypatch, story)
