import asyncio
import contextlib
import ctypes
import logging
import os
import secrets
import subprocess
import threading
from ipaddress import ip_address
from pathlib import Path as File

import pytest

from sluicegate_agent.network import monitor as monitor_module
from sluicegate_agent.network import netlink
from sluicegate_agent.network.model import NoPath, Path
from sluicegate_agent.network.monitor import NetworkMonitor
from sluicegate_agent.network.namespace import enter
from sluicegate_agent.network.netlink import NetlinkError

pytestmark = pytest.mark.kernel

NEAR = ip_address("10.0.0.2")
FAR = ip_address("10.9.0.1")


class Namespace:
    """A network namespace with `eth0` (10.0.0.1/24, fd00::1/64), a veth whose peer `far` stays in it too."""

    def __init__(self, name):
        self.name = name
        self.ip("link set lo up", "link add eth0 type veth peer name far", "link set eth0 up", "link set far up")
        self.ip("addr add 10.0.0.1/24 dev eth0", "addr add fd00::1/64 dev eth0 nodad")

    def ip(self, *commands):
        text = "\n".join(commands)
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input=text, text=True, check=True, timeout=30)

    def run(self, *command):
        subprocess.run(["ip", "netns", "exec", self.name, *command], check=True, timeout=30)

    @contextlib.contextmanager
    def entered(self):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(self.name)
            yield
        finally:
            assert ctypes.CDLL(None).setns(home, 0) == 0
            os.close(home)

    def index(self, name):
        text = subprocess.run(
            ["ip", "-n", self.name, "-o", "link", "show", name], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        return int(text.split(":")[0])


@pytest.fixture
def namespace():
    name = f"sgt-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True, timeout=30)
    try:
        yield Namespace(name)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, timeout=30)


async def until(monitor, condition):
    async with asyncio.timeout(10):
        while not condition(monitor.snapshot):
            await monitor.changed()
    return monitor.snapshot


def watching(namespace, scenario, *addresses):
    """Run a scenario with a monitor of the namespace that has found its way to the addresses."""

    async def body():
        with namespace.entered():
            monitor = NetworkMonitor()
            await monitor.__aenter__()
        try:
            monitor.watch(frozenset(addresses))
            await until(monitor, lambda now: now.paths.keys() == set(addresses))
            return await scenario(monitor)
        finally:
            await monitor.__aexit__()

    return asyncio.run(body())


def test_the_first_snapshot_holds_links_addresses_and_default_interfaces(namespace):
    namespace.ip("route add default via 10.0.0.254")

    async def scenario(monitor):
        return monitor.snapshot

    now = watching(namespace, scenario)
    index = namespace.index("eth0")
    assert now.default_interfaces == {index}
    assert {ip_address("10.0.0.1"), ip_address("fd00::1"), ip_address("127.0.0.1")} <= now.addresses
    link = now.links[index]
    assert (link.name, link.kind, link.mtu, link.up, link.ethernet) == ("eth0", "veth", 1500, True, True)
    assert len(link.mac) == 6


@pytest.mark.parametrize(
    ("route", "address", "gateway", "source", "mtu", "host_route"),
    [
        (None, "10.0.0.2", "10.0.0.2", "10.0.0.1", 1500, False),
        (None, "fd00::2", "fd00::2", "fd00::1", 1500, False),
        ("route add 10.9.0.0/16 via 10.0.0.254 mtu 1400", "10.9.0.1", "10.0.0.254", "10.0.0.1", 1400, False),
        ("route add 10.9.0.0/16 via inet6 fe80::1 dev eth0", "10.9.0.1", "fe80::1", "10.0.0.1", 1500, False),
        ("route add fd09::/64 via fe80::1 dev eth0 mtu 1300", "fd09::1", "fe80::1", "fd00::1", 1300, False),
        ("route add 10.9.0.1/32 dev far", "10.9.0.1", "10.9.0.1", "10.0.0.1", 1500, True),
        ("route add fd09::1/128 dev far", "fd09::1", "fd09::1", "fd00::1", 1500, True),
        ("route add 10.9.0.1/32 via 10.0.0.254", "10.9.0.1", "10.0.0.254", "10.0.0.1", 1500, False),
    ],
)
def test_the_kernels_way_is_found(namespace, route, address, gateway, source, mtu, host_route):
    namespace.ip(*[route] if route else [])

    async def scenario(monitor):
        return monitor.snapshot.paths[ip_address(address)]

    path = watching(namespace, scenario, ip_address(address))
    assert isinstance(path, Path)
    assert (path.gateway, path.source) == (ip_address(gateway), ip_address(source))
    assert (path.mtu, path.host_route, path.onlink) == (mtu, host_route, gateway == address)
    assert path.ifindex == namespace.index("far" if host_route else "eth0")


