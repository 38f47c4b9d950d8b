"""Weights that follow what backends say and do: over the real agent, programs and signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from load_agents import load_agents
from sluicegate_agent.cli.document import Backend, Status
from sluicegate_agent.control.client import ask
from sluicegate_agent.control.protocol import Request, socket_path
from sluicegate_agent.lab.agent import backends
from sluicegate_agent.lab.load_agent import AGENT_PORT, REPORT_PORT
from sluicegate_agent.lab.processes import LoadProcess
from sluicegate_agent.lab.rig import BackendHost, RigOptions
from sluicegate_agent.lab.tally import Tally
from stage import Build, Stage, gather

pytestmark = pytest.mark.lab

AGENT_CHECK = {"dynamicWeights": {"type": "AgentCheck", "agentCheck": {"port": AGENT_PORT}, "staleAfterSeconds": 2}}
HTTP = {"dynamicWeights": {"type": "HTTP", "http": {"port": REPORT_PORT}, "staleAfterSeconds": 2}}
PASSIVE = {"dynamicWeights": {"type": "Passive"}}
FULL = 100.0
REQUESTS = 600


def of(status: Status, host: BackendHost) -> list[Backend]:
    """The host's backends of both families."""
    addresses = {str(host.address4), str(host.address6)}
    return [backend for backend in backends(status) if backend.address in addresses]


def wait_for(stage: Stage, host: BackendHost, what: str, holds: Callable[[Backend], bool]) -> None:
    """Wait until this holds for a host's backends of both families."""
    stage.agent.wait_until(f"{host.name} {what}", lambda status: all(map(holds, of(status, host))))


def wait_for_weight(stage: Stage, host: BackendHost, holds: Callable[[float], bool]) -> None:
    """Wait until a host takes part with such a weight."""
    wait_for(stage, host, "has the weight", lambda found: found.state == "active" and holds(found.effective_weight))


@contextmanager
def traffic(stage: Stage, *, rate: float = 150.0, sessions: int = 0) -> Iterator[LoadProcess]:
    """A load on both VIPs that ends with the block."""
    load = stage.load(rate=rate, sessions=sessions)
    try:
        yield load
    finally:
        load.finish()


def following(load: LoadProcess, requests: int = REQUESTS) -> Tally:
    """What comes of the next requests."""
    load.take()
    return gather(load, requests)


def share(load: LoadProcess, host: BackendHost) -> float:
    """The host's part of the next requests."""
    tally = following(load)
    return tally.by_backend()[host.name] / tally.answered


def operate(stage: Stage, command: str, host: BackendHost, **arguments: str) -> None:
    """``drain`` or ``ready`` for both of a host's addresses."""
    socket = socket_path(stage.rig.balancer.name)
    for address in (str(host.address4), f"[{host.address6}]"):
        ask(socket, Request(command, {"target": f"web/{address}:8080", **arguments}))


