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


class Weights(_Part):
    """What became of a backend's weight, and why."""

    effective: float
    prior: float
    guard: float
    errors: float
    slow_start: float
    state: str
    reason: str
    absent: list[str]
    latency_seconds: float | None


class Override(_Part):
    """An operator's word on a backend of this node; ``until`` is a time as in RFC 3339."""

    action: str
    until: str


class Signal(_Part):
    """What a backend said of its load when it was asked; ``error`` is empty while it answers."""

    age_seconds: float | None
    error: str
    utilization: float | None
    rps: float | None
    eps: float | None


class Quantiles(_Part):
    """Seconds; None when nothing was measured."""

    p50: float | None = None
    p99: float | None = None


class Measured(_Part):
    """What the kernel saw of a backend since it got its id."""

    requests: int = 0
    responses: int = 0
    resets: int = 0
    unanswered: int = 0
    empty_closes: int = 0
    in_flight: int = 0
    first_response: Quantiles = Quantiles()
    handshake: Quantiles = Quantiles()


class Backend(_Traffic):
    """One backend of a port."""

    address: str
    port: int
    state: str
    health: str
    reason: str
    weight: int
    effective_weight: float
    weights: Weights | None = None
    override: Override | None = None
    signal: Signal | None = None
    measured: Measured = Measured()


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
    panic: str
    addresses: list[Vip]
    note: str = ""
    dynamic_weights: str = "None"
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


class Limits(_Part):
    """Limits in force."""

    affinity_seconds: int
    allowed_sources: list[str] | None
    max_new_connections_per_second: int | None

    @property
    def words(self) -> str:
        """All of them on one line; empty when there are none."""
        parts = []
        if self.affinity_seconds:
            parts.append(f"a client keeps its backend for {self.affinity_seconds} s")
        if self.allowed_sources is not None:
            parts.append(f"only from {', '.join(self.allowed_sources) or 'nowhere'}")
        if self.max_new_connections_per_second is not None:
            parts.append(f"at most {self.max_new_connections_per_second} new flows per second and port")
        return "; ".join(parts)


class LoadBalancer(_Part):
    """One load balancer."""

    namespace: str
    name: str
    source: str
    ready: bool
    conditions: list[Condition]
    backends: Counts
    limits: Limits
    ports: list[Port]


class Interface(_Part):
    """One interface with our programs."""

    name: str
    mode: str
    reason: str
    program: str


class Flows(_Part):
    """Flows of all load balancers."""

    active: int
    half_open: int


class Drop(_Part):
    """Packets that were dropped for one reason."""

    reason: str
    text: str
    packets: int


class SniffedInterface(_Part):
    """An interface that a sniffer wants; ``mode`` is empty while it carries no programs."""

    name: str
    mode: str
    sniffed: bool
    reason: str


class Decided(_Part):
    """Flows by what ended the look at them."""

    budget: int
    verdict: int
    pressure: int
    drop: int


class SniffRule(_Part):
    """Flows that a rule took."""

    name: str
    flows: int


class Worker(_Part):
    """A process of the engine; all sniffers share them."""

    number: int
    state: str
    reason: str
    pid: int | None
    restarts: int
    quarantined: int
    cpu_seconds: float
    memory_bytes: int
    ring_bytes: int
    ring_used: int
    lost: int
    lines: int
    lines_dropped: int
    ends_dropped: int
    records: int


class SignatureCounts(_Part):
    """What became of a sniffer's signatures."""

    loaded: int
    rewritten: int
    refused: int
    quarantined: int
    loading: bool
    error: str
    examples: list[str]


class EventOutput(_Part):
    """Where a sniffer's events go."""

    type: str
    path: str
    written: int
    dropped: int
    lost: int
    queued: int
    problem: str


class Sniffer(_Part):
    """One sniffer. ``reasons`` say for each part that holds nothing why."""

    namespace: str
    name: str
    source: str
    ready: bool
    conditions: list[Condition]
    interfaces: list[SniffedInterface]
    sent_share: float | None
    packets: int
    bytes: int
    sent: int
    sent_bytes: int
    empty: int
    stopped: int
    dropped: int
    ignored: int
    fragments: int
    unreadable: int
    lost: int
    no_worker: int
    no_room: int
    flows: int
    active_flows: int
    decided_flows: Decided
    rules: list[SniffRule]
    unmatched_flows: int
    workers: list[Worker]
    cpu_seconds_per_million_packets: float | None
    signatures: SignatureCounts | None
    classification: str | None
    output: EventOutput | None
    events: dict[str, int]
    reasons: dict[str, str]
    notes: list[str]


class Status(_Part):
    """The whole document."""

    ready: bool
    interfaces: list[Interface]
    loadbalancers: list[LoadBalancer]
    sniffers: list[Sniffer] = []
    flows: Flows
    drops: list[Drop]
    problems: list[str]


def short_bytes(count: int) -> str:
    """A size in binary units, for people: "1.5 GiB"."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


class Place(_Part):
    """An address with its port."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class Owner(_Part):
    """A port of a load balancer."""

    namespace: str
    name: str
    port: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name} {self.port}"


class Flow(_Part):
    """One flow."""

    protocol: str
    client: Place
    vip: Place
    load_balancer: Owner | None
    backend: Place | None
    mode: str
    source: Place | None
    state: str
    idle_seconds: float
    expires_in_seconds: float


class FlowList(_Part):
    """The answer of ``flows``."""

    matched: int
    states: dict[str, int]
    flows: list[Flow]