@pytest.mark.parametrize(
    ("route", "address", "words"),
    [
        (None, "127.0.0.5", "is a loopback address"),
        (None, "::1", "is a loopback address"),
        (None, "10.0.0.255", "broadcast"),
        (None, "10.9.0.1", "no route to 10.9.0.1"),
        (None, "fd09::1", "no route to fd09::1"),
        ("route add 10.9.0.0/16 dev lo", "10.9.0.1", "loopback interface lo"),
        ("route add blackhole 10.9.0.0/16", "10.9.0.1", "blackhole"),
        ("route add blackhole fd09::/64", "fd09::1", "blackhole"),
        ("route add unreachable 10.9.0.0/16", "10.9.0.1", "unreachable"),
        ("route add unreachable fd09::/64", "fd09::1", "unreachable"),
        ("route add prohibit 10.9.0.0/16", "10.9.0.1", "prohibit"),
        ("route add prohibit fd09::/64", "fd09::1", "prohibit"),
    ],
)
def test_an_address_without_a_way_is_told_in_words(namespace, route, address, words):
    namespace.ip(*[route] if route else [])

    async def scenario(monitor):
        return monitor.snapshot.paths[ip_address(address)]

    path = watching(namespace, scenario, ip_address(address))
    assert isinstance(path, NoPath)
    assert words in path.reason


def test_a_neighbour_is_followed_and_only_another_mac_moves_the_generation(namespace, monkeypatch):
    monkeypatch.setattr(monitor_module, "_GONE_SECONDS", 0.2)

    async def scenario(monitor):
        namespace.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:aa dev eth0 nud reachable")
        now = await until(monitor, lambda now: now.paths[NEAR].mac == bytes.fromhex("0200000000aa"))
        namespace.ip("neigh change 10.0.0.2 lladdr 02:00:00:00:00:aa dev eth0 nud stale")
        namespace.ip("neigh add 10.0.0.3 lladdr 02:00:00:00:00:cc dev eth0 nud reachable", "link set far alias seen")
        unmoved = now.hop_generation
        namespace.ip("neigh change 10.0.0.2 lladdr 02:00:00:00:00:bb dev eth0 nud stale")
        now = await until(monitor, lambda now: now.paths[NEAR].mac == bytes.fromhex("0200000000bb"))
        assert now.hop_generation == unmoved + 1
        namespace.ip("neigh del 10.0.0.2 dev eth0")
        now = await until(monitor, lambda now: now.paths[NEAR].mac is None)
        assert now.hop_generation == unmoved + 1
        await until(monitor, lambda now: now.hop_generation == unmoved + 2)

    quiet(namespace)
    watching(namespace, scenario, NEAR)


def quiet(namespace):
    """Stop what the kernel does by itself in IPv6, which would move the generation at its own time."""
    namespace.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1", "net.ipv6.conf.far.disable_ipv6=1")


