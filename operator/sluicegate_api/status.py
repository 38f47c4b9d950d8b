"""What the operator writes about the resources. People and Git never do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from sluicegate_api.common import ApiModel, DnsSubdomain

Count = Annotated[int, Field(strict=True, ge=0)]
Generation = Annotated[int, Field(strict=True, ge=0)]
Cell = Annotated[str, StringConstraints(max_length=64)]


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One statement about the object, as metav1.Condition."""

    type: Annotated[
        str, StringConstraints(min_length=1, max_length=316, pattern=r"^([a-z0-9.-]+/)?[A-Za-z][A-Za-z0-9]*$")
    ]
    """Accepted, Programmed, Ready, Degraded, Paused, Reconciling or Stalled."""
    status: ConditionStatus
    """Whether it holds."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    """Why, as one word for programs."""
    message: Annotated[str, StringConstraints(max_length=1024)]
    """Why, for people."""
    last_transition_time: Annotated[
        str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})
    ]
    """When the status last changed."""
    observed_generation: Generation | None = None
    """Generation of the object that the condition speaks of."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class NodeCounts(ApiModel):
    """Nodes that carry the object."""

    desired: Count
    """Nodes that are selected."""
    updated: Count
    """Nodes that run the observed generation."""
    ready: Count
    """Nodes that run it and can work."""
    failed: Count
    """Nodes that cannot run it."""
    samples: Annotated[tuple[DnsSubdomain, ...], Field(max_length=10)] = ()
    """Names of some of the failed nodes."""


class BackendCounts(ApiModel):
    """Backends of the load balancer."""

    total: Count
    """All backends."""
    healthy: Count
    """Backends that take new flows."""
    draining: Count
    """Backends that leave and keep their flows for a while."""


class Summary(ApiModel):
    """The same in short, for the columns of kubectl get: they print single fields only."""

    ports: Cell = ""
    """The ports with their protocols; as many as fit, then how many more."""
    backends: Cell = ""
    """Healthy of all backends: 3/4."""
    nodes: Cell = ""
    """Ready of all selected nodes: 4998/5000."""


class LoadBalancerStatus(ApiModel):
    """What became of the spec."""

    observed_generation: Generation | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Conditions | None = None
    """Statements about the object."""
    nodes: NodeCounts | None = None
    """Nodes that carry the load balancer."""
    backends: BackendCounts | None = None
    """Backends of the load balancer."""
    summary: Summary | None = None
    """For the columns of kubectl get."""


class SnifferSummary(ApiModel):
    """The same in short, for the columns of kubectl get: they print single fields only."""

    attach: Cell = ""
    """Interfaces, or "pods"; as many as fit, then how many more."""
    rules: Cell = ""
    """Signatures that are looked for, of all that are given: 98/100."""
    nodes: Cell = ""
    """Ready of all selected nodes: 4998/5000."""


class DpiSnifferStatus(ApiModel):
    """What became of the spec."""

    observed_generation: Generation | None = None
    """Generation of the spec that this status speaks of."""
    conditions: Conditions | None = None
    """Statements about the object."""
    nodes: NodeCounts | None = None
    """Nodes that sniff."""
    summary: SnifferSummary | None = None
    """For the columns of kubectl get."""
