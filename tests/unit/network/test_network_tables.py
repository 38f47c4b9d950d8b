from ipaddress import ip_address, ip_network

import pytest
import rtnetlink_bodies as bodies
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.network.netlink import Message
from sluicegate_agent.network.rtnetlink import Kind
from sluicegate_agent.network.tables import Prefix, Tables, Work

ETH0 = bodies.link(2, "eth0")


def event(kind, body):
    return Message(kind, 0, 0, body)


def work_of(tables, *events):
    work = Work()
    for kind, body in events:
        tables.apply(event(kind, body), work)
    return work


def tables_with(*events):
    tables = Tables()
    work_of(tables, (Kind.NEW_LINK, ETH0), *events)
    return tables


def test_a_neighbour_that_only_turns_stale_causes_no_work():
    tables = tables_with((Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9")))
    assert work_of(tables, (Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9", state=bodies.STALE))) == Work()


def test_a_new_neighbour_names_its_hop_and_voids_no_cached_hop():
    work = work_of(tables_with(), (Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9")))
    assert work == Work(hops={(2, ip_address("10.0.0.9").packed)})


def test_another_mac_voids_cached_hops_at_once():
    tables = tables_with((Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9")))
    work = work_of(tables, (Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9", mac="0200000000bb")))
    assert work == Work(hops={(2, ip_address("10.0.0.9").packed)}, moved=True)


@pytest.mark.parametrize(
    "leave",
    [
        (Kind.DEL_NEIGHBOUR, bodies.neighbour("10.0.0.9")),
        (Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9", mac="", state=bodies.FAILED)),
    ],
    ids=["deleted", "failed"],
)
def test_a_vanished_neighbour_voids_cached_hops_before_long(leave):
    tables = tables_with((Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9")))
    assert work_of(tables, leave) == Work(hops={(2, ip_address("10.0.0.9").packed)}, gone=True)
    assert tables.neighbours == {}


def test_neighbours_of_loopback_are_nobodys_hop():
    tables = tables_with((Kind.NEW_LINK, bodies.link(1, "lo", hardware=bodies.LOOPBACK)))
    assert work_of(tables, (Kind.NEW_NEIGHBOUR, bodies.neighbour("127.0.0.1", index=1))) == Work()


def test_the_same_link_again_causes_no_work():
    assert work_of(tables_with(), (Kind.NEW_LINK, ETH0)) == Work()


def test_a_new_link_that_is_down_changes_no_path():
    assert work_of(tables_with(), (Kind.NEW_LINK, bodies.link(3, "veth0", up=False))) == Work(publish=True)


@pytest.mark.parametrize(
    "change",
    [
        (Kind.NEW_LINK, bodies.link(2, "eth0", up=False)),
        (Kind.NEW_LINK, bodies.link(2, "eth0", mtu=9000)),
        (Kind.NEW_LINK, bodies.link(2, "eth0", mac="0200000000ff")),
        (Kind.DEL_LINK, ETH0),
    ],
    ids=["carrier lost", "mtu", "mac", "deleted"],
)
def test_a_changed_link_in_use_has_everything_looked_up_again(change):
    assert work_of(tables_with(), change) == Work(publish=True, lookups=True, defaults=True, moved=True)


def test_a_port_that_leaves_its_bridge_is_still_there():
    tables = tables_with()
    assert work_of(tables, (Kind.DEL_LINK, bodies.link(2, "eth0", family=7))) == Work()
    assert 2 in tables.links


def test_a_new_or_removed_address_has_everything_looked_up_again_and_a_renewed_one_nothing():
    tables = tables_with()
    changed = Work(publish=True, lookups=True, defaults=True)
    assert work_of(tables, (Kind.NEW_ADDRESS, bodies.address("10.0.0.1"))) == changed
    assert work_of(tables, (Kind.NEW_ADDRESS, bodies.address("10.0.0.1"))) == Work()
    assert work_of(tables, (Kind.DEL_ADDRESS, bodies.address("10.0.0.1"))) == changed
    assert tables.addresses == {}


def test_a_link_local_address_concerns_its_own_interface_only():
    work = work_of(tables_with(), (Kind.NEW_ADDRESS, bodies.address("fe80::1", scope=253)))
    assert work == Work(publish=True, interfaces={2})


def test_the_removal_of_an_unknown_thing_causes_no_work():
    removals = (
        (Kind.DEL_ADDRESS, bodies.address("10.0.0.1")),
        (Kind.DEL_NEIGHBOUR, bodies.neighbour("10.0.0.1")),
    )
    assert work_of(tables_with(), *removals) == Work()


def test_a_route_concerns_the_addresses_inside_it():
    work = work_of(tables_with(), (Kind.NEW_ROUTE, bodies.route("10.4.0.0/14")))
    assert work == Work(prefixes={Prefix(4, int(ip_address("10.4.0.0")), 14)}, moved=True)


def test_a_default_route_has_the_default_interfaces_found_again():
    assert work_of(tables_with(), (Kind.DEL_ROUTE, bodies.route("::/0"))).defaults


def test_a_cached_copy_of_a_route_causes_no_work():
    assert work_of(tables_with(), (Kind.NEW_ROUTE, bodies.route("2001:db8::1/128", flags=0x200))) == Work()


def test_many_routes_at_once_have_everything_looked_up_again():
    work = work_of(tables_with(), *((Kind.NEW_ROUTE, bodies.route(f"10.{n}.0.0/16")) for n in range(100)))
    assert work.lookups
    assert len(work.prefixes) < 100


@pytest.mark.parametrize("kind", [Kind.NEW_RULE, Kind.DEL_RULE, Kind.NEW_NEXTHOP, Kind.DEL_NEXTHOP])
def test_a_changed_rule_or_next_hop_object_has_everything_looked_up_again(kind):
    assert work_of(tables_with(), (kind, b"")) == Work(lookups=True, moved=True, defaults=True)


def test_forwarding_is_followed():
    tables = tables_with()
    assert work_of(tables, (Kind.NEW_NETCONF, bodies.forwarding(6, 1))) == Work(publish=True)
    assert work_of(tables, (Kind.NEW_NETCONF, bodies.forwarding(6, 1))) == Work()
    assert tables.forwarding == {6: True}


def test_a_device_that_begins_to_take_redirected_frames_is_published():
    tables, work = tables_with(), Work()
    tables.set_redirect(2, False, work)
    assert work == Work()
    tables.set_redirect(2, True, work)
    assert work == Work(publish=True, moved=True)
    assert tables.link(tables.links[2]).takes_redirect


def test_a_new_interface_under_an_old_index_inherits_nothing():
    tables = tables_with()
    tables.set_redirect(2, True, Work())
    work_of(tables, (Kind.DEL_LINK, ETH0), (Kind.NEW_LINK, ETH0))
    assert not tables.link(tables.links[2]).takes_redirect


networks = st.one_of(
    st.builds(lambda n, length: ip_network((n, length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(
        lambda n, length: ip_network((n << 96, length), strict=False),
        st.integers(2**31, 2**32 - 1),
        st.integers(0, 128),
    ),
)


@given(networks, st.data())
def test_a_prefix_holds_exactly_the_addresses_of_its_network(network, data):
    inside = network[data.draw(st.integers(0, network.num_addresses - 1))]
    anywhere = ip_address(data.draw(st.integers(0, 2**32 - 1)))
    prefix = Prefix(network.version, int(network.network_address), network.prefixlen)
    assert prefix.holds(inside)
    assert prefix.holds(anywhere) == (anywhere in network)


MACS = ["0200000000aa", "0200000000bb", ""]
neighbour_events = st.tuples(
    st.sampled_from([Kind.NEW_NEIGHBOUR, Kind.DEL_NEIGHBOUR]),
    st.builds(
        bodies.neighbour,
        st.sampled_from(["10.0.0.8", "10.0.0.9", "fe80::9"]),
        st.sampled_from(MACS),
        st.sampled_from([2, 3]),
        state=st.sampled_from([0x01, 0x02, 0x04, 0x20]),
    ),
)


@given(st.lists(neighbour_events, max_size=30))
def test_hops_are_named_whenever_their_mac_differs_and_only_then(events):
    tables = tables_with()
    for one in events:
        before = dict(tables.neighbours)
        work = work_of(tables, one)
        differing = {
            hop for hop in before.keys() | tables.neighbours.keys() if before.get(hop) != tables.neighbours.get(hop)
        }
        assert work.hops == differing
        assert work.gone == any(hop not in tables.neighbours for hop in differing)
        assert work.moved == any(hop in before and hop in tables.neighbours for hop in differing)
