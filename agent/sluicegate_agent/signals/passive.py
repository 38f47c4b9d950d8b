"""Passive measurement: load and latency of a backend from nothing but the kernel's counters. Pure.

Latency needs no clock on packets: by Little's law the mean time in a system is the mean number in it divided by how
many leave it per second, whatever the order, the arrivals and the distribution of times. The number in it is known at
each reading of the counters; between two readings it is taken as on the line between them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate_agent.signals.model import Load, Passive

FEW: Final = 3
"""Completions in a tick below which their mean time is one client's luck."""
LONGEST_GAP: Final = 2.0
"""Seconds between two readings above which nothing is known of the time between them: this process was held up."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What this node sees of a backend's flows.

    ``replies``: packets of the backend (not in DirectReturn). ``ends``: the end of a flow (not in UDP, where a flow
    ends when it was silent for long). What is not seen is neither counted nor guessed.
    """

    replies: bool = True
    ends: bool = True


_ALL: Final = Sight()


@dataclass(slots=True)
class _Span:
    """What happened since a tick. ``active`` and ``in_flight`` are integrals over it, flow- and request-seconds."""

    seconds: float = 0.0
    active: float = 0.0
    in_flight: float = 0.0
    new_flows: int = 0
    requests: int = 0
    responses: int = 0
    closed: int = 0
    failures: int = 0

    def latency(self, sight: Sight) -> float | None:
        """Mean seconds of a response, or of a flow where no requests are visible; None where too little was met."""
        if not sight.replies:
            return None
        if self.requests or self.responses:
            number, completions = self.in_flight, self.responses
        elif sight.ends:
            number, completions = self.active, self.closed
        else:
            return None
        return number / completions if number > 0 and completions >= FEW else None


class _Meter:
    """One backend: its last reading, and what came since the last tick."""

    __slots__ = ("_active", "_at", "_in_flight", "_last", "_tick")

    def __init__(self, now: float, load: Load) -> None:
        self._tick = _Span()
        self._read(now, load)

    def _read(self, now: float, load: Load) -> None:
        self._at, self._last = now, load
        self._active, self._in_flight = active_flows(load), requests_in_flight(load)

    def sample(self, now: float, load: Load, sight: Sight) -> None:
        seconds = now - self._at
        if seconds == 0:
            return  # the same reading twice
        if went_back(self._last, load):
            # The id is another backend's now: nothing of what was measured is of this one.
            self._tick = _Span()
            self._read(now, load)
            return
        last, active, in_flight = self._last, self._active, self._in_flight
        self._read(now, load)
        if not 0 < seconds <= LONGEST_GAP:
            return
        tick = self._tick
        tick.seconds += seconds
        tick.active += seconds * (active + self._active) / 2
        tick.new_flows += load.opened - last.opened
        tick.closed += load.closed - last.closed
        if sight.replies:
            tick.in_flight += seconds * (in_flight + self._in_flight) / 2
            tick.requests += load.requests - last.requests
            tick.responses += load.responses - last.responses
            tick.failures += _failures(load) - _failures(last)

    def tick(self, sight: Sight) -> Passive | None:
        tick, self._tick = self._tick, _Span()
        if tick.seconds == 0:
            return None
        return Passive(
            seconds=tick.seconds,
            active=tick.active / tick.seconds,
            in_flight=tick.in_flight / tick.seconds,
            new_flows=tick.new_flows,
            responses=tick.responses,
            closed=tick.closed,
            failures=tick.failures,
            latency=tick.latency(sight),
        )


class PassiveMeter:
    """Counters of backends, read every 100 ms or so, made into one :class:`Passive` per backend and tick.

    Call :meth:`sample` with each reading of the counters and :meth:`tick` once per tick of the controller.
    """

    def __init__(self) -> None:
        self._meters: dict[Hashable, _Meter] = {}
        self._sights: Mapping[Hashable, Sight] = {}

    def sample(
        self, now: float, loads: Mapping[Hashable, Load], sights: Mapping[Hashable, Sight] | None = None
    ) -> None:
        """Take the counters of all measured backends at ``now`` (seconds of a monotonic clock).

        A backend that is not in ``loads`` is forgotten. One that is not in ``sights`` is seen in full. Time between two
        readings does not count when the clock went backwards or further than :data:`LONGEST_GAP`, nor when a count
        went backwards, which begins anew.
        """
        self._sights = sights or {}
        for key in self._meters.keys() - loads.keys():
            del self._meters[key]
        for key, load in loads.items():
            meter = self._meters.get(key)
            if meter is None:
                self._meters[key] = _Meter(now, load)
            else:
                meter.sample(now, load, self._sights.get(key, _ALL))

    def tick(self) -> dict[Hashable, Passive]:
        """What was measured since the last tick; a backend without two readings since then is left out.

        Where replies are not seen, ``in_flight``, ``responses``, ``failures`` and ``latency`` are not either, and
        stay 0 and None.
        """
        found = ((key, meter.tick(self._sights.get(key, _ALL))) for key, meter in self._meters.items())
        return {key: passive for key, passive in found if passive is not None}


def went_back(before: Load, now: Load) -> bool:
    """Whether a count is smaller than before, as when an id was given to another backend; ``fix`` may go both ways."""
    return (
        now.opened < before.opened
        or now.closed < before.closed
        or now.requests < before.requests
        or now.responses < before.responses
        or now.resets < before.resets
        or now.unanswered < before.unanswered
        or now.empty_closes < before.empty_closes
        or now.abandoned < before.abandoned
    )


def active_flows(load: Load) -> int:
    """Open flows; a correction that is behind the counts never makes them less than none."""
    return max(load.opened - load.closed + load.fix, 0)


def requests_in_flight(load: Load) -> int:
    """Requests without a response, of which an open flow has one at most."""
    return min(load.in_flight, active_flows(load))


def _failures(load: Load) -> int:
    return load.resets + load.unanswered + load.empty_closes
