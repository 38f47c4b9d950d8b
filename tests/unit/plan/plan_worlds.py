"""Networks, load balancers and table states for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from sluicegate_agent.datapath.model import (
    AddressFilter,
    Algorithm,
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    Interface,
    InterfaceFlag,
    InterfaceIndex,
    KernelState,
    Nexthop,
    NexthopId,
    Protocol,
    ServiceId,
    Settings,
    address_hash,
)
from sluicegate_agent.network.model import Link, NetworkSnapshot, NoPath, Path
from sluicegate_agent.planning.builder import DesiredBuilder
from sluicegate_agent.planning.desired import Limits
from sluicegate_agent.planning.plan import free_row
from sluicegate_api.loadbalancer import LoadBalancer

ETH0, ETH1, POD, BRIDGE = (InterfaceIndex(number) for number in (2, 3, 4, 5))
UPLINK = InterfaceIndex(ETH0)


def link(
    ifindex: int, name: str, *, kind: str = "", up: bool = True, ethernet: bool = True, redirect: bool = True
) -> Link:
    mac = bytes([2, 0, 0, 0, 0, ifindex]) if ethernet else b""
    return Link(InterfaceIndex(ifindex), name, kind, 1500, mac, up, ethernet, redirect)


LINKS = {
    each.ifindex: each
    for each in (
        link(1, "lo", ethernet=False, redirect=False),
        link(ETH0, "eth0"),
        link(ETH1, "eth1", kind="veth"),
        link(POD, "pod0", kind="veth"),
        link(BRIDGE, "br0", kind="bridge", redirect=False),
    )
}


def path(address: str, ifindex: int = ETH1, *, mac: bytes | None = b"\x02\0\0\0\1\1", host_route: bool = False) -> Path:
    gateway = ip_address(address)
    source = ip_address("10.0.0.254" if gateway.version == 4 else "fd00::fe")
    return Path(InterfaceIndex(ifindex), gateway, source, 1500, mac, onlink=True, host_route=host_route)


def network(paths: Mapping[str, Path | NoPath] | Sequence[str], **changes: object) -> NetworkSnapshot:
    """A node with its default route on eth0; addresses without a path of their own are on-link on eth1."""
    found = paths if isinstance(paths, Mapping) else {address: path(address) for address in paths}
    snapshot = NetworkSnapshot(
        links=LINKS,
        addresses=frozenset({ip_address("192.0.2.1"), ip_address("10.0.0.254")}),
        default_interfaces=frozenset({UPLINK}),
        paths={ip_address(address): way for address, way in found.items()},
        forwarding={4: True, 6: True},
        hop_generation=1,
    )
    return replace(snapshot, **changes)  # type: ignore[arg-type]


def balancer(
    name: str = "web", backends: Mapping[str, int] | Sequence[str] = ("10.0.0.1", "10.0.0.2"), **spec: object
) -> LoadBalancer:
    """A LoadBalancer; ``backends`` are addresses, with weights if it is a mapping."""
    weights = backends if isinstance(backends, Mapping) else dict.fromkeys(backends, 100)
    return LoadBalancer.model_validate(
        {
            "apiVersion": "sluicegate.io/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "addresses": ["203.0.113.10"],
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                "backends": {"static": [{"address": each, "weight": weight} for each, weight in weights.items()]},
                "algorithm": "RoundRobin",
                **spec,
            },
        }
    )


def builder(**limits: int) -> DesiredBuilder:
    return DesiredBuilder(Limits(**limits), Settings())


def without_free(state: KernelState) -> KernelState:
    """The state as the desired one is written: free backends have no row."""
    in_use = {key: row for key, row in state.backends.items() if row.state is not BackendState.FREE}
    return replace(state, backends=in_use)


SERVICES = [ServiceId(number) for number in range(1, 7)]
MODES = dict(zip(SERVICES, 2 * list(ForwardingMode), strict=True))
"""Two services of each mode; a service never changes its mode."""
INTERFACES = {InterfaceIndex(number): Interface(InterfaceFlag(0), 1500, b"\2\0\0\0\0\1") for number in (1, 2)}
NEXTHOPS = {
    NexthopId(number): Nexthop(
        InterfaceIndex(1 + number % 2), ip_address(f"10.0.1.{number}"), 1500, b"s" * 6, None, xdp=False
    )
    for number in (1, 2, 3)
}
VIPS = [Endpoint(ip_address(f"203.0.113.{number}"), Protocol.TCP, 80) for number in (1, 2, 3)]
FRONTENDS = {
    FrontendId(index * len(ForwardingMode) + mode): (vip, mode)
    for index, vip in enumerate(VIPS)
    for mode in ForwardingMode
}
MEMBERS = {
    BackendId(number): (SERVICES[number % 6], Endpoint(ip_address(f"10.0.0.{number}"), Protocol.TCP, 80))
    for number in range(1, 10)
}
NETWORKS = [ip_network(each) for each in ("198.51.100.0/24", "192.0.2.0/24", "2001:db8::/32")]
IN_USE = [BackendState.ACTIVE, BackendState.DRAINING, BackendState.DOWN]


@st.composite
def kernel_states(draw: st.DrawFn, before: KernelState | None = None) -> KernelState:
    """Any state in which every rule holds; ids in use mean the same as in ``before``."""
    previous = before.backends if before else {}
    interfaces = draw(st.dictionaries(st.sampled_from(list(INTERFACES)), st.integers(1280, 9000)))
    nexthops = {key: row for key, row in NEXTHOPS.items() if row.ifindex in interfaces and draw(st.booleans())}
    backends: dict[BackendId, Backend] = {}
    for identity, (service, endpoint) in MEMBERS.items():
        hop = draw(st.sampled_from([NexthopId(0), *nexthops]))
        state = draw(st.sampled_from([None, *(IN_USE if hop else IN_USE[1:])]))
        old = previous.get(identity)
        generation = draw(st.integers(1, 5)) if old is None else old.generation + (old.state is BackendState.FREE)
        if state is not None:
            source = ip_address("10.0.0.254") if MODES[service] is ForwardingMode.FULL_NAT else None
            backends[identity] = Backend(service, endpoint, source, hop, state, generation)
        elif before is None and draw(st.booleans()):
            backends[identity] = free_row(generation)
    slots = {}
    for service in draw(st.sets(st.sampled_from(SERVICES))):
        usable = [key for key, row in backends.items() if row.state is BackendState.ACTIVE and row.service == service]
        slots[service] = tuple(draw(st.lists(st.sampled_from(usable), max_size=6))) if usable else ()
    sources = draw(st.dictionaries(st.sampled_from(SERVICES), st.frozensets(st.sampled_from(NETWORKS))))
    frontends = {}
    for key, (vip, mode) in FRONTENDS.items():
        services = sorted(service for service in slots if MODES[service] is mode)
        if services and draw(st.booleans()):
            service = draw(st.sampled_from(services))
            algorithm = draw(st.sampled_from(Algorithm))
            affinity, rate = draw(st.sampled_from([0.0, 60.0])), draw(st.sampled_from([0, 100]))
            restricted = service in sources and draw(st.booleans())
            size = len(slots[service])
            frontends[key] = Frontend(vip, service, size, algorithm, mode, 60.0, affinity, rate, restricted)
    vips = {row.endpoint: key for key, row in frontends.items() if draw(st.booleans())}
    reverse = {}
    for _, endpoint in MEMBERS.values():
        if frontends and draw(st.booleans()):
            some = st.lists(st.sampled_from(sorted(frontends)), min_size=1, max_size=8, unique=True)
            reverse[endpoint] = tuple(draw(some))
    live = [row for row in backends.values() if row.state is not BackendState.FREE and row.endpoint]
    answering = {service for service, mode in MODES.items() if mode is ForwardingMode.DNAT}
    extra = draw(st.frozensets(st.integers(0, 9), max_size=2))
    bits = AddressFilter(
        extra | {address_hash(vip.address) for vip in vips},
        extra | {address_hash(row.endpoint.address) for row in live if row.endpoint and row.source},
        extra | {address_hash(row.endpoint.address) for row in live if row.endpoint and row.service in answering},
    )
    return KernelState(
        settings=Settings(hop_generation=draw(st.integers(0, 3))),
        interfaces={key: replace(INTERFACES[key], mtu=mtu) for key, mtu in interfaces.items()},
        nexthops=nexthops,
        backends=backends,
        slots=slots,
        frontends=frontends,
        vips=vips,
        reverse=reverse,
        sources=sources,
        filter=bits,
    )
