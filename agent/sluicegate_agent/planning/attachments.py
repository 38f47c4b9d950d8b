"""Which interfaces carry our programs, on which hook, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from sluicegate_agent.datapath.model import InterfaceIndex, IPAddress
from sluicegate_agent.network.model import Link, NetworkSnapshot, Path
from sluicegate_agent.planning.routes import small_for_ipv6
from sluicegate_api.dpisniffer import DpiSniffer
from sluicegate_api.loadbalancer import LoadBalancer

LOOPBACK: Final = "lo"
_NONE: Final[Mapping[InterfaceIndex, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Attachment:
    """``because`` says what the interface is needed for; ``tc_only`` why XDP is not wanted there, empty when it is."""

    want_xdp: bool
    because: str
    tc_only: str = ""


def arrival_interfaces(
    balancer: LoadBalancer, snapshot: NetworkSnapshot
) -> tuple[dict[InterfaceIndex, str], tuple[str, ...]]:
    """Interfaces where traffic to the VIPs arrives, each with the reason; and what is wrong with the choice."""
    chosen, problems = _chosen(
        balancer.spec.interfaces, "spec.interfaces", "those where VIP traffic arrives", str(balancer.key), snapshot
    )
    if any(vip.version == 6 for vip in balancer.spec.addresses):
        links = [snapshot.links[ifindex] for ifindex in chosen]
        problems += [words for link in links if (words := small_for_ipv6(link.mtu, link.name))]
    return chosen, tuple(problems)


def sniffed_interfaces(
    sniffer: DpiSniffer, snapshot: NetworkSnapshot
) -> tuple[dict[InterfaceIndex, str], tuple[str, ...]]:
    """Interfaces that a sniffer wants, each with the reason; and what is wrong with the choice."""
    chosen, problems = _chosen(
        sniffer.spec.attach.interfaces, "spec.attach.interfaces", "those to sniff at", str(sniffer.key), snapshot
    )
    return chosen, tuple(problems)


def _chosen(
    patterns: Sequence[str] | None, path: str, those: str, owner: str, snapshot: NetworkSnapshot
) -> tuple[dict[InterfaceIndex, str], list[str]]:
    if not patterns:
        chosen = {
            ifindex: "it holds a default route"
            for ifindex in sorted(snapshot.default_interfaces)
            if ifindex in snapshot.links and snapshot.links[ifindex].name != LOOPBACK
        }
        if chosen:
            return chosen, []
        return {}, [f"{path}: no interface holds a default route: name {those}"]
    named: dict[InterfaceIndex, list[str]] = {}
    problems: list[str] = []
    for index, pattern in enumerate(patterns):
        matching = [
            link.ifindex
            for link in snapshot.links.values()
            if link.name != LOOPBACK and fnmatchcase(link.name, pattern)
        ]
        for ifindex in matching:
            named.setdefault(ifindex, []).append(f"{path}[{index}]")
        if not matching:
            problems.append(f"{path}[{index}]: no interface is called {pattern}; it is used once it appears")
    return {
        ifindex: f"{' and '.join(places)} of {owner} {'names' if len(places) == 1 else 'name'} it"
        for ifindex, places in named.items()
    }, problems


def attachments(
    arrivals: Iterable[Mapping[InterfaceIndex, str]],
    towards: Mapping[InterfaceIndex, IPAddress],
    vips: Iterable[IPAddress],
    snapshot: NetworkSnapshot,
    sniffed: Mapping[InterfaceIndex, str] = _NONE,
) -> dict[InterfaceIndex, Attachment]:
    """Every interface where VIP traffic or a reply enters, where the node's own clients would leave for a VIP, and
    those that are sniffed.

    ``towards`` names a backend behind each interface in it, ``sniffed`` gives the reason for each.
    """
    because: dict[InterfaceIndex, str] = {}
    for arrival in arrivals:
        for ifindex, reason in arrival.items():
            because.setdefault(ifindex, reason)
    for ifindex, address in towards.items():
        because.setdefault(ifindex, f"the route to backend {address} leads through it")
    for ifindex, reason in sniffed.items():
        because.setdefault(ifindex, reason)
    needed = frozenset(because)
    for vip in vips:
        path = snapshot.paths.get(vip)
        if isinstance(path, Path) and not path.local:
            because.setdefault(path.ifindex, f"the node's own packets to VIP {vip} leave through it")
    pods = {path.ifindex for path in snapshot.paths.values() if isinstance(path, Path) and path.host_route}
    found: dict[InterfaceIndex, Attachment] = {}
    for ifindex in sorted(because):
        link = snapshot.links.get(ifindex)
        if link is not None:
            tc_only = _tc_only(link, ifindex in pods) or (
                "" if ifindex in needed else "only the node's own clients use it"
            )
            found[ifindex] = Attachment(not tc_only, because[ifindex], tc_only)
    return found


def _tc_only(link: Link, leads_to_pod: bool) -> str:
    if not link.ethernet:
        return "its frames have no Ethernet header"
    if link.kind == "bridge":
        return "frames on a bridge may have unfinished checksums"
    if link.kind == "veth" and leads_to_pod:
        return "frames of a pod's interface may have unfinished checksums"
    return ""
