"""Which namespaces may use which VIPs. Without any pool every namespace may use every address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from sluicegate_api.addresses import IPAddress, Network
from sluicegate_api.cel import distinct, validations
from sluicegate_api.common import ApiModel, ClusterObjectMeta, DnsLabel, LabelSelector, Violation, repeated
from sluicegate_api.groups import selects
from sluicegate_api.status import Conditions, Count, Generation

MAX_NETWORKS = 64


class AddressPoolSpec(ApiModel):
    """Addresses, and who may use them."""

    cidrs: Annotated[
        tuple[Network, ...],
        Field(
            min_length=1,
            max_length=MAX_NETWORKS,
            json_schema_extra=validations(distinct("cidr(item)", "a network is listed twice")),
        ),
    ]
    """Networks of VIPs; a single address is a /32 or /128."""
    namespaces: (
        Annotated[
            tuple[DnsLabel, ...],
            Field(max_length=256, json_schema_extra={"x-kubernetes-list-type": "set"}),
        ]
        | None
    ) = None
    """Namespaces that may use them, by name."""
    namespace_selector: LabelSelector | None = None
    """Namespaces that may use them, by labels. With neither of the two, all may."""

    def violations(self) -> Iterator[Violation]:
        """Every network once."""
        for index, first, network in repeated(self.cidrs):
            yield Violation(("cidrs", index), f"{network} is already listed in cidrs[{first}]")
        for index, first, name in repeated(self.namespaces or ()):
            yield Violation(("namespaces", index), f"{name} is already listed in namespaces[{first}]")

    def holds(self, address: IPAddress) -> bool:
        """Whether an address lies in it."""
        return any(address in network for network in self.cidrs if network.version == address.version)

    def admits(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a namespace with these labels may use it."""
        if self.namespaces is None and self.namespace_selector is None:
            return True
        return namespace in (self.namespaces or ()) or (
            self.namespace_selector is not None and selects(self.namespace_selector, labels)
        )


class AddressPoolStatus(ApiModel):
    """What became of the pool."""

    observed_generation: Generation | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Conditions | None = None
    """Statements about the pool."""
    addresses: Count | None = None
    """VIPs of it that are in use."""
    load_balancers: Count | None = None
    """Load balancers that use them."""


class AddressPool(ApiModel):
    """VIPs that a cluster's administrator gives to namespaces. As soon as there is a pool, only pools give VIPs."""

    api_version: Literal["sluicegate.io/v1alpha1"] = "sluicegate.io/v1alpha1"
    kind: Literal["AddressPool"] = "AddressPool"
    metadata: ClusterObjectMeta
    spec: AddressPoolSpec
    """Addresses, and who may use them."""
