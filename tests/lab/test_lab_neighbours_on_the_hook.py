"""Programs of somebody else on an interface that the balancer needs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clients import ask_name, ping
from sluicegate_agent.kernel.libbpf import XDP_NATIVE, AttachType, Link, Program, ProgramType
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from stage import Build, Mode, Stage, each_mode

pytestmark = pytest.mark.lab

PASS = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit


@contextmanager
def foreign_xdp(stage: Stage) -> Iterator[Link]:
    """A program that passes everything, on the interface to the client, held by this process."""
    with (
        stage.rig.balancer.inside(),
        Program.load(ProgramType.XDP, "foreign", PASS, expected_attach_type=AttachType.XDP) as program,
        Link.create(program, socket.if_nametoindex(stage.rig.client_port), AttachType.XDP, XDP_NATIVE) as link,
    ):
        yield link


@each_mode("FullNAT")
def test_a_foreign_xdp_program_stays_and_the_balancer_works_through_tc(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    with foreign_xdp(stage) as link:
        stage.balance(mode=mode, udp=True)
        for vip in (VIP4, VIP6):
            for protocol in ("tcp", "udp"):
                answers = stage.ask(protocol, vip, 20, mode=mode)
                assert {answer.split(" ")[0] for answer in answers} == {"backend-1", "backend-2"}
            assert ping(stage.rig.client, vip)
        (client,) = [each for each in stage.status().interfaces if each.name == "client"]
        assert client.mode == "tc"
        assert "another XDP program" in client.reason
        assert {name: mode for name, mode in stage.modes_of_interfaces().items() if name != "client"} == {
            "b1": "xdp",
            "b2": "xdp",
        }
        stage.agent.remove()
        with stage.rig.balancer.inside():
            assert link.info.ifindex == socket.if_nametoindex("client")


def test_xdp_is_used_again_after_the_foreign_program_has_gone_and_the_agent_was_started_again(build: Build) -> None:
    stage = build(RigOptions(backends=1))
    with foreign_xdp(stage):
        stage.balance()
        assert stage.modes_of_interfaces()["client"] == "tc"
        stage.agent.kill()
    stage.agent.start()
    stage.agent.wait_until(
        "the client's interface has XDP",
        lambda status: {each.name: each.mode for each in status.interfaces}.get("client") == "xdp",
    )
    assert ask_name(stage.rig.client, VIP4, 80) == "backend-1"
