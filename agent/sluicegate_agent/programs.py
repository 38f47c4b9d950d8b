"""Which set of kernel programs the configuration needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sluicegate_agent.datapath.model import Settings
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import LoadRequest, bpf_sources
from sluicegate_agent.planning.desired import Limits
from sluicegate_agent.settings import AgentSettings
from sluicegate_api.forwarding import ForwardingMode
from sluicegate_api.loadbalancer import LoadBalancer

SNIFF = "SNIFF"
FEATURES = ("IPV4", "IPV6", "FULL_NAT", "DNAT", "DIRECT_RETURN", SNIFF)
"""What programs can be compiled without; ``WITH_*`` in the sources."""

_MODES = {
    ForwardingMode.FULL_NAT: "FULL_NAT",
    ForwardingMode.DNAT: "DNAT",
    ForwardingMode.DIRECT_RETURN: "DIRECT_RETURN",
}
SNIFFING_FEATURES = frozenset({"IPV4", "IPV6", SNIFF})
"""Without which nothing is sniffed: a sniffer takes both families, unless its rules say otherwise."""

_FRAGMENTED_PACKETS = 8192
"""Fragmented packets under way at once, per family: their fragments arrive within milliseconds of each other."""

_UNUSED = 64
"""Entries of tables that programs without the feature have, and do not use."""


def limits(settings: AgentSettings) -> Limits:
    """Sizes of the tables that are planned for: the settings', and fixed ones for those that are small.

    Every backend may be on-link and so have a next hop of its own, and all of them may change at once: a new one is in
    place before the old one goes.
    """
    return Limits(backends=settings.backends, nexthops=2 * settings.backends, sources=settings.sources)


def kernel_settings(settings: AgentSettings) -> Settings:
    """What the programs are told of the settings."""
    ports = settings.nat_ports
    return Settings(
        nat_port_min=ports.first,
        nat_port_count=ports.last - ports.first + 1,
        half_open_limit=settings.half_open_limit,
    )


def needed_features(balancers: Iterable[LoadBalancer], sniffers: Iterable[object] = ()) -> frozenset[str]:
    """Features without which these load balancers and sniffers cannot work."""
    found: set[str] = set()
    if any(True for _ in sniffers):
        found |= SNIFFING_FEATURES
    for balancer in balancers:
        found.update(f"IPV{address.version}" for address in balancer.spec.addresses)
        found.add(_MODES[balancer.spec.forwarding.mode])
        if balancer.spec.forwarding.mode is ForwardingMode.FULL_NAT:
            found.add("DNAT")  # a backend may be on the node itself, and an address may come to it any time
    return frozenset(found)


def runnable(
    wanted: Sequence[LoadBalancer], running: Sequence[LoadBalancer], features: frozenset[str]
) -> tuple[LoadBalancer, ...]:
    """What programs with these features can run: of an object that needs others, the version that runs so far."""
    ready = [balancer for balancer in wanted if needed_features([balancer]) <= features]
    waiting = {balancer.key for balancer in wanted} - {balancer.key for balancer in ready}
    return (*ready, *(balancer for balancer in running if balancer.key in waiting))


def verdict_slots(flows: int) -> int:
    """Verdict words for so many flows of each family: a power of two, as the programs want it."""
    return 1 << (2 * flows - 1).bit_length()


def features_of(manifest: Manifest | None) -> frozenset[str]:
    """Features that a set of programs has; they stay on, so that going back and forth compiles nothing."""
    if manifest is None:
        return frozenset()
    return frozenset(name for name, on in manifest.features.items() if on and name in FEATURES)


def request(settings: AgentSettings, pins: Path, features: frozenset[str]) -> LoadRequest:
    """What to ask the loader for."""
    size = limits(settings)
    sniffed = settings.sniffed_flows if SNIFF in features else _UNUSED
    return LoadRequest(
        sources=bpf_sources(),
        pins=pins,
        sizes={
            "FLOWS": settings.flows,
            "NATS": settings.nat_entries,
            "SERVICES": size.services,
            "FRONTENDS": size.frontends,
            "BACKENDS": size.backends,
            "NEXTHOPS": size.nexthops,
            "SOURCES": size.sources,
            "AFFINITIES": settings.affinities,
            "FRAGMENTS": _FRAGMENTED_PACKETS,
            "SNIFFS": sniffed,
            "SNIFF_SLOTS": verdict_slots(sniffed),
        },
        features={name: name in features for name in FEATURES},
        cache=settings.cache_dir,
    )