def test_routes_are_followed(namespace):
    async def scenario(monitor):
        before = monitor.snapshot
        namespace.ip("route add 10.9.0.0/16 via 10.0.0.254")
        now = await until(monitor, lambda now: isinstance(now.paths[FAR], Path))
        assert now.hop_generation != before.hop_generation
        assert now.paths[NEAR] is before.paths[NEAR]
        namespace.ip("route del 10.9.0.0/16")
        await until(monitor, lambda now: isinstance(now.paths[FAR], NoPath))
        namespace.ip("route add default dev far")
        now = await until(monitor, lambda now: now.default_interfaces)
        assert now.default_interfaces == {namespace.index("far")}

    watching(namespace, scenario, NEAR, FAR)


def test_a_policy_rule_is_followed(namespace):
    namespace.ip("route add 10.9.0.0/16 via 10.0.0.254 table 77")

    async def scenario(monitor):
        assert isinstance(monitor.snapshot.paths[FAR], NoPath)
        namespace.ip("rule add to 10.9.0.0/16 table 77")
        await until(monitor, lambda now: isinstance(now.paths[FAR], Path))

    watching(namespace, scenario, FAR)


def test_lost_carrier_takes_the_path_and_its_return_brings_it_back(namespace):
    async def scenario(monitor):
        namespace.ip("link set far down")
        now = await until(monitor, lambda now: isinstance(now.paths[NEAR], NoPath))
        assert now.paths[NEAR].reason == "interface eth0, which leads to 10.0.0.2, is down or has no carrier"
        namespace.ip("link set far up")
        await until(monitor, lambda now: isinstance(now.paths[NEAR], Path))

    watching(namespace, scenario, NEAR)


def test_routes_that_the_kernel_drops_without_a_word_are_noticed(namespace):
    namespace.ip("route add 10.9.0.0/16 dev far", "route add default dev far")

    async def scenario(monitor):
        assert isinstance(monitor.snapshot.paths[FAR], Path)
        namespace.ip("link set far down")
        await until(monitor, lambda now: isinstance(now.paths[FAR], NoPath) and not now.default_interfaces)

    watching(namespace, scenario, FAR)


def test_a_removed_interface_is_gone_from_the_snapshot(namespace):
    async def scenario(monitor):
        namespace.ip("link del eth0")
        now = await until(monitor, lambda now: len(now.links) == 1)
        assert isinstance(now.paths[NEAR], NoPath)
        assert ip_address("10.0.0.1") not in now.addresses

    watching(namespace, scenario, NEAR)


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1"])
def test_an_address_of_the_node_leads_to_its_own_stack(namespace, address):
    async def scenario(monitor):
        return monitor.snapshot.paths[ip_address(address)]

    found = watching(namespace, scenario, ip_address(address))
    assert isinstance(found, Path)
    assert (found.local, found.gateway) == (True, ip_address(address))


def test_an_address_that_becomes_the_nodes_own_leads_to_its_own_stack_from_then_on(namespace):
    async def scenario(monitor):
        namespace.ip("addr add 10.0.0.2/32 dev lo")
        now = await until(monitor, lambda now: isinstance(now.paths[NEAR], Path) and now.paths[NEAR].local)
        assert NEAR in now.addresses

    watching(namespace, scenario, NEAR)


def test_a_link_local_address_becomes_the_source_where_there_is_no_other(namespace):
    namespace.ip("addr flush dev eth0", "addr flush dev far", "route add fd09::/64 dev eth0")
    target = ip_address("fd09::1")

    async def scenario(monitor):
        assert "no IPv6 address" in monitor.snapshot.paths[target].reason
        namespace.ip("addr add fe80::77/64 dev eth0 nodad")
        now = await until(monitor, lambda now: isinstance(now.paths[target], Path))
        assert now.paths[target].source == ip_address("fe80::77")

    watching(namespace, scenario, target)


def test_forwarding_is_followed(namespace):
    async def scenario(monitor):
        assert monitor.snapshot.forwarding == {4: False, 6: False}
        namespace.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        await until(monitor, lambda now: now.forwarding == {4: True, 6: True})

    watching(namespace, scenario)


