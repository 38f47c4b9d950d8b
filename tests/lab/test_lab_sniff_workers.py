"""The engine's processes may die; the traffic does not notice, and the agent tells."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from sluicegate_agent.cli.document import Sniffer
from sluicegate_agent.lab.rig import VIP4, RigOptions
from sluicegate_agent.lab.wire import target
from sniffed import DROP, RULE, Sniffed, attack, requests_until
from stage import Build, gather

pytestmark = pytest.mark.lab

KILLS = 3


def test_killed_workers_cost_no_packet_and_are_replaced(build: Build) -> None:
    stage = build(RigOptions(backends=2), SLUICEGATE_DPI_WORKERS="2")
    sniffed = Sniffed.on(stage)
    sniffed.start("client", "b1", "b2", rules=RULE, changes=DROP)
    load = stage.load()
    total = gather(load, 50)
    sniffed.wait_for_state("both workers run", partial(_run, restarts=0, but=frozenset()))
    for kill in range(1, KILLS + 1):
        before = frozenset(worker.pid for worker in sniffed.state().workers)
        for pid in before:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        sniffed.wait_for_state("both workers were replaced", partial(_run, restarts=kill, but=before))
        sniffed.wait_for("what came before was told", lambda _: True)
        seen = len(sniffed.seen)
        sniffed.wait_for("requests are told again", lambda events, seen=seen: len(events) > seen + 20)
        total.add(gather(load, 50))
    total.add(load.finish())
    assert (total.failed, total.broken.total(), total.skipped) == (0, 0, 0), total
    state = sniffed.state()
    assert state.ready
    assert (state.lost, state.no_worker) == (0, 0), "what came meanwhile waited in the rings"
    assert [worker.quarantined for worker in state.workers] == [0, 0], "nobody's packet was to blame"
    # The engines that look now know their rules.
    intruder = attack(stage.rig.client, target(VIP4, 80))
    sniffed.wait_for("the attack was told", lambda events: [one for one in events if one.kind == "alert"])
    sniffed.wait_for_state("the kernel drops the flow", lambda edge: edge.decided_flows.drop >= 1)
    assert requests_until(intruder, 10)[1] == 0
    intruder.finish()


def _run(edge: Sniffer, restarts: int, but: frozenset[int | None]) -> bool:
    """Whether both workers run, are not these processes, and were restarted so often."""
    return len(edge.workers) == 2 and all(
        worker.state == "running" and worker.restarts == restarts and worker.pid not in but for worker in edge.workers
    )
