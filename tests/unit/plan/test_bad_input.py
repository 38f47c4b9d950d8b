"""What cannot work is named, and everything else goes on."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from plan_node import NET, ONE, THREE, TWO, Node, problems
from plan_worlds import ETH0, ETH1, LINKS, balancer, builder, network, path


def test_a_vip_that_is_an_address_of_the_node_is_refused_alone(node: Node) -> None:
    desired = node.run(balancer(addresses=["203.0.113.10", "192.0.2.1"]))
    assert [str(vip) for vip in node.state.vips] == ["203.0.113.10:80/TCP"]
    (problem,) = problems(desired)
    assert problem.startswith("VIP 192.0.2.1: 192.0.2.1 is an address of this node")
    assert [str(vip) for _, vip in desired.refused] == ["192.0.2.1:80/TCP"]


def test_a_vip_that_becomes_an_address_of_the_node_while_in_use_is_unbound_and_the_rest_goes_on(node: Node) -> None:
    both = balancer(addresses=["203.0.113.10", "203.0.113.11"])
    node.run(both)
    before = node.state.backends
    taken = replace(NET, addresses=NET.addresses | {ip_address("203.0.113.10")})
    desired = node.run(both, net=taken)
    assert [str(vip.address) for vip in node.state.vips] == ["203.0.113.11"]
    assert (node.state.backends, node.share()) == (before, {ONE: 1, TWO: 1})
    assert problems(desired)[0].startswith("VIP 203.0.113.10: 203.0.113.10 is an address of this node")
    desired = node.run(both)
    assert (len(node.state.vips), problems(desired)) == (2, ())


def test_the_only_vip_that_becomes_an_address_of_the_node_takes_its_rows_with_it(node: Node) -> None:
    pair = balancer(), balancer("other", [THREE], addresses=["203.0.113.11"])
    node.run(*pair)
    taken = replace(NET, addresses=NET.addresses | {ip_address("203.0.113.10")})
    desired = node.run(*pair, net=taken)
    assert node.share() == {THREE: 1}
    assert problems(desired, "other") == ()
    assert len(problems(desired)) == 1


def test_interfaces_are_chosen_by_name_or_glob(node: Node) -> None:
    desired = node.run(balancer(backends=[ONE], interfaces=["eth*", "wan0"]))
    assert desired.attachments.keys() == {ETH0, ETH1}
    assert problems(desired) == ("spec.interfaces[1]: no interface is called wan0; it is used once it appears",)


def test_a_node_without_a_default_route_asks_for_interfaces(node: Node) -> None:
    desired = node.run(balancer(backends=[ONE]), net=replace(NET, default_interfaces=frozenset()))
    assert problems(desired)[0].startswith("spec.interfaces: no interface holds a default route")


def test_an_interface_that_several_globs_name_is_used_once_and_all_of_them_are_told(node: Node) -> None:
    desired = node.run(balancer(backends=[ONE], interfaces=["eth0", "eth*", "e*0"]))
    assert desired.attachments.keys() == {ETH0, ETH1}
    names = "spec.interfaces[0] and spec.interfaces[1] and spec.interfaces[2] of shop/web name it"
    assert desired.attachments[ETH0].because == names
    assert desired.attachments[ETH1].because == "spec.interfaces[1] of shop/web names it"
    assert problems(desired) == ()


def test_an_mtu_below_the_least_of_ipv6_is_told_where_ipv6_is_balanced_and_all_goes_on(node: Node) -> None:
    links = {key: replace(each, mtu=1279) for key, each in LINKS.items()}
    small = replace(path("fd00::1"), mtu=1279)
    net = network({ONE: path(ONE), "fd00::1": small}, links=links)
    six = balancer("v6", ["fd00::1"], addresses=["2001:db8::10", "2001:db8::11"])
    desired = node.run(balancer("v4", [ONE]), six, net=net)
    assert problems(desired, "v4") == ()
    arriving, leaving = sorted(problems(desired, "v6"), reverse=True)
    assert arriving.startswith("the MTU through interface eth0 is 1279, less than the 1280 that IPv6 needs")
    assert leaving.startswith("backend fd00::1: the MTU through interface eth1 is 1279")
    assert node.share() == {ONE: 1, "fd00::1": 1}


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"services": 2}, "services is full (1 entries): use fewer"),
        ({"frontends": 2}, "frontends is full (1 entries): use fewer"),
        ({"backends": 2}, "is full (1 entries): use fewer, or start the agent with a larger SLUICEGATE_BACKENDS"),
        ({"nexthops": 2}, "next hops is full"),
    ],
)
def test_what_does_not_fit_the_kernels_tables_is_named_and_the_rest_works(
    node: Node, limits: dict[str, int], words: str
) -> None:
    node.builder = builder(**limits)
    desired = node.run(balancer("a", [ONE]), balancer("b", [TWO], addresses=["203.0.113.11"]))
    assert problems(desired, "a") == ()
    assert words in problems(desired, "b")[0]
    assert node.share()[ONE] == 1


def test_more_backends_than_the_table_holds_are_named_one_by_one_and_those_before_them_work(node: Node) -> None:
    node.builder = builder(backends=1025)
    pools = [[f"10.{pool}.{number // 256}.{number % 256}" for number in range(1, 513)] for pool in range(1, 5)]
    objects = [balancer(f"lb{pool}", each, addresses=[f"203.0.113.{pool}"]) for pool, each in enumerate(pools, 1)]
    desired = node.run(*objects, net=network([address for pool in pools for address in pool]))
    assert node.share().keys() == {*pools[0], *pools[1]}
    assert (problems(desired, "lb1"), problems(desired, "lb2")) == ((), ())
    assert len(problems(desired, "lb3")) == len(problems(desired, "lb4")) == 512
    words = "the kernel's table of backends is full (1024 entries): use fewer, or start the agent with a larger "
    assert all(each.endswith(f"{words}SLUICEGATE_BACKENDS") for each in problems(desired, "lb4"))
    again = node.run(*objects, net=network([address for pool in pools for address in pool]))
    assert (again.state.backends, node.report.applied) == (desired.state.backends, ())
