"""Who may open a flow, how often, and to which backend a client comes back."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from clients import Address, ask_name, burst, datagram_socket, exchange
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.counters import drops
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from stage import Build, Mode, Stage, each_mode

pytestmark = pytest.mark.lab

STRANGER4, STRANGER6 = IPv4Address("10.76.0.3"), IPv6Address("fd76::3")
RATE = 100
BURST, PACE = 270, 300  # less than a second, after which refused SYNs are repeated


def names(stage: Stage, vip: Address, mode: Mode, count: int) -> set[str]:
    return {ask_name(stage.rig.client, vip, service_port("TCP", mode)) for _ in range(count)}


@each_mode("FullNAT")
def test_a_client_comes_back_to_its_backend_until_that_is_down(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=4))
    affinity = {"sessionAffinity": {"type": "ClientIP", "timeoutSeconds": 600}}
    stage.balance(mode=mode, hosts=stage.rig.backends[:3], changes=affinity)
    (first,) = names(stage, VIP4, mode, 40)
    (first6,) = names(stage, VIP6, mode, 40)

    stage.configure(stage.rig.backends, mode=mode, changes=affinity)
    stage.agent.wait_ready(stage.rig.backends)
    assert names(stage, VIP4, mode, 40) == {first}, "a backend that joins moves nobody"
    assert names(stage, VIP6, mode, 40) == {first6}

    (server,) = [server for server in stage.servers if server.host.name == first]
    server.kill()
    stage.agent.wait_ready([host for host in stage.rig.backends if host.name != first])
    (second,) = names(stage, VIP4, mode, 40)
    assert second not in {first, ""}
    server.start()
    stage.agent.wait_ready(stage.rig.backends)
    assert names(stage, VIP4, mode, 40) == {second}, "a backend that comes back takes nobody back"


@each_mode("DNAT")
def test_only_clients_in_the_allowed_networks_are_served(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    # A deprecated address is not chosen unless a socket is bound to it.
    stage.rig.client.ip(
        [f"address add {STRANGER4}/24 dev eth0", f"address add {STRANGER6}/64 dev eth0 preferred_lft 0"]
    )
    stage.balance(
        mode=mode, udp=True, changes={"allowedSources": [f"{stage.rig.client4}/32", f"{stage.rig.client6}/128"]}
    )
    for vip, stranger in ((VIP4, STRANGER4), (VIP6, STRANGER6)):
        port = service_port("TCP", mode)
        assert ask_name(stage.rig.client, vip, port).startswith("backend-")
        assert not ask_name(stage.rig.client, vip, port, source=stranger, seconds=0.5)
        with datagram_socket(stage.rig.client, vip, service_port("UDP", mode)) as client:
            assert exchange(client, b"=hello") == b"=hello"
        with (
            datagram_socket(stage.rig.client, vip, service_port("UDP", mode), source=stranger, seconds=0.5) as client,
            pytest.raises(TimeoutError),
        ):
            exchange(client, b"=hello")
    assert set(drops(stage.agent.packets())) == {"source_denied"}


def test_a_family_without_an_allowed_network_is_closed(build: Build) -> None:
    stage = build(RigOptions(backends=1))
    stage.balance(changes={"allowedSources": [f"{stage.rig.client4}/32"]})
    assert ask_name(stage.rig.client, VIP4, 80) == "backend-1"
    assert not ask_name(stage.rig.client, VIP6, 80, seconds=0.5)


@each_mode("FullNAT")
def test_connections_above_the_rate_are_refused_and_counted(build: Build, mode: Mode) -> None:
    stage = build(RigOptions(backends=2))
    stage.balance(mode=mode, changes={"maxNewConnectionsPerSecond": RATE})
    for vip in (VIP4, VIP6):
        before = drops(stage.agent.packets())
        seen = burst(stage.rig.client, vip, service_port("TCP", mode), count=BURST, pace=PACE)
        allowed = RATE * (seen.seconds + 0.1)  # the bucket holds a tenth of a second's worth
        assert 0.7 * allowed < seen.accepted < 1.3 * allowed, (vip, seen)
        refused = drops(stage.agent.packets()) - before
        assert set(refused) == {"rate_limited"}, vip
        assert refused["rate_limited"] >= seen.opened - seen.accepted, vip
