"""The node itself as a party: its own clients, its own backends, and clients that its stack forwards (pods)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

import pytest

from clients import Address, ping
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.namespace import Namespace
from sluicegate_agent.lab.processes import BackendServer, module
from sluicegate_agent.lab.rig import VIP4, VIP6, BackendHost, Rig, RigOptions
from sluicegate_agent.lab.wire import target
from stage import MODES, Build, Mode, Stage, each_mode

pytestmark = pytest.mark.lab

REQUESTS = 30
BALANCER4, BALANCER6 = IPv4Address("10.76.0.1"), IPv6Address("fd76::1")
WAYS = pytest.mark.parametrize("way", ["", "clsact"], ids=["tcx", "clsact"])


def route_vips(stage: Stage) -> None:
    """Packets of the node itself to the VIPs leave towards the client, which stands for the router that brings them."""
    stage.rig.balancer.ip([f"route add {VIP4} via {stage.rig.client4}", f"route add {VIP6} via {stage.rig.client6}"])


def ask_from(
    namespace: Namespace, protocol: str, vip: Address, count: int = REQUESTS, *, mode: Mode = "FullNAT"
) -> list[str]:
    where = target(vip, service_port("TCP" if protocol == "tcp" else "UDP", mode))
    answers: list[str] = json.loads(namespace.run(module("probe", protocol, where, "--count", count), seconds=60))
    return answers


def assert_everyone_answers(stage: Stage, namespace: Namespace, mode: Mode, names: set[str]) -> None:
    for vip in (VIP4, VIP6):
        for protocol in ("tcp", "udp"):
            answers = ask_from(namespace, protocol, vip, mode=mode)
            assert {answer.split(" ")[0] for answer in answers} == names, (protocol, vip, answers)


@each_mode(*MODES)
def test_a_client_on_the_node_reaches_every_backend(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    route_vips(stage)
    stage.balance(mode=mode, udp=True)
    assert_everyone_answers(stage, stage.rig.balancer, mode, {"backend-1", "backend-2"})


@each_mode("FullNAT", of=("FullNAT", "DNAT"))  # DirectReturn: replies from the VIP itself, which such filters exist for
def test_strict_reverse_path_filters_let_replies_to_the_node_in(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2, tx_checksum=True))
    route_vips(stage)
    stage.rig.balancer.sysctl(["net.ipv4.conf.all.rp_filter=1"])
    stage.balance(mode=mode, udp=True)
    assert_everyone_answers(stage, stage.rig.balancer, mode, {"backend-1", "backend-2"})


def test_by_filters_where_there_is_no_tcx_it_is_the_same(build: Build) -> None:
    stage = build(RigOptions(backends=2), SLUICEGATE_TC="clsact")
    route_vips(stage)
    stage.balance(udp=True)
    assert_everyone_answers(stage, stage.rig.balancer, "FullNAT", {"backend-1", "backend-2"})


@each_mode("FullNAT", "DirectReturn", of=("FullNAT", "DirectReturn"))
def test_with_one_interface_for_all_no_packet_goes_in_circles(build: Build, mode: Mode) -> None:
    """The requests leave by the very interface whose way out the programs watch."""
    stage = build(RigOptions(backends=2, shared_segment=True))
    route_vips(stage)
    stage.balance(mode=mode, udp=True)
    assert_everyone_answers(stage, stage.rig.balancer, mode, {"backend-1", "backend-2"})


@each_mode("FullNAT", "DNAT", of=("FullNAT", "DNAT"))
def test_a_backend_on_the_node_serves_beside_the_others(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    with backend_on_the_node(stage.rig) as local:
        stage.balance(mode=mode, udp=True, hosts=(*stage.rig.backends, local))
        assert_everyone_answers(stage, stage.rig.client, mode, {"backend-1", "backend-2", "backend-9"})
        seen = {answer.split(" ")[1] for answer in stage.ask("tcp", VIP4, REQUESTS, mode=mode) if "backend-9" in answer}
        assert seen == {str(stage.rig.client4)}, "a backend on the node sees the client as it is, whatever the mode"


@each_mode("FullNAT", of=("FullNAT", "DNAT"))
def test_a_client_on_the_node_gets_a_backend_elsewhere(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    route_vips(stage)
    with backend_on_the_node(stage.rig) as local:
        stage.balance(mode=mode, udp=True, hosts=(*stage.rig.backends, local))
        assert_everyone_answers(stage, stage.rig.balancer, mode, {"backend-1", "backend-2"})


@each_mode("FullNAT", "DNAT", of=("FullNAT", "DNAT"))
def test_clients_that_the_node_forwards_are_balanced_on_their_way_out(build: Build, mode: Mode) -> None:
    """A pod: its interface carries no program, its packets to the VIP go through the node's stack."""
    stage = build(RigOptions(backends=2))
    route_vips(stage)
    stage.balance(mode=mode, udp=True)
    with pod(stage.rig) as inside:
        assert_everyone_answers(stage, inside, mode, {"backend-1", "backend-2"})


def test_the_node_can_ping_a_vip(build: Build) -> None:
    stage = build(RigOptions(backends=1))
    route_vips(stage)
    stage.balance()
    for vip in (VIP4, VIP6):
        assert ping(stage.rig.balancer, vip)


@contextmanager
def backend_on_the_node(rig: Rig) -> Iterator[BackendHost]:
    host = BackendHost(9, rig.balancer, BALANCER4, BALANCER6, rig.client_port)
    server = BackendServer(host)
    try:
        server.start()
        yield host
    finally:
        server.kill()


@contextmanager
def pod(rig: Rig) -> Iterator[Namespace]:
    made = Namespace(f"sgt-{os.getpid()}-{secrets.token_hex(2)}-pod")
    try:
        made.create()
        made.sysctl(["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"])
        rig.balancer.ip(
            [
                f"link add pod0 type veth peer name eth0 netns {made.name}",
                "address add 10.79.0.1/24 dev pod0",
                "address add fd79::1/64 dev pod0",
                "link set pod0 up",
            ]
        )
        made.ip(
            [
                "address add 10.79.0.2/24 dev eth0",
                "address add fd79::2/64 dev eth0",
                "link set eth0 up",
                "route add default via 10.79.0.1",
                "route add default via fd79::1",
            ]
        )
        yield made
    finally:
        made.delete()
