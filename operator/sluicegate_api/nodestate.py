"""What the operator tells a node's agent, and what that agent tells back. One object for each node, of its name."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from sluicegate_api.common import ApiModel, ClusterObjectMeta, DnsLabel, DnsSubdomain
from sluicegate_api.configslice import Kind, Revision, Uid
from sluicegate_api.groups import GROUP_PATTERN, MAX_GROUPS

MAX_FAILURES = 32
MAX_SLICES = 512
MAX_INTERFACES = 128
AGENT_LABEL = "sluicegate.io/agent"
"""Label of nodes on which an agent runs, with the value "true"."""

Word = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]


class DesiredState(StrEnum):
    """Whether a node carries programs. Detached is the one signal on which an agent takes everything down."""

    ATTACHED = "Attached"
    DETACHED = "Detached"


class NodeStateSpec(ApiModel):
    """What the node shall carry."""

    groups: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=13, pattern=GROUP_PATTERN)], ...],
        Field(max_length=MAX_GROUPS, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Groups whose slices it carries out."""
    desired: DesiredState = DesiredState.ATTACHED
    """Detached: remove every program and table, and say so."""
    nodes: Annotated[int, Field(strict=True, ge=0)] = 0
    """Nodes of the cluster, rounded up to a power of two: agents spread their writes over that."""


class SliceState(ApiModel):
    """One slice on this node."""

    name: DnsSubdomain
    """The slice."""
    revision: Revision
    """Its revision as found in the kernel."""
    down: Annotated[str, StringConstraints(max_length=32)] = ""
    """Base64 of a bitmap, least significant bit first: entries that do not work here; empty when all do."""


class Failure(ApiModel):
    """What does not work of one resource on this node."""

    kind: Kind
    """What it is."""
    namespace: DnsLabel
    """Its namespace."""
    name: DnsSubdomain
    """Its name."""
    uid: Uid
    """Its uid."""
    impaired: Annotated[bool, Field(strict=True)] = False
    """Whether it runs all the same, with something missing."""
    reason: Word
    """Why, as one word."""
    message: Annotated[str, StringConstraints(max_length=512)]
    """Why, for people, and what to do."""


class InterfaceState(ApiModel):
    """An interface that carries programs."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=15)]
    """Its name."""
    mode: Annotated[str, StringConstraints(max_length=16)]
    """xdp or tc."""
    reason: Annotated[str, StringConstraints(max_length=256)] = ""
    """Why not xdp."""


class NodeStateStatus(ApiModel):
    """What the node's agent found. It writes only when something changed."""

    formats: Annotated[
        tuple[Annotated[int, Field(strict=True, ge=1)], ...],
        Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ] = ()
    """Forms of slices that it reads."""
    version: Annotated[str, StringConstraints(max_length=64)] = ""
    """The agent's version."""
    desired: DesiredState | None = None
    """The desired state that it has carried out."""
    slices: Annotated[
        tuple[SliceState, ...],
        Field(
            max_length=MAX_SLICES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Slices in force."""
    failures: Annotated[
        tuple[Failure, ...], Field(max_length=MAX_FAILURES, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = ()
    """What does not work."""
    failures_left_out: Annotated[int, Field(strict=True, ge=0)] = 0
    """Further failures."""
    interfaces: Annotated[
        tuple[InterfaceState, ...],
        Field(
            max_length=MAX_INTERFACES,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Interfaces with programs."""


class NodeState(ApiModel):
    """A node: what it shall carry, and what it does."""

    api_version: Literal["sluicegate.io/v1alpha1"] = "sluicegate.io/v1alpha1"
    kind: Literal["NodeState"] = "NodeState"
    metadata: ClusterObjectMeta
    spec: NodeStateSpec
    """Written by the operator."""
    status: NodeStateStatus | None = None
    """Written by the node's agent."""


def encode_bits(bits: Collection[int]) -> str:
    """A bitmap with these bits set, as base64 without trailing zero bytes; empty for none."""
    if not bits:
        return ""
    raw = bytearray(max(bits) // 8 + 1)
    for bit in bits:
        raw[bit // 8] |= 1 << bit % 8
    return base64.b64encode(raw).decode("ascii")


def decode_bits(text: str) -> Iterator[int]:
    """The bits that are set in a bitmap, in order. Raises ValueError for what is no base64."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text!r} is no bitmap: {error}") from error
    for index, byte in enumerate(raw):
        for bit in range(8):
            if byte >> bit & 1:
                yield index * 8 + bit
