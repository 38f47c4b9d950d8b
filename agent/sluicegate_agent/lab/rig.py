"""The lab's network: a client, a balancer and backends, each a namespace of its own.

::

    client 10.76.0.2 ── 10.76.0.1 balancer 10.77.1.1 ── 10.77.1.2 backend 1
         fd76:0::2     fd76:0::1            fd77:1::1    fd77:1::2
                                            10.77.2.1 ── 10.77.2.2 backend 2 …

The client reaches everything through the balancer, the VIPs included; the backends' default route is the balancer.
With ``behind_router`` each backend sits one more hop away, at 10.78.i.2 and fd78:i::2; with ``client_behind_router``
the client does, at 10.75.0.2 and fd75:0::2. With ``shared_segment`` client, balancer and backends share one wire
(10.76.0.0/24, fd76:0::/64; backend i at .1i): the balancer has one interface.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from sluicegate_agent.lab.namespace import Namespace

VIP4 = IPv4Address("203.0.113.10")
VIP6 = IPv6Address("2001:db8::10")

# Duplicate address detection would keep IPv6 addresses unusable for the first second.
_HOST_SYSCTLS = ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
_ROUTER_SYSCTLS = (*_HOST_SYSCTLS, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")

_CLIENT_NET, _NEAR_NET, _BACKEND_NET, _FAR_BACKEND_NET = 75, 76, 77, 78


@dataclass(frozen=True, slots=True)
class Mtus:
    """Largest packets of each kind of link, in bytes; edges are the links beyond routers."""

    client_edge: int = 1500
    client_link: int = 1500
    backend_link: int = 1500
    backend_edge: int = 1500


@dataclass(frozen=True, slots=True)
class RigOptions:
    """What a scenario wants of the network.

    ``receivers_gro``: the interfaces facing the balancer receive with GRO, which is what makes veth take frames that
    XDP redirects. ``tx_checksum``: senders leave checksums to the device, as veth does by default. ``promised_mss``:
    client and backends announce to TCP that they take segments of so many bytes, whatever their links take; 0: what
    fits their links.
    """

    backends: int = 3
    receivers_gro: bool = True
    tx_checksum: bool = False
    behind_router: bool = False
    client_behind_router: bool = False
    shared_segment: bool = False
    mtus: Mtus = Mtus()
    promised_mss: int = 0


@dataclass(frozen=True, slots=True)
class BackendHost:
    """One backend's namespace and addresses; ``port`` is the balancer's interface towards it."""

    index: int
    namespace: Namespace
    address4: IPv4Address
    address6: IPv6Address
    port: str

    @property
    def name(self) -> str:
        """What its server answers with."""
        return f"backend-{self.index}"

    def hold_vips(self) -> None:
        """Take packets to the VIPs without telling any neighbour, as direct return asks of a backend."""
        self.namespace.sysctl(["net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"])
        self.namespace.ip([f"address add {VIP4}/32 dev lo", f"address add {VIP6}/128 dev lo"])


@dataclass(frozen=True, slots=True)
class Rig:
    """A built network; :func:`rig` makes and removes it. ``client_port``: the balancer's interface to the client."""

    client: Namespace
    client4: IPv4Address
    client6: IPv6Address
    balancer: Namespace
    backends: tuple[BackendHost, ...]
    client_port: str


@contextmanager
def rig(options: RigOptions | None = None, *, prefix: str = "sgt") -> Iterator[Rig]:
    """Build a network and remove it at the end, whatever happened in between."""
    options = options or RigOptions()
    stem = f"{prefix}-{os.getpid()}-{secrets.token_hex(2)}"
    with ExitStack() as stack:

        def namespace(role: str, sysctls: tuple[str, ...] = _HOST_SYSCTLS) -> Namespace:
            made = Namespace(f"{stem}-{role}")
            stack.callback(made.delete)
            made.create()
            made.sysctl(sysctls)
            return made

        def router(role: str) -> Namespace:
            return namespace(role, _ROUTER_SYSCTLS)

        client, balancer = namespace("client"), router("lb")
        hosts = [namespace(f"b{index}") for index in range(1, options.backends + 1)]
        if options.shared_segment:
            yield _shared_segment(client, balancer, namespace("wire"), hosts, options)
            return
        client4, client6 = _connect_client(
            client, balancer, router("rc") if options.client_behind_router else None, options
        )
        backends = tuple(
            _connect_backend(index, host, balancer, router(f"r{index}") if options.behind_router else None, options)
            for index, host in enumerate(hosts, start=1)
        )
        yield Rig(client, client4, client6, balancer, backends, "client")


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a cable: address ``number`` in 10.net.subnet.0/24 and fdnet:subnet::/64; 0 for none."""

    namespace: Namespace
    interface: str
    net: int = 0
    subnet: int = 0
    number: int = 0

    def up(self, mtu: int) -> list[str]:
        """Lines of ip(8) that configure it."""
        lines = [f"link set {self.interface} mtu {mtu}"]
        if self.number:
            lines += [
                f"address add {_address4(self.net, self.subnet, self.number)}/24 dev {self.interface}",
                f"address add {_address6(self.net, self.subnet, self.number)}/64 dev {self.interface}",
            ]
        return [*lines, f"link set {self.interface} up"]


def _address4(net: int, subnet: int, number: int) -> IPv4Address:
    return IPv4Address(f"10.{net}.{subnet}.{number}")


def _address6(net: int, subnet: int, number: int) -> IPv6Address:
    return IPv6Address(f"fd{net}:{subnet}::{number}")


def _cable(near: _End, far: _End, mtu: int, options: RigOptions) -> None:
    """Connect two namespaces by a veth pair; ``far`` is the end that may have to take redirected frames."""
    near.namespace.ip([f"link add {near.interface} type veth peer name {far.interface} netns {far.namespace.name}"])
    near.namespace.ip(near.up(mtu))
    far.namespace.ip(far.up(mtu))
    far.namespace.ethtool(far.interface, gro=options.receivers_gro, tx=options.tx_checksum)


def _default_route(host: Namespace, net: int, subnet: int, mss: int = 0) -> None:
    """Send everything to the address 1 of the host's own subnet; promise TCP segments of ``mss`` bytes, if any."""
    promise = f" advmss {mss}" if mss else ""
    host.ip([f"route add default via {gateway(net, subnet, 1)}{promise}" for gateway in (_address4, _address6)])
    if mss:
        host.ip([f"route change 10.{net}.{subnet}.0/24 dev eth0 proto kernel scope link{promise}"])
        host.ip([f"route change fd{net}:{subnet}::/64 dev eth0 proto kernel metric 256{promise}"])


