"""Real traffic through a VIP: protocols, families, forwarding modes, and the kinds of next hop."""

from __future__ import annotations

import time

import pytest

from sluicegate_agent.lab.namespace import Namespace
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from stage import MODES, NAT_MODES, Build, Mode, Stage, each_mode

pytestmark = pytest.mark.lab

REQUESTS = 40
PROMPT_SECONDS = 8.0  # for that many requests, on a busy machine; one that waits for the next to push it takes longer


def assert_all_backends_answer(stage: Stage, mode: Mode) -> None:
    """Every protocol and family reaches every backend, which sees the client as the mode promises."""
    names = {host.name for host in stage.rig.backends}
    for vip in (VIP4, VIP6):
        client = str(stage.client_address(vip))
        for protocol in ("tcp", "udp"):
            started = time.monotonic()
            answers = [answer.split(" ") for answer in stage.ask(protocol, vip, REQUESTS, mode=mode)]
            assert time.monotonic() - started < PROMPT_SECONDS, (protocol, vip)
            assert {answer[0] for answer in answers} == names, (protocol, vip, answers)
            seen = {answer[1] for answer in answers}
            if mode == "FullNAT":
                assert client not in seen, (protocol, vip)
            else:
                assert seen == {client}, (protocol, vip)


@each_mode(*MODES)
def test_tcp_and_udp_reach_every_backend_over_both_families(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=3))
    stage.balance(mode=mode, udp=True)
    assert_all_backends_answer(stage, mode)
    assert stage.modes_of_interfaces() == {"client": "xdp", "b1": "xdp", "b2": "xdp", "b3": "xdp"}


@each_mode("FullNAT")
def test_next_hops_that_take_no_redirected_frames_and_senders_that_leave_checksums_to_the_device_work(
    build: Build, mode: Mode
) -> None:
    stage = build(RigOptions(backends=2, receivers_gro=False, tx_checksum=True))
    stage.balance(mode=mode, udp=True)
    assert_all_backends_answer(stage, mode)


@each_mode("DNAT")
def test_redirected_frames_may_come_from_senders_that_leave_checksums_to_the_device(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2, receivers_gro=True, tx_checksum=True))
    stage.balance(mode=mode, udp=True)
    assert_all_backends_answer(stage, mode)


@each_mode("FullNAT", of=NAT_MODES)
def test_backends_behind_a_router_are_reached_through_it(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2, behind_router=True))
    stage.balance(mode=mode, udp=True)
    assert_all_backends_answer(stage, mode)


@each_mode("FullNAT")
def test_backends_on_interfaces_of_their_own_as_pods_are_get_no_xdp_program(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2, receivers_gro=False, tx_checksum=True))
    for host in stage.rig.backends:
        stage.rig.balancer.ip([f"route add {address} dev {host.port}" for address in (host.address4, host.address6)])
    stage.balance(mode=mode, udp=True)
    assert_all_backends_answer(stage, mode)
    assert stage.modes_of_interfaces() == {"client": "xdp", "b1": "tc", "b2": "tc"}


@each_mode("FullNAT", "DirectReturn")
def test_backends_on_the_interface_that_the_traffic_comes_in_by_work(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2, shared_segment=True))
    if mode == "DNAT":  # replies must come back through the balancer, though the client is on the backends' wire
        for host in stage.rig.backends:
            host.namespace.ip(
                [f"route add {stage.rig.client4} via 10.76.0.1", f"route add {stage.rig.client6} via fd76::1"]
            )
    stage.balance(mode=mode, udp=True)
    assert_all_backends_answer(stage, mode)
    assert stage.modes_of_interfaces() == {"eth0": "xdp"}


@each_mode("FullNAT")
def test_the_first_packet_to_a_neighbour_that_is_not_resolved_is_not_lost(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance(mode=mode, udp=True)
    for vip in (VIP4, VIP6):
        for protocol in ("udp", "tcp"):
            for _ in range(5):
                forget_neighbours(stage.rig.balancer)
                (answer,) = stage.ask(protocol, vip, mode=mode)
                assert answer.startswith("backend-"), (protocol, vip)
    assert retransmitted_syns(stage.rig.client) == 0


def forget_neighbours(namespace: Namespace) -> None:
    namespace.ip(["neighbour flush all"])


def retransmitted_syns(namespace: Namespace) -> int:
    """Of all connections that were opened in a namespace since it exists."""
    names, values, *_ = [
        line.split()
        for line in namespace.run(["cat", "/proc/self/net/netstat"]).splitlines()
        if line.startswith("TcpExt")
    ]
    return int(dict(zip(names, values, strict=True))["TCPSynRetrans"])
