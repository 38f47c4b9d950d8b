"""Pings to the VIP, and errors that arise behind it."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from clients import datagram_socket, exchange, ping
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.counters import of_reason
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from stage import Build, Mode, each_mode

pytestmark = pytest.mark.lab

IP_RECVERR, IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h; not in Python's socket module


def test_a_ping_to_a_vip_is_answered_by_the_balancer_itself(build: Build) -> None:
    stage = build(RigOptions(backends=1))
    stage.balance()
    unanswered = [
        (vip, size) for vip in (VIP4, VIP6) for size in (0, 1, 56, 1400) if not ping(stage.rig.client, vip, size)
    ]
    assert not unanswered
    assert of_reason(stage.agent.packets(), "answered_echo") == 8


def test_a_ping_is_answered_by_tc_where_xdp_cannot_send_back(build: Build) -> None:
    stage = build(RigOptions(backends=1, receivers_gro=False))
    stage.balance()
    assert not [vip for vip in (VIP4, VIP6) if not ping(stage.rig.client, vip)]


@each_mode("FullNAT", "DNAT")
def test_a_port_that_a_backend_does_not_serve_is_refused_to_the_clients_socket(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=1))
    stage.balance(mode=mode, udp=True)
    port = service_port("UDP", mode)
    with ExitStack() as stack:
        clients = [stack.enter_context(datagram_socket(stage.rig.client, vip, port)) for vip in (VIP4, VIP6)]
        assert [exchange(client, b"=hello") for client in clients] == [b"=hello"] * 2
        stage.servers[0].kill()
        for client, vip in zip(clients, (VIP4, VIP6), strict=True):
            level, option = (socket.IPPROTO_IP, IP_RECVERR) if vip.version == 4 else (socket.IPPROTO_IPV6, IPV6_RECVERR)
            client.setsockopt(level, option, 1)
            client.send(b"=is anybody there?")
            with pytest.raises(ConnectionRefusedError):
                client.recv(65535)
            quoted, _, _, sent_to = client.recvmsg(65535, 512, socket.MSG_ERRQUEUE)
            assert quoted == b"=is anybody there?"
            assert sent_to[:2] == (str(vip), port)