def _connect_client(
    client: Namespace, balancer: Namespace, router: Namespace | None, options: RigOptions
) -> tuple[IPv4Address, IPv6Address]:
    """Connect the client to the balancer, over a router if there is one; gives the client's addresses."""
    near = _End(balancer, "client", _NEAR_NET, 0, 1)
    if router is None:
        net = _NEAR_NET
        _cable(near, _End(client, "eth0", net, 0, 2), options.mtus.client_link, options)
    else:
        net = _CLIENT_NET
        _cable(near, _End(router, "eth0", _NEAR_NET, 0, 2), options.mtus.client_link, options)
        _default_route(router, _NEAR_NET, 0)
        balancer.ip(
            [f"route add 10.{net}.0.0/24 via 10.{_NEAR_NET}.0.2", f"route add fd{net}::/64 via fd{_NEAR_NET}::2"]
        )
        _cable(_End(router, "edge", net, 0, 1), _End(client, "eth0", net, 0, 2), options.mtus.client_edge, options)
    _default_route(client, net, 0, options.promised_mss)
    return _address4(net, 0, 2), _address6(net, 0, 2)


def _connect_backend(
    index: int, host: Namespace, balancer: Namespace, router: Namespace | None, options: RigOptions
) -> BackendHost:
    """Connect a backend to the balancer, over a router if there is one."""
    near, mtu, net = _End(balancer, f"b{index}", _BACKEND_NET, index, 1), options.mtus.backend_link, _BACKEND_NET
    if router is not None:
        _cable(near, _End(router, "eth0", net, index, 2), mtu, options)
        _default_route(router, net, index)
        routes = [(f"10.{_FAR_BACKEND_NET}.{index}.0/24", _address4), (f"fd{_FAR_BACKEND_NET}:{index}::/64", _address6)]
        balancer.ip([f"route add {network} via {gateway(net, index, 2)}" for network, gateway in routes])
        near, mtu, net = _End(router, "edge", _FAR_BACKEND_NET, index, 1), options.mtus.backend_edge, _FAR_BACKEND_NET
    _cable(near, _End(host, "eth0", net, index, 2), mtu, options)
    _default_route(host, net, index, options.promised_mss)
    return BackendHost(index, host, _address4(net, index, 2), _address6(net, index, 2), f"b{index}")


def _shared_segment(
    client: Namespace, balancer: Namespace, wire: Namespace, hosts: list[Namespace], options: RigOptions
) -> Rig:
    """One Ethernet segment for everybody: a bridge in a namespace of its own."""
    wire.ip(["link add wire type bridge", "link set wire up"])
    members = [(client, 2), (balancer, 1), *((host, 10 + index) for index, host in enumerate(hosts, start=1))]
    for host, number in members:
        port = f"p{number}"
        _cable(_End(wire, port), _End(host, "eth0", _NEAR_NET, 0, number), options.mtus.client_link, options)
        wire.ip([f"link set {port} master wire"])
        wire.ethtool(port, gro=options.receivers_gro, tx=options.tx_checksum)
    _default_route(client, _NEAR_NET, 0)
    backends = tuple(
        BackendHost(index, host, _address4(_NEAR_NET, 0, 10 + index), _address6(_NEAR_NET, 0, 10 + index), "eth0")
        for index, host in enumerate(hosts, start=1)
    )
    return Rig(client, _address4(_NEAR_NET, 0, 2), _address6(_NEAR_NET, 0, 2), balancer, backends, "eth0")
