"""Processor sharing on a limited number of cores, in virtual time: what a busy backend does, without being busy.

All jobs get the same part of the cores, and none more than one core: with ``n`` jobs on ``c`` cores each of them gets
``min(1, c/n)`` of a core, times the speed of the cores. Nothing is computed meanwhile, so the capacity is exact on
any machine. Times and sizes are in seconds; a job of size 0.02 takes 20 ms on a core of its own at speed 1.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heappop, heappush


class ProcessorSharing:
    """One backend's cores and its jobs. Time is an argument; an earlier time than the last one counts as that."""

    def __init__(self, cores: float) -> None:
        if cores <= 0:
            raise ValueError(f"{cores:g} cores can do no work")
        self._cores = cores
        self._speed = 1.0
        self._at = 0.0
        self._attained = 0.0  # work that a job would have got that was here from the start
        self._number = 0
        self._order: list[tuple[float, int, Hashable]] = []  # (attained at its end, number, job); removed ones remain
        self._jobs: dict[Hashable, int] = {}  # numbers of those that are here
        self._ended: list[tuple[Hashable, float]] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Hashable, size: float, now: float) -> None:
        """A job of ``size`` seconds of one core arrives."""
        self._advance(now)
        self._number += 1
        self._jobs[job] = self._number
        heappush(self._order, (self._attained + size, self._number, job))

    def remove(self, job: Hashable, now: float) -> None:
        """A job is given up; nothing happens when it is not here (any more)."""
        self._advance(now)
        self._jobs.pop(job, None)

    def set_speed(self, speed: float, now: float) -> None:
        """From now on a core does ``speed`` seconds of work per second; greater than 0."""
        if speed <= 0:
            raise ValueError(f"at speed {speed:g} no job would ever end")
        self._advance(now)
        self._speed = speed

    def ended(self, now: float) -> list[tuple[Hashable, float]]:
        """Jobs that ended since the last call, up to now, and when each did."""
        self._advance(now)
        ended, self._ended = self._ended, []
        return ended

    def next_end(self) -> float | None:
        """When the next job ends if nothing happens before; None without jobs. May have passed already."""
        if self._ended:
            return self._ended[0][1]
        head = self._head()
        return None if head is None else self._at + (head[0] - self._attained) / self._rate()

    def _rate(self) -> float:
        """Work per second that each job gets; there is one at least."""
        return self._speed * min(1.0, self._cores / len(self._jobs))

    def _head(self) -> tuple[float, int, Hashable] | None:
        """The job that ends next."""
        while self._order and self._jobs.get(self._order[0][2]) != self._order[0][1]:
            heappop(self._order)
        return self._order[0] if self._order else None

    def _advance(self, now: float) -> None:
        """Work up to ``now``: each end before it gives the others more, from its exact time on."""
        while (head := self._head()) is not None:
            rate = self._rate()
            end = self._at + (head[0] - self._attained) / rate
            if end > now:
                self._attained += rate * max(0.0, now - self._at)
                break
            self._attained, self._at = head[0], end
            heappop(self._order)
            del self._jobs[head[2]]
            self._ended.append((head[2], end))
        self._at = max(self._at, now)
