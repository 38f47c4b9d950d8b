"""What signals say, in one shape, whoever says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Stated(StrEnum):
    """What a backend asks for itself. DRAIN and MAINT take no new flows, MAINT gives up the present ones too."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Report:
    """What one backend said of itself in one answer; None where it said nothing. All numbers are finite and >= 0.

    ``utilization`` is the used part of its capacity, 1 when full (more when overloaded); ``rps`` and ``eps`` are its
    requests and errors per second as it counts them. ``share`` is the part of its configured weight that it wants,
    ``weight`` the weight itself. ``administrative`` is READY, DRAIN or MAINT, ``operational`` UP or DOWN; both hold
    until it states another one. ``max_connections`` is noted and shown.
    """

    utilization: float | None = None
    rps: float | None = None
    eps: float | None = None
    share: float | None = None
    weight: int | None = None
    administrative: Stated | None = None
    operational: Stated | None = None
    max_connections: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """The last good report of a backend and when it came (the loop's clock, seconds), and what is wrong since.

    ``error`` is empty while all is well, else one line for people: what failed, and where. ``count`` is how many good
    reports came in a row.
    """

    report: Report | None = None
    at: float | None = None
    error: str = ""
    count: int = 0

    def age(self, now: float) -> float | None:
        """Seconds since the last good report; never negative."""
        return None if self.at is None else max(0.0, now - self.at)


@dataclass(frozen=True, slots=True)
class Load:
    """``struct backend_load``: counts of one backend since it got its id; all only grow.

    ``fix`` corrects opened less closed for flows whose end nobody saw, and ``forgotten`` are requests that went with
    such flows; these two may go either way. ``requests`` counts turns of the client after
    the backend had spoken (and the first), ``responses`` the first bytes of the backend after each. ``resets`` are
    connections that the backend ended by RST before any byte of it, ``unanswered`` those whose SYN got no answer,
    ``empty_closes`` those that it closed without a byte. ``abandoned`` are requests whose connection ended before their
    response.
    """

    opened: int = 0
    closed: int = 0
    requests: int = 0
    responses: int = 0
    resets: int = 0
    unanswered: int = 0
    empty_closes: int = 0
    fix: int = 0
    abandoned: int = 0
    forgotten: int = 0

    @property
    def in_flight(self) -> int:
        """Requests without a response."""
        return max(0, self.requests - self.responses - self.abandoned - self.forgotten)


@dataclass(frozen=True, slots=True)
class Passive:
    """What the kernel saw of one backend in the ``seconds`` since the last sample.

    ``active`` is the mean number of open flows and ``in_flight`` that of requests without an answer;
    ``new_flows`` flows were opened, ``responses`` answered, ``closed`` ended; ``failures`` of the new ones ended in a
    reset, no answer or an empty close. ``latency`` is the mean time of a response in seconds by Little's law (mean in
    flight / completions per second); None when too little came to tell.
    """

    seconds: float
    active: float = 0.0
    in_flight: float = 0.0
    new_flows: int = 0
    responses: int = 0
    closed: int = 0
    failures: int = 0
    latency: float | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """Times of one kind by powers of two: ``counts[i]`` lie in [2^i, 2^(i+1)) microseconds, the last has all above."""

    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """All times."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Latencies:
    """``struct backend_latency``: SYN to SYN-ACK, and request to first byte of the response; of one flow in eight."""

    handshake: Histogram = field(default_factory=Histogram)
    first_response: Histogram = field(default_factory=Histogram)
