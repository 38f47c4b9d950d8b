"""Who may use a VIP's port: one load balancer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from sluicegate_api.addresses import IPAddress
from sluicegate_api.backends import endpoint_text
from sluicegate_api.common import FieldProblem, ObjectKey
from sluicegate_api.loadbalancer import LoadBalancer
from sluicegate_api.ports import Protocol


@dataclass(frozen=True, slots=True)
class Claim:
    """One VIP, protocol and port."""

    address: IPAddress
    protocol: Protocol
    port: int

    def __str__(self) -> str:
        return f"{endpoint_text(self.address, self.port)}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A claim that an object made and does not get."""

    object: ObjectKey
    claim: Claim
    problem: FieldProblem


@dataclass(frozen=True, slots=True)
class Claims:
    """Who holds what, and who wanted what others hold."""

    holders: Mapping[Claim, ObjectKey] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()

    def held_by(self, key: ObjectKey) -> frozenset[Claim]:
        """All that one object holds."""
        return frozenset(claim for claim, holder in self.holders.items() if holder == key)


def claims_of(loadbalancer: LoadBalancer) -> Iterator[tuple[Claim, str]]:
    """What a load balancer claims, each with the path of the port that makes the claim."""
    for index, port in enumerate(loadbalancer.spec.ports):
        for address in loadbalancer.spec.addresses:
            yield Claim(address, port.protocol, port.port), f"spec.ports[{index}].port"


def resolve_claims(wanted: Sequence[LoadBalancer], holders: Mapping[Claim, ObjectKey]) -> Claims:
    """Decide every claim: its present holder keeps it while it wants it, else the first in the order of `wanted`.

    A refusal names the holder only to objects of the same namespace: names of other namespaces are not everybody's.
    """
    claims = [(loadbalancer.key, claim, path) for loadbalancer in wanted for claim, path in claims_of(loadbalancer)]
    held = {claim: key for key, claim, _ in claims if holders.get(claim) == key}
    for key, claim, _ in claims:
        held.setdefault(claim, key)
    refusals = tuple(
        Refusal(key, claim, FieldProblem(path, _refusal(claim, held[claim], key)))
        for key, claim, path in claims
        if held[claim] != key
    )
    return Claims(MappingProxyType(held), refusals)


def _refusal(claim: Claim, holder: ObjectKey, loser: ObjectKey) -> str:
    who = f"LoadBalancer {holder}" if holder.namespace == loser.namespace else "a LoadBalancer of another namespace"
    return f"{claim} is held by {who}: use another address or port, or remove it there"
