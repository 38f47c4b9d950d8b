"""Forwarding modes: which rows each needs, and the way from one to another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plan_node import ONE, TWO, Node, problems
from plan_worlds import LINKS, balancer, link, network, path

from sluicegate_agent.datapath.model import BackendState, ForwardingMode
from sluicegate_api.loadbalancer import LoadBalancer

MODES = {"FullNAT": ForwardingMode.FULL_NAT, "DNAT": ForwardingMode.DNAT, "DirectReturn": ForwardingMode.DIRECT_RETURN}


def in_mode(mode: str, *backends: str) -> LoadBalancer:
    return balancer(backends=backends or (ONE, TWO), forwarding={"mode": mode}, ports=[{"name": "http", "port": 80}])


def test_direct_return_has_no_reply_side(node: Node) -> None:
    node.run(in_mode("DirectReturn", ONE))
    row = node.row(ONE)
    assert row
    assert (row.state, row.source, node.state.reverse) == (BackendState.ACTIVE, None, {})
    assert node.state.filter.nat_backends == node.state.filter.dnat_backends == frozenset()
    assert {each.mode for each in node.state.frontends.values()} == {ForwardingMode.DIRECT_RETURN}


def test_a_direct_return_backend_that_leaves_still_has_no_reply_side(node: Node) -> None:
    node.run(in_mode("DirectReturn", ONE))
    node.run(in_mode("DirectReturn", TWO))
    leaving = node.row(ONE)
    assert leaving
    assert (leaving.state, node.state.filter.dnat_backends) == (BackendState.DRAINING, frozenset())


def test_direct_return_needs_the_backend_on_the_link(node: Node) -> None:
    net = network({ONE: path(ONE), TWO: replace(path("10.0.0.250"), onlink=False)})
    desired = node.run(in_mode("DirectReturn"), net=net)
    assert node.share() == {ONE: 1}
    (problem,) = problems(desired)
    assert problem.startswith(f"backend {TWO}: {TWO} is not on a link of this node, the route leads through 10.0.0.250")
    assert "use FullNAT or DNAT" in problem
    assert problems(node.run(in_mode("DNAT"), net=net)) == ()


def test_a_direct_return_backend_that_moves_behind_a_router_takes_no_more_packets(node: Node) -> None:
    node.run(in_mode("DirectReturn"))
    node.run(in_mode("DirectReturn"), net=network({ONE: path(ONE), TWO: replace(path("10.0.0.250"), onlink=False)}))
    row = node.row(TWO)
    assert row
    assert (row.state, row.nexthop, node.share()) == (BackendState.DOWN, 0, {ONE: 1})


def test_direct_return_needs_ethernet(node: Node) -> None:
    tunnel = link(7, "tun0", kind="tun", ethernet=False, redirect=False)
    desired = node.run(in_mode("DirectReturn", ONE), net=network({ONE: path(ONE, 7)}, links={**LINKS, 7: tunnel}))
    assert node.row(ONE) is None
    assert "interface tun0 carries no Ethernet frames" in problems(desired)[0]


@pytest.mark.parametrize("before", MODES)
@pytest.mark.parametrize("after", MODES)
def test_a_change_of_mode_leaves_no_row_of_the_old_one(node: Node, before: str, after: str) -> None:
    node.run(in_mode(before))
    node.run(in_mode(after))
    state = node.state
    assert [row.mode for row in state.frontends.values()] == [MODES[after]]
    assert (len(state.vips), len(state.slots), len(state.backends)) == (1, 1, 2)
    assert bool(state.reverse) == bool(state.filter.dnat_backends) == (after == "DNAT")
    assert bool(state.filter.nat_backends) == (after == "FullNAT")
