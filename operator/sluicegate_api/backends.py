"""Where a load balancer sends its traffic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import ConfigDict, Field

from sluicegate_api.addresses import IPAddress, UsableAddress
from sluicegate_api.cel import cel, distinct, validations
from sluicegate_api.common import ApiModel, DnsLabel, LabelSelector, PortNumber, Violation, repeated

MAX_STATIC = 512
"""Looking for duplicates in CEL costs the square of this."""
DEFAULT_WEIGHT = 100


class StaticBackend(ApiModel):
    """One backend by its address."""

    address: UsableAddress
    """The backend's IPv4 or IPv6 address."""
    port: PortNumber | None = None
    """The backend's port, where it differs from targetPort; only with a single entry in ports."""
    weight: Annotated[int, Field(strict=True, ge=0, le=1000)] = DEFAULT_WEIGHT
    """Share of new flows relative to the other backends (default 100). 0 takes no new flows and keeps those it has."""


class ServiceReference(ApiModel):
    """A Service of the same namespace."""

    name: DnsLabel
    """The Service's name."""


class Backends(ApiModel):
    """Exactly one of static, serviceRef and podSelector."""

    model_config = ConfigDict(
        json_schema_extra=validations(
            cel(
                "[has(self.static), has(self.serviceRef), has(self.podSelector)].exists_one(given, given)",
                "exactly one of static, serviceRef and podSelector must be given",
            )
        )
    )

    static: (
        Annotated[
            tuple[StaticBackend, ...],
            Field(
                min_length=1,
                max_length=MAX_STATIC,
                json_schema_extra=validations(
                    distinct(
                        "[dyn(ip(item.address)), dyn(has(item.port) ? item.port : 0)]", "a backend is listed twice"
                    )
                ),
            ),
        ]
        | None
    ) = None
    """Backends by their addresses."""
    service_ref: ServiceReference | None = None
    """The endpoints of a Service of the same namespace."""
    pod_selector: LabelSelector | None = None
    """Pods of the same namespace, by their labels."""

    def violations(self) -> Iterator[Violation]:
        """One way to name backends, and every backend once."""
        ways = {"static": self.static, "serviceRef": self.service_ref, "podSelector": self.pod_selector}
        given = [name for name, value in ways.items() if value is not None]
        if not given:
            yield Violation(
                (), "one of static, serviceRef and podSelector is required", reads=tuple((w,) for w in ways)
            )
        for name in given[1:]:
            yield Violation((name,), f"cannot be combined with {given[0]}: give only one of them")
        for index, first, (address, port) in repeated((b.address, b.port) for b in self.static or ()):
            name = endpoint_text(address, port)
            yield Violation(
                ("static", index),
                f"{name} is already listed in static[{first}]",
                reads=(("static", index, "port"), ("static", first, "port")),
            )


def endpoint_text(address: IPAddress, port: int | None) -> str:
    """``10.0.0.5:80``, ``[2001:db8::5]:80``, or the bare address without a port."""
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
