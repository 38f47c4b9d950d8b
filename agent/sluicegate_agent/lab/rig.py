"""The lab's network: a client, a balancer and backends, each a namespace of its own.

::

    client 10.76.0.2 ── 10.76.0.1 balancer 10.77.1.1 ── 10.77.1.2 backend 1
         fd76:0::2     fd76:0::1            fd77:1::1    fd77:1::2
                                            10.77.2.1 ── 10.77.2.2 backend 2 …

The client reaches everything through the balancer, the VIPs included; the backends' default route is the balancer.
With ``behind_router`` each backend sits one more hop away, at 10.78.i.2 and fd78:i::2. With ``shared_segment`` client,
balancer and backends share one wire (10.76.0.0/24, fd76:0::/64; backend i at .1i): the balancer has one interface.
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
CLIENT4 = IPv4Address("10.76.0.2")
CLIENT6 = IPv6Address("fd76:0::2")

# Duplicate address detection would keep IPv6 addresses unusable for the first second.
_HOST_SYSCTLS = ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
_ROUTER_SYSCTLS = (*_HOST_SYSCTLS, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


@dataclass(frozen=True, slots=True)
class RigOptions:
    """What a scenario wants of the network.

    ``receivers_gro``: the interfaces facing the balancer receive with GRO, which is what makes veth take frames that
    XDP redirects. ``tx_checksum``: senders leave checksums to the device, as veth does by default.
    """

    backends: int = 3
    receivers_gro: bool = True
    tx_checksum: bool = False
    behind_router: bool = False
    shared_segment: bool = False


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


@dataclass(frozen=True, slots=True)
class Rig:
    """A built network; :func:`rig` makes and removes it."""

    client: Namespace
    balancer: Namespace
    backends: tuple[BackendHost, ...]
    client_port: str
    """The balancer's interface towards the client."""


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

        client = namespace("client")
        balancer = namespace("lb", _ROUTER_SYSCTLS)
        hosts = [namespace(f"b{index}") for index in range(1, options.backends + 1)]
        if options.shared_segment:
            yield _shared_segment(client, balancer, namespace("wire"), hosts, options)
            return
        _cable(_End(balancer, "client", 76, 0, 1), _End(client, "eth0", 76, 0, 2), options)
        _default_route(client, 76, 0)
        backends = []
        for index, host in enumerate(hosts, start=1):
            net, gateway = 77, _End(balancer, f"b{index}", 77, index, 1)
            if options.behind_router:
                router = namespace(f"r{index}", _ROUTER_SYSCTLS)
                _cable(gateway, _End(router, "eth0", 77, index, 2), options)
                _default_route(router, 77, index)
                balancer.ip(
                    [
                        f"route add 10.78.{index}.0/24 via 10.77.{index}.2",
                        f"route add fd78:{index}::/64 via fd77:{index}::2",
                    ]
                )
                net, gateway = 78, _End(router, "backend", 78, index, 1)
            _cable(gateway, _End(host, "eth0", net, index, 2), options)
            _default_route(host, net, index)
            addresses = IPv4Address(f"10.{net}.{index}.2"), IPv6Address(f"fd{net}:{index}::2")
            backends.append(BackendHost(index, host, *addresses, f"b{index}"))
        yield Rig(client, balancer, tuple(backends), "client")


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a cable: address ``number`` in 10.net.subnet.0/24 and fdnet:subnet::/64; 0 for none."""

    namespace: Namespace
    interface: str
    net: int = 0
    subnet: int = 0
    number: int = 0

    def up(self) -> list[str]:
        """Lines of ip(8) that configure it."""
        lines = []
        if self.number:
            lines += [
                f"address add 10.{self.net}.{self.subnet}.{self.number}/24 dev {self.interface}",
                f"address add fd{self.net}:{self.subnet}::{self.number}/64 dev {self.interface}",
            ]
        return [*lines, f"link set {self.interface} up"]


def _cable(near: _End, far: _End, options: RigOptions) -> None:
    """Connect two namespaces by a veth pair; ``far`` is the end that may have to take redirected frames."""
    near.namespace.ip([f"link add {near.interface} type veth peer name {far.interface} netns {far.namespace.name}"])
    near.namespace.ip(near.up())
    far.namespace.ip(far.up())
    far.namespace.ethtool(far.interface, gro=options.receivers_gro, tx=options.tx_checksum)


def _default_route(host: Namespace, net: int, subnet: int) -> None:
    """Send everything to the address 1 of the host's own subnet."""
    host.ip([f"route add default via 10.{net}.{subnet}.1", f"route add default via fd{net}:{subnet}::1"])


def _shared_segment(
    client: Namespace, balancer: Namespace, wire: Namespace, hosts: list[Namespace], options: RigOptions
) -> Rig:
    """One Ethernet segment for everybody: a bridge in a namespace of its own."""
    wire.ip(["link add wire type bridge", "link set wire up"])
    members = [(client, 2), (balancer, 1), *((host, 10 + index) for index, host in enumerate(hosts, start=1))]
    for host, number in members:
        port = f"p{number}"
        _cable(_End(wire, port), _End(host, "eth0", 76, 0, number), options)
        wire.ip([f"link set {port} master wire"])
        wire.ethtool(port, gro=options.receivers_gro, tx=options.tx_checksum)
    _default_route(client, 76, 0)
    backends = tuple(
        BackendHost(index, host, IPv4Address(f"10.76.0.{10 + index}"), IPv6Address(f"fd76:0::{10 + index}"), "eth0")
        for index, host in enumerate(hosts, start=1)
    )
    return Rig(client, balancer, backends, "eth0")
