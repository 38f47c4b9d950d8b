"""The desired state: what configuration, network and health make of the tables."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from plan_node import ACTIVE, DOWN, DRAINING, NET, ONE, THREE, TWO, Node, problems
from plan_worlds import BRIDGE, ETH0, ETH1, LINKS, POD, balancer, builder, link, network, path

from sluicegate_agent.datapath.model import (
    Algorithm,
    Endpoint,
    ForwardingMode,
    InterfaceFlag,
    KernelState,
    Protocol,
    Put,
    Table,
)
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.network.model import NoPath
from sluicegate_agent.planning.ids import BackendKey
from sluicegate_agent.planning.targets import found_down
from sluicegate_api.loadbalancer import LoadBalancer


def test_a_load_balancer_becomes_rows_that_lead_from_vip_to_backend(node: Node) -> None:
    desired = node.run(balancer(backends={ONE: 100, TWO: 200}, idleTimeouts={"tcpSeconds": 90}))
    vip = Endpoint(ip_address("203.0.113.10"), Protocol.TCP, 80)
    frontend = node.state.frontends[node.state.vips[vip]]
    assert (frontend.algorithm, frontend.mode) == (Algorithm.ROUND_ROBIN, ForwardingMode.FULL_NAT)
    assert (frontend.slots, frontend.idle_seconds) == (3, 90.0)
    assert node.share() == {ONE: 1, TWO: 2}
    row = node.row(ONE)
    assert row
    assert row.endpoint == Endpoint(ip_address(ONE), Protocol.TCP, 8080)
    assert (row.source, row.state, row.weight) == (ip_address("10.0.0.254"), ACTIVE, 100_000)
    assert node.state.nexthops[row.nexthop].gateway == ip_address(ONE)
    assert desired.problems == {}


@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ({}, Algorithm.LEAST_LOAD),
        ({"sessionAffinity": {"type": "ClientIP"}}, Algorithm.MAGLEV),
        ({"ports": [{"name": "dns", "protocol": "UDP", "port": 53}]}, Algorithm.MAGLEV),
    ],
)
def test_without_an_algorithm_load_decides_for_tcp_and_a_hash_for_udp_and_sticky_clients(
    node: Node, spec: dict[str, object], algorithm: Algorithm
) -> None:
    node.run(balancer(backends=[ONE, TWO], algorithm=None, **spec))
    assert {row.algorithm for row in node.state.frontends.values()} == {algorithm}
    assert sum(node.share().values()) == 4093


def test_least_load_draws_from_the_very_table_of_maglev(node: Node) -> None:
    maglev = node.run(balancer(algorithm="Maglev")).state.slots
    least_load = node.run(balancer(algorithm="LeastLoad")).state.slots
    assert all(least_load[service] is slots for service, slots in maglev.items())
    assert [operation.table for operation in node.report.applied] == [Table.FRONTENDS]


def test_the_size_of_a_maglev_table_does_not_follow_health(node: Node) -> None:
    many = [f"10.0.1.{number}" for number in range(101)]
    node.run(balancer(backends=many, algorithm="Maglev"), net=network(many))
    node.health = {many[0]: HealthState.DOWN, many[1]: HealthState.DOWN}
    node.run(balancer(backends=many, algorithm="Maglev"), net=network(many))
    assert sum(node.share().values()) == 16381
    assert many[0] not in node.share()


def test_equal_inputs_give_the_very_same_table(node: Node) -> None:
    first = node.run(balancer(algorithm="Maglev")).state.slots
    second = node.run(balancer(algorithm="Maglev")).state.slots
    assert all(second[service] is slots for service, slots in first.items())


def test_each_family_uses_its_own_backends(node: Node) -> None:
    node.run(balancer(backends=[ONE, "fd00::1"], addresses=["203.0.113.10", "2001:db8::10"]))
    by_family = {
        row.endpoint.address.version: {node.state.backends[each].endpoint for each in node.state.slots[row.service]}
        for row in node.state.frontends.values()
    }
    assert by_family == {
        4: {Endpoint(ip_address(ONE), Protocol.TCP, 8080)},
        6: {Endpoint(ip_address("fd00::1"), Protocol.TCP, 8080)},
    }


def test_adding_a_backend_touches_no_row_of_the_others(node: Node) -> None:
    node.run(balancer(backends=[TWO]))
    before = node.row(TWO)
    node.datapath.applied.clear()
    node.run(balancer(backends=[ONE, TWO, THREE]))
    assert node.row(TWO) == before
    touched = {operation.key for operation in node.datapath.applied if operation.table is Table.BACKENDS}
    assert len(touched) == 2


def test_a_backend_that_leaves_drains_and_is_free_after_its_time(node: Node) -> None:
    node.run(balancer(backends=[ONE, TWO], drainSeconds=20))
    desired = node.run(balancer(backends=[ONE], drainSeconds=20))
    row = node.row(TWO)
    assert row
    assert row.state is DRAINING
    assert (node.share(), desired.wake_at) == ({ONE: 1}, 1020.0)
    outcome = next(each for key, each in desired.backends.items() if key.address == ip_address(TWO))
    assert (outcome.state, outcome.drained_at) == (DRAINING, 1020.0)
    node.now = 1020.0
    desired = node.run(balancer(backends=[ONE], drainSeconds=20))
    assert (node.row(TWO), desired.wake_at) == (None, None)


def test_a_backend_that_comes_back_while_it_drains_keeps_its_id(node: Node) -> None:
    node.run(balancer(backends=[ONE, TWO]))
    before = node.state.backends
    node.run(balancer(backends=[ONE]))
    node.run(balancer(backends=[ONE, TWO]))
    assert node.state.backends == before


def test_a_reused_id_gets_another_generation(node: Node) -> None:
    node.builder = builder(backends=2)
    node.run(balancer(backends=[ONE], drainSeconds=0))
    node.run()
    node.run(balancer(backends=[TWO], drainSeconds=0))
    ((identity, row),) = node.state.backends.items()
    assert (identity, row.generation) == (1, 2)


def test_weight_zero_takes_no_new_flows_and_keeps_its_row(node: Node) -> None:
    node.run(balancer(backends={ONE: 100, TWO: 100}))
    node.run(balancer(backends={ONE: 100, TWO: 0}))
    node.now += 1e6
    node.run(balancer(backends={ONE: 100, TWO: 0}))
    row = node.row(TWO)
    assert row
    assert (row.state, row.weight) == (DRAINING, 0)
    assert node.share() == {ONE: 1}


def test_a_backend_goes_down_and_comes_up_without_losing_its_row(node: Node) -> None:
    node.run(balancer())
    before = node.row(TWO)
    node.health = {TWO: HealthState.DOWN}
    node.run(balancer())
    assert (node.row(TWO), node.share()) == (before and replace(before, state=DOWN), {ONE: 1})
    node.health = {TWO: HealthState.UP}
    node.run(balancer())
    assert (node.row(TWO), node.share()) == (before, {ONE: 1, TWO: 1})


def test_with_no_way_to_any_backend_the_vip_stays_bound_to_an_empty_table(node: Node) -> None:
    node.run(balancer(), net=network({ONE: NoPath("no route"), TWO: NoPath("no route")}))
    (frontend,) = node.state.frontends.values()
    assert (frontend.slots, node.state.slots[frontend.service]) == (0, ())
    assert node.state.vips


def test_with_fewer_than_half_healthy_all_are_used_until_half_are_healthy_again(node: Node) -> None:
    three = balancer(backends=[ONE, TWO, THREE])
    node.health = {ONE: HealthState.DOWN, TWO: HealthState.UP, THREE: HealthState.UP}
    node.run(three)
    assert node.share() == {TWO: 1, THREE: 1}
    node.health[TWO] = HealthState.DOWN
    desired = node.run(three)
    assert node.share() == {ONE: 1, TWO: 1, THREE: 1}
    assert [str(panic) for panic in desired.panics.values()] == [
        "only 1 of 3 backends pass their checks, fewer than half: all are used"
    ]
    assert problems(desired)[0].startswith("port http over IPv4: only 1 of 3")
    distrusted = {str(key.address) for key, outcome in desired.backends.items() if outcome.distrusted}
    assert distrusted == {ONE, TWO}
    assert {str(key.address) for key in found_down(desired)} == {ONE, TWO}
    node.health[ONE] = HealthState.UP
    desired = node.run(three)
    assert (node.share(), desired.panics) == ({ONE: 1, THREE: 1}, {})


def test_a_backend_without_a_route_is_not_used_and_named(node: Node) -> None:
    net = network({ONE: path(ONE), TWO: NoPath(f"no route to {TWO}")})
    desired = node.run(balancer(), net=net)
    assert (node.row(TWO), node.share()) == (None, {ONE: 1})
    assert problems(desired) == (f"backend {TWO}: no route to {TWO}",)


def test_a_backend_that_loses_its_route_keeps_its_id_and_comes_back(node: Node) -> None:
    node.run(balancer())
    before = node.row(TWO)
    node.run(balancer(), net=network({ONE: path(ONE), TWO: NoPath("no route")}))
    row = node.row(TWO)
    assert row
    assert (row.state, row.nexthop) == (DOWN, 0)
    node.run(balancer())
    after = node.row(TWO)
    assert before
    assert after == replace(before, nexthop=after.nexthop)


def test_a_changed_neighbour_gets_a_new_next_hop_and_the_backends_follow(node: Node) -> None:
    node.run(balancer(backends=[ONE]))
    before = node.row(ONE)
    node.run(balancer(backends=[ONE]), net=network({ONE: path(ONE, mac=None)}))
    after = node.row(ONE)
    assert before
    assert after
    assert after.nexthop != before.nexthop
    (hop,) = node.state.nexthops.values()
    assert (hop.destination_mac, hop.xdp) == (None, False)


def test_backends_behind_one_router_share_a_next_hop(node: Node) -> None:
    router = path("10.0.0.250")
    node.run(balancer(), net=network({ONE: router, TWO: router}))
    assert len(node.state.nexthops) == 1


def test_a_device_that_takes_no_redirected_frames_is_reached_through_tc(node: Node) -> None:
    links = {**LINKS, ETH1: link(ETH1, "eth1", kind="veth", redirect=False)}
    node.run(balancer(backends=[ONE]), net=replace(NET, links=links))
    (hop,) = node.state.nexthops.values()
    assert (hop.destination_mac is not None, hop.xdp) == (True, False)


def test_a_restart_changes_nothing_but_the_generation_of_cached_hops(node: Node) -> None:
    config = [balancer(), balancer("dns", [THREE], addresses=["203.0.113.11"])]
    node.run(*config)
    before = node.state
    node.restart()
    node.run(*reversed(config))
    assert [operation.table for operation in node.report.applied] == [Table.SETTINGS]
    assert replace(node.state, settings=before.settings) == before
    assert node.state.settings.hop_generation != before.settings.hop_generation


def test_a_restart_before_the_network_is_known_takes_no_backend_away(node: Node) -> None:
    node.run(balancer())
    before = node.state
    node.restart()
    desired = node.run(balancer(), net=replace(NET, paths={}))
    assert replace(node.state, settings=before.settings) == before
    assert desired.problems == {}


def test_a_backend_found_down_stays_down_until_its_first_check_ends(node: Node) -> None:
    node.health = {TWO: HealthState.DOWN}
    node.run(balancer())
    node.restart()
    node.health = {ONE: HealthState.UNKNOWN, TWO: HealthState.UNKNOWN}
    node.run(balancer())
    assert node.share() == {ONE: 1}


def test_a_new_generation_of_hops_follows_the_monitor(node: Node) -> None:
    node.run(balancer())
    before = node.state.settings.hop_generation
    node.run(balancer(), net=replace(NET, hop_generation=3))
    assert node.state.settings.hop_generation == before + 2


def test_another_mode_is_another_service_and_the_old_one_goes_at_once(node: Node) -> None:
    node.run(balancer())
    node.run(balancer(forwarding={"mode": "DNAT"}))
    assert {row.source for row in node.state.backends.values()} == {None}
    assert {row.mode for row in node.state.frontends.values()} == {ForwardingMode.DNAT}
    assert node.state.filter.nat_backends == frozenset()


def test_a_removed_load_balancer_leaves_nothing_behind(node: Node) -> None:
    node.run(balancer())
    desired = node.run()
    assert replace(node.state, interfaces={}, settings=KernelState().settings) == KernelState()
    assert (desired.attachments, desired.wake_at) == ({}, None)


def test_a_load_balancer_that_takes_the_vip_of_another_keeps_its_flows(node: Node) -> None:
    node.run(balancer("old", [ONE]), balancer("new", [TWO], addresses=["203.0.113.11"]))
    vip = Endpoint(ip_address("203.0.113.10"), Protocol.TCP, 80)
    frontend = node.state.vips[vip]
    node.run(balancer("new", [TWO], addresses=["203.0.113.10", "203.0.113.11"]))
    row = node.row(ONE)
    assert row
    assert (node.state.vips[vip], row.state) == (frontend, DRAINING)
    node.now += 31
    node.run(balancer("new", [TWO], addresses=["203.0.113.10", "203.0.113.11"]))
    assert node.row(ONE) is None


def test_one_backend_may_serve_full_nat_and_dnat(node: Node) -> None:
    desired = node.run(
        balancer("nat", [ONE]), balancer("dnat", [ONE], addresses=["203.0.113.11"], forwarding={"mode": "DNAT"})
    )
    dnat = node.state.vips[Endpoint(ip_address("203.0.113.11"), Protocol.TCP, 80)]
    assert node.state.reverse == {Endpoint(ip_address(ONE), Protocol.TCP, 8080): (dnat,)}
    assert node.state.filter.nat_backends == node.state.filter.dnat_backends
    assert desired.problems == {}


def dnat(name: str, last: int, count: int) -> LoadBalancer:
    vips = [f"203.0.113.{last + number}" for number in range(count)]
    return balancer(name, [ONE], addresses=vips, forwarding={"mode": "DNAT"})


def test_a_ninth_dnat_frontend_of_a_backend_is_refused(node: Node) -> None:
    desired = node.run(dnat("first", 10, 5), dnat("second", 20, 4))
    assert len(node.state.vips) == 8
    assert problems(desired, "first") == ()
    (problem,) = problems(desired, "second")
    assert "203.0.113.23" in problem
    assert "limit" in problem


def test_dnat_frontends_that_are_bound_keep_their_place(node: Node) -> None:
    node.run(dnat("second", 20, 4))
    desired = node.run(dnat("first", 10, 5), dnat("second", 20, 4))
    assert problems(desired, "second") == ()
    assert len(problems(desired, "first")) == 1


def test_new_dnat_frontends_come_before_those_that_a_backend_only_drains_for(node: Node) -> None:
    eight = dnat("eight", 10, 8)
    node.run(eight)
    moved = balancer("eight", [TWO], addresses=list(eight.spec.addresses), forwarding={"mode": "DNAT"})
    node.run(moved, dnat("one", 20, 1))
    row = node.state.reverse[Endpoint(ip_address(ONE), Protocol.TCP, 8080)]
    newcomer = node.state.vips[Endpoint(ip_address("203.0.113.20"), Protocol.TCP, 80)]
    assert newcomer in row
    assert len(row) == 8


def test_programs_go_where_vip_traffic_arrives_and_where_replies_come_back(node: Node) -> None:
    desired = node.run(balancer(backends=[ONE]))
    assert {key: each.want_xdp for key, each in desired.attachments.items()} == {ETH0: True, ETH1: True}
    assert desired.attachments[ETH0].because == "it holds a default route"
    assert ONE in desired.attachments[ETH1].because


def test_pods_and_bridges_get_tc_alone(node: Node) -> None:
    net = network({ONE: path(ONE, POD, host_route=True), TWO: path(TWO, BRIDGE)})
    desired = node.run(balancer(), net=net)
    assert {key: each.want_xdp for key, each in desired.attachments.items()} == {ETH0: True, POD: False, BRIDGE: False}
    assert "unfinished checksums" in desired.attachments[POD].tc_only


def test_every_interface_that_is_up_has_a_row_except_the_loopback(node: Node) -> None:
    links = {**LINKS, 6: link(6, "eth6", up=False), 7: link(7, "tun0", kind="tun", ethernet=False, redirect=False)}
    net = replace(network({ONE: path(ONE, 7)}), links=links)
    node.run(balancer(backends=[ONE]), net=net)
    assert node.state.interfaces.keys() == {ETH0, ETH1, POD, BRIDGE, 7}
    assert node.state.interfaces[ETH0].flags == InterfaceFlag.TAKES_REDIRECT
    assert node.state.interfaces[BRIDGE].flags == InterfaceFlag.PARTIAL_CHECKSUMS
    assert InterfaceFlag.L3 in node.state.interfaces[7].flags  # type: ignore[index]


def test_names_tell_what_ids_stand_for(node: Node) -> None:
    desired = node.run(balancer(backends=[ONE]))
    ((backend, key),) = desired.names.backends.items()
    assert key == BackendKey(desired.services[0].key, ip_address(ONE), 8080)
    assert desired.backends[key].id == backend
    assert [str(service.object) for service in desired.names.services.values()] == ["shop/web"]
    assert [str(vip) for _, vip in desired.names.frontends.values()] == ["203.0.113.10:80/TCP"]


def test_a_failed_write_is_repeated_with_the_same_ids(node: Node) -> None:
    desired = node.look(balancer())
    node.reconciler.reconcile(KernelState())
    again = node.look(balancer())
    assert again.state.backends == desired.state.backends
    assert [each for each in node.datapath.applied if isinstance(each, Put) and each.table is Table.BACKENDS] == []
