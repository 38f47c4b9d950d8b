"""Which backend a new connection gets when backends differ."""

from __future__ import annotations

import pytest

from sluicegate_agent.lab.rig import RigOptions
from stage import Build, Mode, each_mode, gather

pytestmark = pytest.mark.lab

REQUESTS = 400
SLOW_SECONDS = 0.3


@each_mode("FullNAT")
def test_a_slow_backend_gets_fewer_connections_with_least_load_than_with_maglev(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=3))
    slow = stage.servers[0]
    slow.kill()
    slow.start(delay=SLOW_SECONDS)
    shares = {}
    for algorithm in ("Maglev", "LeastLoad"):
        changes = {"algorithm": algorithm}
        if stage.agent.pid is None:
            stage.balance(mode=mode, changes=changes)
        else:
            stage.configure(stage.rig.backends, mode=mode, changes=changes)
            stage.agent.wait_until(
                f"{algorithm} is in use",
                lambda status, wanted=algorithm: status.loadbalancers[0].ports[0].algorithm == wanted,
            )
        load = stage.load(mode=mode, rate=120, sessions=0)
        tally = gather(load, REQUESTS)
        tally.add(load.finish())
        assert (tally.failed, tally.skipped) == (0, 0)
        assert len(tally.by_backend()) == 3
        shares[algorithm] = tally.by_backend()[slow.host.name] / tally.answered
    assert shares["LeastLoad"] < shares["Maglev"] / 2, shares


def test_least_load_is_what_tcp_gets_when_nothing_is_asked_for(build: Build) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance(udp=True, changes={"algorithm": None})
    ports = [port for balancer in stage.status().loadbalancers for port in balancer.ports]
    assert {port.protocol: port.algorithm for port in ports} == {"TCP": "LeastLoad", "UDP": "Maglev"}
