import errno
from ipaddress import ip_address

import pytest
import rtnetlink_bodies as bodies

from sluicegate_agent.network.model import NoPath, Path
from sluicegate_agent.network.netlink import Message
from sluicegate_agent.network.resolve import resolve, unroutable
from sluicegate_agent.network.rtnetlink import Kind, parse_route
from sluicegate_agent.network.tables import Tables, Work

MAC = bytes.fromhex("0200000000aa")


def tables(*events):
    links = (
        (Kind.NEW_LINK, bodies.link(1, "lo", hardware=bodies.LOOPBACK, mtu=65536)),
        (Kind.NEW_LINK, bodies.link(2, "eth0")),
        (Kind.NEW_LINK, bodies.link(3, "eth1", up=False)),
    )
    found = Tables()
    for kind, body in (*links, *events):
        found.apply(Message(kind, 0, 0, body), Work())
    return found


def path(address, *, entry=None, known=None, **answer):
    width = 32 if ip_address(address).version == 4 else 128
    found = parse_route(bodies.route(f"{address}/{width}", **answer))
    return resolve(ip_address(address), found, parse_route(entry) if entry else found, known or tables())


def test_an_on_link_address_is_its_own_gateway():
    known = tables((Kind.NEW_NEIGHBOUR, bodies.neighbour("10.0.0.9")))
    found = path("10.0.0.9", source="10.0.0.1", entry=bodies.route("10.0.0.0/24"), known=known)
    address = ip_address("10.0.0.9")
    assert found == Path(2, address, ip_address("10.0.0.1"), 1500, MAC, onlink=True, host_route=False)


@pytest.mark.parametrize(
    ("address", "gateway"),
    [
        ("10.9.0.1", {"gateway": "10.0.0.254"}),
        ("10.9.0.1", {"via": "fe80::1"}),
        ("2001:db8::9", {"gateway": "fe80::1"}),
    ],
    ids=["IPv4", "IPv4 over IPv6", "IPv6 link-local"],
)
def test_the_neighbour_behind_a_gateway_is_the_gateway_on_that_interface(address, gateway):
    text = next(iter(gateway.values()))
    known = tables(
        (Kind.NEW_NEIGHBOUR, bodies.neighbour(text)),
        (Kind.NEW_NEIGHBOUR, bodies.neighbour(text, mac="0200000000bb", index=3)),
        (Kind.NEW_NEIGHBOUR, bodies.neighbour(address, mac="0200000000cc")),
    )
    found = path(address, source=address, known=known, **gateway)
    assert (found.gateway, found.mac, found.onlink, found.host_route) == (ip_address(text), MAC, False, False)


def test_an_unresolved_neighbour_leaves_the_path_without_a_mac():
    assert path("10.0.0.9", source="10.0.0.1").mac is None


@pytest.mark.parametrize(("address", "prefix"), [("10.5.0.1", "10.5.0.1/32"), ("fd00::1", "fd00::1/128")])
def test_a_route_to_one_address_without_a_gateway_is_a_host_route(address, prefix):
    assert path(address, source=address, entry=bodies.route(prefix)).host_route


@pytest.mark.parametrize(("route_mtu", "expected"), [(1400, 1400), (9000, 1500), (None, 1500)])
def test_the_mtu_is_the_smaller_of_route_and_interface(route_mtu, expected):
    entry = bodies.route("10.0.0.0/24", mtu=route_mtu)
    assert path("10.0.0.9", source="10.0.0.1", entry=entry).mtu == expected


def test_an_mtu_learned_for_a_while_is_not_the_paths():
    assert path("10.0.0.9", source="10.0.0.1", mtu=1280, entry=bodies.route("10.0.0.0/24")).mtu == 1500


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([bodies.address("10.0.0.1"), bodies.address("10.0.0.2")], "10.0.0.1"),
        ([bodies.address("169.254.0.1", scope=253), bodies.address("10.0.0.2")], "10.0.0.2"),
        ([bodies.address("10.7.0.1", index=3), bodies.address("10.0.0.2")], "10.0.0.2"),
        ([bodies.address("127.0.0.1", index=1), bodies.address("10.7.0.1", index=3)], "10.7.0.1"),
    ],
    ids=["first of the interface", "widest scope", "own interface before others", "borrowed, never loopback"],
)
def test_without_a_preferred_source_an_own_address_is_chosen(addresses, expected):
    known = tables(*((Kind.NEW_ADDRESS, body) for body in addresses))
    assert path("10.0.0.9", known=known).source == ip_address(expected)


def test_the_loopback_address_that_the_kernel_names_for_want_of_another_is_no_source():
    assert "no IPv6 address" in path("fd00::9", source="::1").reason


def test_a_tentative_address_is_no_source():
    known = tables(
        (Kind.NEW_ADDRESS, bodies.address("fd00::1", flags=0x40)),
        (Kind.NEW_ADDRESS, bodies.address("fe80::1", scope=253)),
    )
    assert path("fd00::9", known=known).source == ip_address("fe80::1")


def test_no_own_address_of_the_family_is_told_with_the_interface():
    known = tables((Kind.NEW_ADDRESS, bodies.address("fd00::1")))
    assert path("10.0.0.9", known=known) == NoPath(
        "this node has no IPv4 address to reach 10.0.0.9 from; add one to interface eth0"
    )


def test_an_address_of_the_node_leads_to_its_own_stack():
    found = path("10.0.0.9", source="10.0.0.9", kind=2, oif=1)
    assert isinstance(found, Path)
    assert (found.local, found.gateway, found.host_route) == (True, ip_address("10.0.0.9"), False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"kind": 1, "oif": 1}, "loopback interface lo, which leads nowhere"),
        ({"kind": 1, "oif": 3}, "interface eth1, which leads to 10.0.0.9, is down or has no carrier"),
        ({"kind": 1, "oif": 9}, "index 9"),
        ({"kind": 1, "oif": 0}, "has no interface"),
        ({"kind": 3}, "broadcast"),
        ({"kind": 5}, "multicast"),
        ({"kind": 4}, "anycast"),
        ({"kind": 6}, "blackhole"),
        ({"kind": 7}, "unreachable"),
        ({"kind": 8}, "prohibit"),
        ({"kind": 9}, "no route to 10.0.0.9"),
        ({"kind": 11}, "no route to 10.0.0.9"),
    ],
)
def test_an_address_that_cannot_be_a_backend_is_refused_in_words(answer, words):
    found = path("10.0.0.9", source="10.0.0.1", **answer)
    assert isinstance(found, NoPath)
    assert words in found.reason
    assert "10.0.0.9" in found.reason


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENETUNREACH, "no route to 10.0.0.9; add a route"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.EINVAL, "blackhole"),
        (errno.EACCES, "prohibit"),
        (errno.EAFNOSUPPORT, "does not speak IPv4"),
        (errno.ETIMEDOUT, "failed: Connection timed out"),
    ],
)
def test_a_failed_lookup_is_told_in_words(code, words):
    assert words in unroutable(ip_address("10.0.0.9"), code).reason
