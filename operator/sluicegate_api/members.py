"""Backends as nodes get them: resolved to addresses and ports, whatever the resource named them by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, JsonValue, StringConstraints

from sluicegate_api.addresses import UsableAddress
from sluicegate_api.backends import DEFAULT_WEIGHT
from sluicegate_api.common import ApiModel
from sluicegate_api.digests import digest

MAX_PORTS = 64

MemberPort = Annotated[int, Field(strict=True, ge=0, le=65_535)]


class Member(ApiModel):
    """One backend of a load balancer."""

    address: UsableAddress
    """Its address."""
    ports: Annotated[tuple[MemberPort, ...], Field(min_length=1, max_length=MAX_PORTS)]
    """Its port for each entry of the resource's ports, in their order; 0 where it does not serve that one."""
    weight: Annotated[int, Field(strict=True, ge=0, le=1000)] = DEFAULT_WEIGHT
    """Share of new flows relative to the other backends."""
    draining: Annotated[bool, Field(strict=True)] = False
    """Whether it takes no new flows and keeps those it has."""
    pod: Annotated[str, StringConstraints(max_length=253)] = ""
    """Name of its pod, where it is one."""

    @property
    def sort_key(self) -> tuple[int, bytes, tuple[int, ...]]:
        """Members of one resource in order: by family, address and ports."""
        return self.address.version, self.address.packed, self.ports


def members_digest(members: Iterable[Member]) -> str:
    """The digest of all members of a resource, whatever slices they come from."""
    return digest([wire(each) for each in sorted(members, key=lambda each: each.sort_key)])


def wire(value: ApiModel) -> JsonValue:
    """A value as it is written to the API: defaults left out."""
    plain: JsonValue = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return plain
