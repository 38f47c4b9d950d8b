"""What happens to the pool, and when. Times are seconds of the trace."""

from __future__ import annotations

from dataclasses import dataclass

CORES = (1,) * 6 + (2,) * 6 + (4,) * 4
"""Of the backends, in order."""
SLOW, HOLE = 8, 10
"""The backend that slows down, and the one that resets its connections: both of two cores."""
FACTOR = 5.0
"""How much longer everything takes on the slow one."""
MEAN_SERVICE = 0.020
"""Seconds of one core that a request takes on average."""
UTILIZATION = 0.8
RATE = sum(CORES) * UTILIZATION / MEAN_SERVICE
"""Requests per second that keep the pool that busy."""
TIMEOUT = 10.0
"""Seconds after which the client gives up."""


@dataclass(frozen=True, slots=True)
class Span:
    """From ``begin`` up to ``end``."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """``steady_at``: from here on the pool counts as steady, having had time to learn; ``hole_at``: the hole opens."""

    steady_at: float
    slow_at: float
    recover_at: float
    hole_at: float
    end: float

    @property
    def spans(self) -> tuple[Span, ...]:
        """The parts that latencies are told for."""
        length = self.recover_at - self.slow_at
        return (
            Span("steady", self.steady_at, self.slow_at),
            Span("first 5 s of the fault", self.slow_at, min(self.slow_at + 5, self.recover_at)),
            Span("whole fault", self.slow_at, self.recover_at),
            Span("settled fault", self.recover_at - length / 2, self.recover_at),
            Span("after", self.recover_at, self.hole_at),
        )

    @property
    def events(self) -> tuple[tuple[float, str], ...]:
        """Commands to the backends, in order."""
        return (
            (self.slow_at, f"slow {SLOW} {FACTOR:g}"),
            (self.recover_at, f"recover {SLOW}"),
            (self.hole_at, f"hole {HOLE}"),
        )


FULL = Scenario(14, 28, 43, 58, 66)
TINY = Scenario(0.5, 1.5, 2.5, 3.5, 4.5)
