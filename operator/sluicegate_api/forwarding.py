"""How flows of a load balancer are placed, carried and kept."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from sluicegate_api.cel import cel, validations
from sluicegate_api.common import ApiModel, Violation

DEFAULT_AFFINITY_SECONDS = 10_800
"""Of ``sessionAffinity.timeoutSeconds``; the same as a Kubernetes Service's."""


class Algorithm(StrEnum):
    """How the backend of a new flow is chosen."""

    LEAST_LOAD = "LeastLoad"
    MAGLEV = "Maglev"
    ROUND_ROBIN = "RoundRobin"


class ForwardingMode(StrEnum):
    """How packets get to the backend and back."""

    FULL_NAT = "FullNAT"
    DNAT = "DNAT"
    DIRECT_RETURN = "DirectReturn"
    TUNNEL = "Tunnel"


class SessionAffinityType(StrEnum):
    """What keeps a client with its backend."""

    NONE = "None"
    CLIENT_IP = "ClientIP"


class Forwarding(ApiModel):
    """How packets are forwarded."""

    mode: ForwardingMode = ForwardingMode.FULL_NAT
    """FullNAT (default): works with any route; backends see the node's address. DNAT: backends see the client's
    address, and their replies must be routed through this node. DirectReturn: backends on the same link answer by
    themselves. Tunnel: packets are wrapped up to the backend's node."""


class SessionAffinity(ApiModel):
    """Whether a client's connections go to the same backend."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "!has(self.timeoutSeconds) || (has(self.type) && self.type == 'ClientIP')",
                "timeoutSeconds needs type ClientIP",
            )
        )
    )

    type: SessionAffinityType = SessionAffinityType.NONE
    """None (default) or ClientIP."""
    timeout_seconds: Annotated[int, Field(strict=True, ge=1, le=86400)] | None = None
    """With ClientIP: seconds after its last connection for which a client keeps its backend; default 10800."""

    def violations(self) -> Iterator[Violation]:
        """A timeout needs an affinity."""
        if self.timeout_seconds is not None and self.type is SessionAffinityType.NONE:
            yield Violation(("timeoutSeconds",), "needs type ClientIP, but the type is None", reads=(("type",),))


class IdleTimeouts(ApiModel):
    """After how many seconds without a packet a flow is forgotten."""

    tcp_seconds: Annotated[int, Field(strict=True, ge=1, le=604800)] = 3600
    """For established TCP connections (default 3600)."""
    udp_seconds: Annotated[int, Field(strict=True, ge=1, le=604800)] = 60
    """For UDP (default 60)."""
