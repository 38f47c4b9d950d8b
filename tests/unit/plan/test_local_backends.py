"""Backends that are addresses of the node itself, and interfaces by which the node's own clients leave."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from plan_node import ONE, TWO, Node, problems
from plan_worlds import ETH0, ETH1, balancer, network, path

from sluicegate_agent.datapath.model import Endpoint, InterfaceIndex, Protocol, address_hash
from sluicegate_agent.network.model import Path
from sluicegate_agent.planning.services import expand
from sluicegate_agent.planning.targets import vip_addresses

LOOPBACK_INDEX = InterfaceIndex(1)


def own(address: str) -> Path:
    here = ip_address(address)
    return Path(LOOPBACK_INDEX, here, here, 65_535, None, onlink=True, host_route=False, local=True)


def mixed(local: str = TWO):  # type: ignore[no-untyped-def]
    return network({ONE: path(ONE), local: own(local)})


@pytest.mark.parametrize("mode", ["FullNAT", "DNAT"])
def test_a_backend_on_the_node_is_reached_in_dnat_whatever_the_mode(node: Node, mode: str) -> None:
    desired = node.run(balancer(backends=[ONE, TWO], forwarding={"mode": mode}), net=mixed())
    row = node.row(TWO)
    assert row is not None
    assert (row.local, row.source) == (True, None)
    assert node.state.nexthops[row.nexthop].local
    endpoint = Endpoint(ip_address(TWO), Protocol.TCP, 8080)
    assert node.state.reverse[endpoint] == tuple(node.state.frontends)
    assert address_hash(endpoint.address) in node.state.filter.dnat_backends
    assert address_hash(endpoint.address) not in node.state.filter.nat_backends
    assert set(node.share()) == {ONE, TWO}
    assert desired.problems == {}
    assert LOOPBACK_INDEX not in desired.attachments


def test_the_others_of_a_full_nat_service_stay_what_they_are(node: Node) -> None:
    node.run(balancer(backends=[ONE, TWO]), net=mixed())
    row = node.row(ONE)
    assert row is not None
    assert (row.local, row.source) == (False, ip_address("10.0.0.254"))
    assert Endpoint(ip_address(ONE), Protocol.TCP, 8080) not in node.state.reverse


def test_direct_return_cannot_serve_it_and_says_so(node: Node) -> None:
    spec = {"forwarding": {"mode": "DirectReturn"}, "ports": [{"name": "http", "port": 80}]}
    desired = node.run(balancer(backends=[ONE, TWO], **spec), net=mixed())
    assert any("address of this node" in words and "DirectReturn" in words for words in problems(desired))
    assert set(node.share()) == {ONE}


def test_an_address_that_comes_to_the_node_makes_its_backend_local(node: Node) -> None:
    config = balancer(backends=[ONE, TWO])
    node.run(config, net=network([ONE, TWO]))
    before = node.row(TWO)
    node.run(config, net=mixed())
    after = node.row(TWO)
    assert before is not None
    assert after is not None
    assert (before.local, after.local) == (False, True)
    assert before.generation == after.generation


def test_the_interface_by_which_the_node_leaves_for_a_vip_gets_tc_alone(node: Node) -> None:
    config = balancer(backends=[ONE], interfaces=["eth0"])
    (vip,) = vip_addresses(expand(config))
    away = network({ONE: path(ONE), str(vip): path(str(vip), 4)})
    found = node.run(config, net=away).attachments
    assert found[ETH0].want_xdp
    assert found[ETH1].want_xdp
    extra = found[InterfaceIndex(4)]
    assert not extra.want_xdp
    assert f"the node's own packets to VIP {vip} leave through it" in extra.because
