"""Datagrams of all sizes, most of them cut into fragments by the sender's kernel, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from clients import datagram_socket, exchange, pattern
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.counters import drops
from sluicegate_agent.lab.rig import VIP4, VIP6, Mtus, RigOptions
from stage import MODES, NAT_MODES, Build, Mode, Stage, each_mode

pytestmark = pytest.mark.lab

SIZES = (10, 500, 1472, 1473, 2000, 5000, 9000)
CLIENTS_PER_SIZE = 4


def failures(stage: Stage, mode: Mode) -> Iterator[str]:
    """Sizes that did not come back as they were sent; several clients, so that all backends take part."""
    for vip in (VIP4, VIP6):
        for size in SIZES:
            for _ in range(CLIENTS_PER_SIZE):
                with datagram_socket(stage.rig.client, vip, service_port("UDP", mode)) as client:
                    try:
                        answer = exchange(client, pattern(size))
                    except OSError as error:
                        yield f"{size} bytes to {vip}: {error}"
                    else:
                        if answer != pattern(size):
                            yield f"{size} bytes to {vip}: {len(answer)} other bytes came back"


@each_mode(*MODES)
def test_datagrams_of_every_size_come_back_unchanged(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance(mode=mode, udp=True)
    assert not [*failures(stage, mode)]
    assert not drops(stage.agent.packets())


@each_mode("FullNAT")
def test_datagrams_of_every_size_come_back_unchanged_through_tc_alone(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2, receivers_gro=False, tx_checksum=True))
    for host in stage.rig.backends:
        stage.rig.balancer.ip([f"route add {address} dev {host.port}" for address in (host.address4, host.address6)])
    stage.balance(mode=mode, udp=True)
    assert not [*failures(stage, mode)]


@each_mode("FullNAT")
def test_jumbo_frames_pass_whole_through_xdp(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2, mtus=Mtus(9000, 9000, 9000, 9000)))
    stage.balance(mode=mode, udp=True)
    assert stage.modes_of_interfaces() == {"client": "xdp", "b1": "xdp", "b2": "xdp"}
    assert not [*failures(stage, mode)]
    transfers = [
        stage.transfer(direction, vip, 4_000_000, 1e9, mode=mode)
        for vip in (VIP4, VIP6)
        for direction in ("download", "upload")
    ]
    assert [transfer.communicate(timeout=60)[0] for transfer in transfers] == ["started\nok\n"] * 4


@each_mode("FullNAT", of=NAT_MODES)
def test_fragments_of_many_clients_are_told_apart_by_the_backend(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=1))
    stage.balance(mode=mode, udp=True)
    for vip in (VIP4, VIP6):
        with ExitStack() as stack:
            clients = [stack.enter_context(datagram_socket(stage.rig.client, vip, 7)) for _ in range(40)]
            payloads = [b"=%04d" % number + bytes([number]) * 3000 for number in range(len(clients))]
            for client, payload in zip(clients, payloads, strict=True):
                client.send(payload)
            assert [client.recv(65535) for client in clients] == payloads


@each_mode("DNAT")
def test_all_fragments_wait_for_a_neighbour_that_is_not_resolved(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=1))
    stage.balance(mode=mode, udp=True)
    for vip in (VIP4, VIP6):
        for _ in range(5):
            stage.rig.balancer.ip(["neighbour flush all"])
            with datagram_socket(stage.rig.client, vip, service_port("UDP", mode)) as client:
                assert exchange(client, pattern(5000)) == pattern(5000)
