"""The agent's life on one machine: what it leaves behind, and what may happen to it meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluicegate_agent.lab.agent import backends, teardown
from sluicegate_agent.lab.namespace import LabError
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from stage import Build, Stage

pytestmark = pytest.mark.lab

PINS = Path("/sys/fs/bpf/sluicegate")


@pytest.fixture
def one(build: Build) -> Stage:
    """One backend behind a running agent."""
    stage = build(RigOptions(backends=1))
    stage.balance()
    return stage


def pins() -> set[Path]:
    return set(PINS.glob("*")) if PINS.exists() else set()


def run_beside(stage: Stage, state: Path) -> subprocess.CompletedProcess[str]:
    """Another agent for the same namespace."""
    command = [str(Path(sys.executable).with_name("sluicegate")), "run", "-f", str(stage.agent.config)]
    command += ["--netns", stage.rig.balancer.name, "--state-dir", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def answers(stage: Stage) -> bool:
    return not [reply for vip in (VIP4, VIP6) for reply in stage.ask("tcp", vip) if reply.startswith("!")]


def test_teardown_leaves_nothing_in_the_kernel_and_may_be_repeated(build: Build) -> None:
    stage = build(RigOptions(backends=1))
    before = pins()
    stage.balance()
    assert pins() > before
    stage.agent.remove()
    assert pins() == before
    assert "xdp" not in stage.rig.balancer.run(["ip", "link", "show"])
    stage.agent.remove()
    teardown(stage.rig.balancer.name, stage.agent.state)


def test_teardown_works_when_the_namespace_is_gone(one: Stage) -> None:
    one.agent.stop()
    one.rig.balancer.delete()
    before = pins()
    teardown(one.rig.balancer.name, one.agent.state)
    assert len(pins()) == len(before) - 1


def test_teardown_is_refused_while_the_agent_runs(one: Stage) -> None:
    with pytest.raises(LabError, match=str(one.agent.pid)):
        teardown(one.rig.balancer.name, one.agent.state)
    assert answers(one)


def test_a_second_agent_in_the_same_namespace_is_refused_by_naming_the_first(one: Stage, tmp_path: Path) -> None:
    second = run_beside(one, tmp_path / "other")
    assert second.returncode == 1
    assert str(one.agent.pid) in second.stderr
    assert answers(one)


def test_the_programs_forward_while_the_agent_is_stopped(one: Stage) -> None:
    one.agent.stop()
    assert answers(one)
    one.agent.start()
    one.agent.wait_ready(one.rig.backends)
    assert answers(one)


def test_a_bad_edit_is_reported_and_the_last_good_configuration_stays(one: Stage) -> None:
    good = one.agent.config.read_text()
    one.agent.config.write_text(good.replace("port: 80\n", "port: 99999\n"))
    one.agent.wait_until("the bad edit is reported", lambda status: bool(status.problems), 20)
    assert answers(one)
    one.agent.config.write_text(good)
    one.agent.wait_until("the report is gone", lambda status: not status.problems, 20)
    assert answers(one)


def test_an_interface_that_comes_back_with_another_index_is_used_again(one: Stage) -> None:
    host = one.rig.backends[0]
    one.rig.balancer.ip([f"link delete {host.port}"])
    one.agent.wait_until(
        "the backend is not usable", lambda status: all(b.state != "active" for b in backends(status)), 20
    )
    one.rig.balancer.ip([f"link add {host.port} type veth peer name eth0 netns {host.namespace.name}"])
    one.rig.balancer.ip(
        [
            f"address add 10.77.1.1/24 dev {host.port}",
            f"address add fd77:1::1/64 dev {host.port}",
            f"link set {host.port} up",
        ]
    )
    host.namespace.ip(["address add 10.77.1.2/24 dev eth0", "address add fd77:1::2/64 dev eth0", "link set eth0 up"])
    host.namespace.ip(["route add default via 10.77.1.1", "route add default via fd77:1::1"])
    host.namespace.ethtool("eth0", gro=True, tx=False)
    one.agent.wait_ready(one.rig.backends, 20)
    assert answers(one)


def test_a_next_hop_that_stops_taking_redirected_frames_is_served_through_the_stack(one: Stage) -> None:
    host = one.rig.backends[0]
    host.namespace.ethtool("eth0", gro=False, tx=False)
    # The kernel tells nobody about this change, so the agent may take a moment to see it.
    deadline = time.monotonic() + 20
    while not answers(one):
        assert time.monotonic() < deadline, "the VIP did not recover"
    host.namespace.ethtool("eth0", gro=True, tx=False)
    assert answers(one)


def test_the_agent_stays_below_its_memory_limit(one: Stage) -> None:
    assert answers(one)
    status = Path(f"/proc/{one.agent.pid}/status").read_text()
    (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
    assert resident < 120 * 1024, "kB"