def test_what_a_backend_states_moves_traffic_at_once(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    with load_agents(stage.rig.backends) as (first, _):
        stage.balance(changes=AGENT_CHECK)
        wait_for_weight(stage, first.host, lambda found: found == FULL)
        with traffic(stage) as load:
            assert 0.4 < share(load, first.host) < 0.6
            first.say("25%")
            wait_for_weight(stage, first.host, lambda found: found == FULL / 4)
            assert 0.12 < share(load, first.host) < 0.28
            first.say("ready 100%")
            wait_for_weight(stage, first.host, lambda found: found == FULL)
            assert 0.4 < share(load, first.host) < 0.6


def test_a_backend_that_asks_to_drain_keeps_its_connections_and_gets_no_new_ones(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    with load_agents(stage.rig.backends) as (first, _):
        stage.balance(changes=AGENT_CHECK)
        with traffic(stage, sessions=12) as load:
            assert len(following(load).by_backend()) == 2
            first.say("drain")
            wait_for(stage, first.host, "drains", lambda found: found.state == "draining" and "drain" in found.reason)
            following(load, 100)  # what was under way
            tally = following(load)
            assert tally.by_backend()[first.host.name] == 0
            assert (tally.failed, tally.broken.total()) == (0, 0)
            assert sum(found.active_flows for found in of(stage.status(), first.host)) > 0
            first.say("ready")
            wait_for_weight(stage, first.host, lambda found: found > 0)
            assert following(load).by_backend()[first.host.name] > 0


def test_a_backend_that_reports_less_capacity_gets_less_and_silence_leads_back_to_what_is_configured(
    build: Build,
) -> None:
    stage = build(RigOptions(backends=2))
    first, second = stage.rig.backends
    with load_agents(stage.rig.backends) as agents:
        agents[0].report(application_utilization=0.9, rps_fractional=50)
        agents[1].report(application_utilization=0.3, rps_fractional=50)
        stage.balance(changes=HTTP)
        wait_for_weight(stage, first, lambda found: found < 0.6 * FULL)
        wait_for_weight(stage, second, lambda found: found > 1.2 * FULL)
        with traffic(stage) as load:
            assert share(load, first) < 0.4
            for agent in agents:
                agent.report()
            wait_for(stage, first, "has no signal", lambda found: found.signal is not None and bool(found.signal.error))
            for host in (first, second):
                wait_for_weight(stage, host, lambda found: 0.8 * FULL < found < 1.2 * FULL)
            notes = [port.note for balancer in stage.status().loadbalancers for port in balancer.ports]
            assert all("no backend reports" in note for note in notes), notes


def test_a_slow_backend_loses_its_share_by_its_latency_alone_and_regains_it(build: Build) -> None:
    stage = build(RigOptions(backends=4))
    slow = stage.servers[0]
    for server in stage.servers:
        server.answer_after(0.05)
    stage.balance(changes=PASSIVE)
    with traffic(stage, rate=300) as load:
        assert share(load, slow.host) > 0.15
        slow.answer_after(0.5)
        wait_for_weight(stage, slow.host, lambda found: found < FULL / 4)
        assert share(load, slow.host) < 0.15
        slow.answer_after(0.05)
        wait_for_weight(stage, slow.host, lambda found: found > 0.7 * FULL)
        assert share(load, slow.host) > 0.15


def test_an_operator_drains_a_backend_for_a_while_and_a_restart_of_the_agent_changes_nothing(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance()
    first = stage.rig.backends[0]
    with traffic(stage) as load:
        operate(stage, "drain", first, ttl="1h")
        wait_for(stage, first, "is drained", lambda found: found.state == "draining" and found.override is not None)
        degraded = next(each for each in stage.status().loadbalancers[0].conditions if each.type == "Degraded")
        assert "drained by an operator" in degraded.message
        following(load, 100)
        assert following(load).by_backend()[first.name] == 0
        stage.agent.kill()
        stage.agent.start()
        stage.agent.wait_ready(stage.rig.backends[1:])
        assert all(found.override is not None for found in of(stage.status(), first))
        assert following(load).by_backend()[first.name] == 0
        operate(stage, "ready", first)
        stage.agent.wait_ready(stage.rig.backends)
        assert share(load, first) > 0.4
        operate(stage, "drain", first, ttl="1s")
        wait_for(stage, first, "is drained", lambda found: found.override is not None)
        stage.agent.wait_ready(stage.rig.backends)


def test_a_backend_that_comes_back_starts_slowly_and_a_restart_of_the_agent_starts_nobody_slowly(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    server = stage.servers[0]
    stage.balance(changes={"slowStartSeconds": 6})
    wait_for_weight(stage, server.host, lambda found: found == FULL)
    server.kill()
    wait_for(stage, server.host, "is down", lambda found: found.state == "down")
    server.start()
    wait_for_weight(stage, server.host, lambda found: found < FULL)
    wait_for_weight(stage, server.host, lambda found: found == FULL)
    stage.agent.kill()
    stage.agent.start()
    seen: set[float] = set()

    def ready(status: Status) -> bool:
        found = of(status, server.host)
        seen.update(each.effective_weight for each in found if each.state == "active")
        return all(each.health == "up" for each in found)

    stage.agent.wait_until("its checks are done", ready)
    assert seen == {FULL}


def test_a_restart_of_the_agent_keeps_what_backends_were_worth(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    with load_agents(stage.rig.backends) as (first, second):
        first.say("20%")
        stage.balance(changes={**AGENT_CHECK, "healthCheck": {"type": "None"}})
        second.say("drain")
        wait_for_weight(stage, first.host, lambda found: found == FULL / 5)
        wait_for(stage, second.host, "drains", lambda found: found.state == "draining")
        stage.agent.kill()
        for agent in (first, second):
            agent.kill()  # nobody can tell the next agent anything
        with traffic(stage) as load:
            stage.agent.start()
            stage.agent.wait_until(
                "the agent has asked in vain",
                lambda status: all(found.signal and found.signal.error for found in of(status, first.host)),
            )
            assert all(found.effective_weight < FULL / 2 for found in of(stage.status(), first.host))
            assert following(load, 100).failed == 0
