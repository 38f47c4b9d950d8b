"""Interfaces that are sniffed carry our programs, with a load balancer or without one."""

from __future__ import annotations

import pytest

from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.network.model import Link, NetworkSnapshot
from sluicegate_agent.planning.attachments import attachments

ETH0, BR0, TUN0, GONE = (InterfaceIndex(number) for number in (2, 3, 4, 5))
BECAUSE = "spec.attach.interfaces[0] of shop/edge names it"


def link(ifindex: InterfaceIndex, name: str, kind: str = "", *, ethernet: bool = True) -> Link:
    return Link(ifindex, name, kind, 1500, bytes(6), up=True, ethernet=ethernet, takes_redirect=True)


NETWORK = NetworkSnapshot(
    links={ETH0: link(ETH0, "eth0"), BR0: link(BR0, "br0", "bridge"), TUN0: link(TUN0, "tun0", ethernet=False)}
)


@pytest.mark.parametrize(("ifindex", "want_xdp"), [(ETH0, True), (BR0, False), (TUN0, False)])
def test_a_sniffed_interface_is_attached_without_any_load_balancer(ifindex: InterfaceIndex, want_xdp: bool) -> None:
    found = attachments([], {}, [], NETWORK, {ifindex: BECAUSE})
    assert list(found) == [ifindex]
    assert found[ifindex].because == BECAUSE
    assert found[ifindex].want_xdp == want_xdp
    assert bool(found[ifindex].tc_only) == (not want_xdp)


def test_what_a_load_balancer_needs_it_for_comes_first() -> None:
    found = attachments([{ETH0: "it holds a default route"}], {}, [], NETWORK, {ETH0: BECAUSE})
    assert found[ETH0].because == "it holds a default route"


def test_an_interface_that_went_is_left_out() -> None:
    assert attachments([], {}, [], NETWORK, {GONE: BECAUSE}) == {}
