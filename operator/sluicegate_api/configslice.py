"""Rendered configuration on its way from the operator to the agents: one object holds a slice of a group's.

A slice has *entries*: heads, one for each load balancer or sniffer, and members, the backends of load balancers. Heads
come first, then the members of its parts in their order; bitmaps in a node's status count entries that way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from sluicegate_api.common import ApiModel, DnsLabel, DnsSubdomain, ObjectKey, ObjectMeta
from sluicegate_api.digests import DIGEST_DIGITS, DIGEST_PATTERN, digest
from sluicegate_api.groups import GROUP_PATTERN
from sluicegate_api.members import Member, wire
from sluicegate_api.rulebundle import BundleDigest, PartCount

FORMAT = 1
"""The form of slices that is written here. Agents tell which forms they read; the operator writes the oldest in use."""
FORMATS = (1,)
"""Forms that are read here."""
MAX_ENTRIES = 100
LARGEST_SLICE = 10 * 1024
"""Bytes of a slice as compact JSON; only a head that is larger alone makes a larger one."""
EMPTY_BELOW = 25
"""Entries below which what is left of a slice moves to others."""

REVISION_PATTERN = r"^[0-9a-f]{16}\.[0-9a-f]{16}$"

Digest = Annotated[str, StringConstraints(max_length=DIGEST_DIGITS, pattern=DIGEST_PATTERN)]
Uid = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Revision = Annotated[str, StringConstraints(max_length=2 * DIGEST_DIGITS + 1, pattern=REVISION_PATTERN)]


class Kind(StrEnum):
    """Kinds of resources that nodes carry out."""

    LOAD_BALANCER = "LoadBalancer"
    DPI_SNIFFER = "DpiSniffer"


class Denied(ApiModel):
    """A VIP's port that the load balancer wants and does not get."""

    address: Annotated[int, Field(strict=True, ge=0, le=15)]
    """Index in spec.addresses."""
    port: Annotated[int, Field(strict=True, ge=0, le=63)]
    """Index in spec.ports."""


class BundleReference(ApiModel):
    """A text of rules that the sniffer uses."""

    source: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    """Where it comes from, for people: "ConfigMap rules, key local.rules"."""
    digest: BundleDigest
    """What its bundles are named by."""
    parts: PartCount
    """How many bundles it has."""


class Head(ApiModel):
    """One load balancer or sniffer."""

    kind: Kind
    """What it is."""
    namespace: DnsLabel
    """The resource's namespace."""
    name: DnsSubdomain
    """The resource's name."""
    uid: Uid
    """The resource's uid: one that was deleted and made anew is another one."""
    generation: Annotated[int, Field(strict=True, ge=0)]
    """The resource's generation that this is."""
    parts: Annotated[int, Field(strict=True, ge=0)] = 0
    """Slices that hold members of it."""
    digest: Digest | None = None
    """Digest of all its members together; absent without any."""
    spec: Annotated[dict[str, JsonValue], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
    """The resource's spec, without its backends, which are members, and without its node selector."""
    denied: Annotated[tuple[Denied, ...], Field(max_length=1024)] = ()
    """VIP ports of the spec that it does not hold."""
    bundles: Annotated[tuple[BundleReference, ...], Field(max_length=64)] = ()
    """Rules from ConfigMaps."""

    @property
    def key(self) -> ObjectKey:
        """Namespace and name."""
        return ObjectKey(self.namespace, self.name)


class Part(ApiModel):
    """All members of one resource that lie in this slice."""

    uid: Uid
    """The resource's uid."""
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=MAX_ENTRIES)]
    """Its members here."""


class ConfigSliceSpec(ApiModel):
    """A slice of the configuration of one group."""

    format: Annotated[int, Field(strict=True, ge=1)]
    """The form of what follows."""
    group: Annotated[str, StringConstraints(max_length=13, pattern=GROUP_PATTERN)]
    """The group whose nodes carry it out."""
    revision: Revision
    """Digest of the heads, a dot, digest of the members."""
    heads: Annotated[tuple[Head, ...], Field(max_length=MAX_ENTRIES)] = ()
    """Load balancers and sniffers."""
    parts: Annotated[tuple[Part, ...], Field(max_length=MAX_ENTRIES)] = ()
    """Members of load balancers whose heads are here or in other slices of the group."""

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.heads) + sum(len(part.members) for part in self.parts)

    def entries(self) -> Iterator[tuple[str, Member | None]]:
        """All entries in the order of bitmaps: the uid of the resource, and the member or None for a head."""
        for head in self.heads:
            yield head.uid, None
        for part in self.parts:
            for member in part.members:
                yield part.uid, member


class ConfigSlice(ApiModel):
    """A slice of rendered configuration. Written by the operator alone; edits are undone."""

    api_version: Literal["sluicegate.io/v1alpha1"] = "sluicegate.io/v1alpha1"
    kind: Literal["ConfigSlice"] = "ConfigSlice"
    metadata: ObjectMeta
    spec: ConfigSliceSpec
    """What it holds."""


def revision_of(heads: Iterable[Head], parts: Iterable[Part]) -> str:
    """The revision of a slice with this content, in this order."""
    return f"{digest([wire(head) for head in heads])}.{digest([wire(part) for part in parts])}"


def heads_revision(revision: str) -> str:
    """The half of a revision that only changes with heads."""
    return revision.partition(".")[0]
