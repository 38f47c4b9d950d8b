import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
import rtnetlink_bodies as bodies
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.network import rtnetlink
from sluicegate_agent.network.netlink import attribute, attribute_list, attributes, messages
from sluicegate_agent.network.xdp_features import parse_device


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=30)), max_size=8))
def test_attributes_are_read_as_they_were_written(written):
    assert list(attribute_list(b"".join(attribute(kind, payload) for kind, payload in written))) == written


@given(st.binary(max_size=200), st.integers(0, 20))
def test_broken_attributes_end_the_list_without_an_error(body, offset):
    assert sum(4 + len(payload) for _kind, payload in attribute_list(body, offset)) <= len(body)


@given(st.lists(st.tuples(st.integers(16, 120), st.binary(max_size=30)), max_size=5), st.binary(max_size=15))
def test_a_datagram_is_split_into_its_messages_and_broken_rest_is_left(written, rest):
    data = b"".join(
        struct.pack("=IHHII", 16 + len(body), kind, 0, 7, 0) + body + bytes(-len(body) % 4) for kind, body in written
    )
    assert [(found.kind, found.body) for found in messages(data + rest)] == written


def test_flags_of_nesting_and_byte_order_are_no_part_of_the_type():
    assert attributes(struct.pack("=HH", 4, 0x8012)) == {0x12: b""}


def test_a_link_is_told_with_its_kind_and_carrier():
    link = rtnetlink.parse_link(bodies.link(7, "veth1", kind="veth", mtu=1400, mac="0242ac110002"))
    assert link == (7, "veth1", "veth", 1400, bytes.fromhex("0242ac110002"), True, True, False)


def test_a_link_without_carrier_is_not_up():
    assert rtnetlink.parse_link(bodies.link(up=False)).up is False


def test_loopback_is_neither_ethernet_nor_mistaken_for_hardware():
    link = rtnetlink.parse_link(bodies.link(1, "lo", hardware=bodies.LOOPBACK))
    assert (link.ethernet, link.loopback) == (False, True)


def test_what_a_bridge_says_about_its_port_is_no_link():
    assert rtnetlink.parse_link(bodies.link(family=7)) is None


def test_a_wireless_event_without_mtu_is_no_link():
    body = struct.pack("=BxHiII", 0, 1, 3, 0x10001, 0) + bodies.attribute(3, b"wlan0\0")
    assert rtnetlink.parse_link(body) is None


def test_the_own_end_of_a_point_to_point_address_is_taken():
    row = rtnetlink.parse_address(bodies.address("10.0.0.1", peer="10.0.0.2"))
    assert row.address == IPv4Address("10.0.0.1")


@pytest.mark.parametrize(("flags", "usable"), [(0, True), (0x80, True), (0x40, False), (0x08, False), (0x20, False)])
def test_tentative_duplicate_and_deprecated_addresses_are_no_source(flags, usable):
    assert rtnetlink.parse_address(bodies.address("2001:db8::1", flags=flags)).usable is usable


@pytest.mark.parametrize("state", [0x02, 0x04, 0x08, 0x10, 0x40, 0x80])
def test_a_neighbour_has_its_mac_in_every_state_in_which_the_kernel_sends(state):
    assert rtnetlink.parse_neighbour(bodies.neighbour("10.0.0.9", state=state)).mac == bytes.fromhex("0200000000aa")


@pytest.mark.parametrize("state", [0x00, 0x01, 0x20])
def test_an_incomplete_or_failed_neighbour_has_no_mac(state):
    assert rtnetlink.parse_neighbour(bodies.neighbour("10.0.0.9", state=state)).mac is None


@pytest.mark.parametrize(
    "body",
    [
        bodies.neighbour("10.0.0.9", flags=0x08),
        bodies.neighbour("10.0.0.9", family=7),
        bodies.neighbour("224.0.0.22"),
        bodies.neighbour("ff02::1"),
    ],
    ids=["proxy", "bridge", "multicast 4", "multicast 6"],
)
def test_entries_that_no_next_hop_uses_are_no_neighbours(body):
    assert rtnetlink.parse_neighbour(body) is None


def test_an_ipv4_route_may_lead_through_an_ipv6_gateway():
    row = rtnetlink.parse_route(bodies.route("10.9.0.0/16", via="fe80::1"))
    assert (row.version, row.gateway) == (4, IPv6Address("fe80::1"))


def test_all_interfaces_of_a_multipath_route_are_found():
    assert rtnetlink.parse_route(bodies.route("0.0.0.0/0", oif=0, hops=(3, 5))).interfaces == (3, 5)


def test_a_route_tells_prefix_source_mtu_and_a_table_above_255():
    row = rtnetlink.parse_route(bodies.route("10.4.0.0/14", source="10.4.0.1", mtu=1400, table=1001))
    assert (row.destination, row.prefix_length) == (int(IPv4Address("10.4.0.0")), 14)
    assert (row.source, row.mtu, row.table) == (IPv4Address("10.4.0.1"), 1400, 1001)


@pytest.mark.parametrize("version", [4, 6])
def test_forwarding_is_told_for_all_interfaces_only(version):
    assert rtnetlink.parse_forwarding(bodies.forwarding(version, 1)) == (version, True)
    assert rtnetlink.parse_forwarding(bodies.forwarding(version, 1, index=3)) is None


@pytest.mark.parametrize(("features", "takes"), [(35, False), (103, True)])
def test_a_device_takes_redirected_frames_when_it_has_ndo_xmit(features, takes):
    body = bytes([1, 1, 0, 0]) + bodies.attribute(1, bodies.u32(4)) + bodies.attribute(3, struct.pack("=Q", features))
    assert parse_device(body) == (4, takes)
