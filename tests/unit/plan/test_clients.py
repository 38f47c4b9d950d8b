"""Limits of clients: affinity, allowed sources and the rate of new flows."""

from __future__ import annotations

from ipaddress import ip_network

from plan_node import ONE, TWO, Node, problems
from plan_worlds import balancer, builder

SOURCES = ["198.51.100.0/24", "192.0.2.128/25", "2001:db8:1::/48"]
TWO_FAMILIES = {"addresses": ["203.0.113.10", "2001:db8::10"], "backends": [ONE, "fd00::1"]}


def test_affinity_and_rate_stand_in_every_frontend_of_the_service(node: Node) -> None:
    vips = ["203.0.113.10", "203.0.113.11"]
    sticky = {"type": "ClientIP", "timeoutSeconds": 600}
    node.run(balancer(addresses=vips, sessionAffinity=sticky, maxNewConnectionsPerSecond=50))
    rows = node.state.frontends.values()
    assert [(row.affinity_seconds, row.rate, row.restricted) for row in rows] == [(600.0, 50, False)] * 2
    node.run(balancer(addresses=vips))
    rows = node.state.frontends.values()
    assert [(row.affinity_seconds, row.rate, row.restricted) for row in rows] == [(0.0, 0, False)] * 2


def test_allowed_clients_are_those_of_the_familys_networks(node: Node) -> None:
    node.run(balancer(**TWO_FAMILIES, allowedSources=SOURCES))
    by_family = {row.endpoint.address.version: row.service for row in node.state.frontends.values()}
    assert node.state.sources == {
        by_family[4]: {ip_network(SOURCES[0]), ip_network(SOURCES[1])},
        by_family[6]: {ip_network(SOURCES[2])},
    }
    assert all(row.restricted for row in node.state.frontends.values())
    node.run(balancer(**TWO_FAMILIES))
    assert node.state.sources == {}
    assert not any(row.restricted for row in node.state.frontends.values())


def test_a_family_without_an_allowed_network_serves_nobody_and_says_so(node: Node) -> None:
    desired = node.run(balancer(**TWO_FAMILIES, allowedSources=SOURCES[:1]))
    (closed,) = (row for row in node.state.frontends.values() if row.endpoint.address.version == 6)
    assert (closed.restricted, node.state.sources[closed.service]) == (True, frozenset())
    assert problems(desired) == ("spec.allowedSources: no IPv6 network, so no client may use the IPv6 VIPs",)


def test_allowed_clients_that_do_not_fit_close_the_vip_and_name_the_setting(node: Node) -> None:
    node.builder = builder(sources=2)
    present = balancer("b", [TWO], addresses=["203.0.113.11"], allowedSources=SOURCES[:1])
    node.run(present)
    desired = node.run(balancer("a", [ONE], allowedSources=SOURCES[:2]), present)
    assert [str(vip.address) for vip in node.state.vips] == ["203.0.113.11"]
    assert "a larger SLUICEGATE_SOURCES" in problems(desired, "a")[0]
    assert problems(desired, "b") == ()
