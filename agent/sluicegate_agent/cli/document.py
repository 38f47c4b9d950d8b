"""The status document as the command line reads it back: tolerant of what a newer agent adds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Traffic(_Part):
    packets: int
    bytes: int
    new_flows: int
    active_flows: int
    dropped: int

    @property
    def figures(self) -> tuple[str, str, str, str]:
        """New flows, active flows, packets and bytes, for a table."""
        return str(self.new_flows), str(self.active_flows), str(self.packets), short_bytes(self.bytes)


class Backend(_Traffic):
    """One backend of a port."""

    address: str
    port: int
    state: str
    health: str
    reason: str
    weight: int


class Vip(_Traffic):
    """One VIP of a port."""

    address: str
    programmed: bool
    reason: str


class Port(_Traffic):
    """One port."""

    name: str
    protocol: str
    port: int
    algorithm: str
    mode: str
    addresses: list[Vip]
    backends: list[Backend]


class Condition(_Part):
    """One condition of a load balancer."""

    type: str
    status: str
    reason: str
    message: str

    @property
    def alarming(self) -> bool:
        """Whether a person should read it."""
        return self.status != ("False" if self.type in {"Degraded", "Paused"} else "True")


class Counts(_Part):
    """Backends over all ports."""

    total: int
    healthy: int
    draining: int


class LoadBalancer(_Part):
    """One load balancer."""

    namespace: str
    name: str
    source: str
    ready: bool
    conditions: list[Condition]
    backends: Counts
    ports: list[Port]


class Interface(_Part):
    """One interface with our programs."""

    name: str
    mode: str
    reason: str


class Status(_Part):
    """The whole document."""

    ready: bool
    interfaces: list[Interface]
    loadbalancers: list[LoadBalancer]
    problems: list[str]


def short_bytes(count: int) -> str:
    """A size in binary units, for people: "1.5 GiB"."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