def test_a_veth_takes_redirected_frames_once_its_peer_has_gro(namespace):
    index = namespace.index("eth0")

    async def scenario(monitor):
        assert not monitor.snapshot.links[index].takes_redirect
        namespace.run("ethtool", "-K", "far", "gro", "on")
        await until(monitor, lambda now: now.links[index].takes_redirect)
        namespace.run("ethtool", "-K", "far", "gro", "off")
        await until(monitor, lambda now: not now.links[index].takes_redirect)

    watching(namespace, scenario)


def test_a_kernel_that_does_not_tell_xdp_features_is_reported_once_and_takes_no_redirects(
    namespace, monkeypatch, caplog
):
    def absent():
        raise NetlinkError(2, "No such file or directory")

    monkeypatch.setattr(monitor_module, "XdpFeatures", absent)
    namespace.run("ethtool", "-K", "far", "gro", "on")

    async def scenario(monitor):
        namespace.ip("link set eth0 mtu 1400")
        now = await until(monitor, lambda now: now.links[namespace.index("eth0")].mtu == 1400)
        assert not any(link.takes_redirect for link in now.links.values())

    with caplog.at_level(logging.WARNING):
        watching(namespace, scenario)
    assert caplog.text.count("does not tell which devices take redirected frames") == 1


def test_after_lost_events_everything_is_read_again(namespace, monkeypatch):
    monkeypatch.setattr(netlink, "_EVENT_BUFFER_BYTES", 4096)  # a handful of events

    async def scenario(monitor):
        generation = monitor.snapshot.hop_generation
        namespace.ip(
            *(f"neigh add 10.0.0.{host} lladdr 02:00:00:00:00:{host:02x} dev eth0" for host in range(50, 250)),
            "neigh add 10.0.0.2 lladdr 02:00:00:00:00:aa dev eth0",
            "route add 10.9.0.0/16 via 10.0.0.2",
            "link set eth0 mtu 1400",
        )
        now = await until(monitor, lambda now: isinstance(now.paths[FAR], Path) and now.paths[FAR].mtu == 1400)
        assert now.paths[NEAR].mac == now.paths[FAR].mac == bytes.fromhex("0200000000aa")
        assert now.hop_generation != generation
        assert len(monitor._tables.neighbours) >= 201

    watching(namespace, scenario, NEAR, FAR)


def test_events_of_other_neighbours_cost_no_lookup(namespace):
    quiet(namespace)

    async def scenario(monitor):
        looked_up = []
        path = monitor._reader.path
        monitor._reader.path = lambda *arguments: looked_up.append(arguments) or path(*arguments)
        for state in ("reachable", "stale", "reachable"):
            namespace.ip(
                *(
                    f"neigh replace 10.0.0.{n} lladdr 02:00:00:00:00:{n:02x} dev eth0 nud {state}"
                    for n in range(50, 250)
                )
            )
        namespace.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:aa dev eth0")
        await until(monitor, lambda now: now.paths[NEAR].mac)
        assert looked_up == []

    watching(namespace, scenario, NEAR)


def test_addresses_no_longer_watched_leave_the_snapshot(namespace):
    async def scenario(monitor):
        monitor.watch(frozenset({FAR}))
        await until(monitor, lambda now: now.paths.keys() == {FAR})

    watching(namespace, scenario, NEAR)


def test_the_monitor_leaves_no_descriptor_behind(namespace):
    async def scenario(monitor):
        pass

    before = len(list(File("/proc/self/fd").iterdir()))
    watching(namespace, scenario, NEAR)
    assert len(list(File("/proc/self/fd").iterdir())) == before


def test_a_thread_that_enters_a_namespace_sees_its_interfaces(namespace):
    seen = []

    def look():
        enter(namespace.name)
        seen.append("far" in File("/proc/thread-self/net/dev").read_text())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [True]
