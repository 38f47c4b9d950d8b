"""What the demo does, in phases, and what each phase must show for the demo to be a success."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from sluicegate_agent.lab.tally import Tally

NOTICE_SECONDS = 5.0
"""A refused health check every second, two in a row, and time to act on a busy machine."""


class Phase(Enum):
    """The phases in order: title, what happens, and seconds."""

    STEADY = ("steady", "three backends share the load", 8.0)
    BACKEND_KILLED = ("backend killed", "one backend's server is killed", 11.0)
    BACKEND_JOINS = ("backend joins", "a fourth backend is added to the file", 8.0)
    AGENT_KILLED = ("agent killed", "the agent is killed with -9 and started again", 12.0)

    def __init__(self, title: str, happens: str, seconds: float) -> None:
        self.title = title
        self.happens = happens
        self.seconds = seconds


@dataclass(slots=True)
class Record:
    """What was seen in one phase. Times are seconds after its start."""

    phase: Phase
    tally: Tally = field(default_factory=Tally)
    last_failure: float | None = None
    late: Tally = field(default_factory=Tally)

    def add(self, tally: Tally, after: float) -> None:
        """Count what ended ``after`` seconds into the phase; ``late`` is what ended once a failure must be noticed."""
        self.tally.add(tally)
        if tally.failed:
            self.last_failure = after
        if after > NOTICE_SECONDS:
            self.late.add(tally)


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays which part: names of backends."""

    initial: tuple[str, ...]
    victim: str
    newcomer: str

    def serving(self, phase: Phase) -> set[str]:
        """Backends that must answer in a phase."""
        if phase is Phase.STEADY:
            return set(self.initial)
        living = set(self.initial) - {self.victim}
        return living if phase is Phase.BACKEND_KILLED else living | {self.newcomer}


def complaints(record: Record, cast: Cast) -> Iterable[str]:
    """Why this phase does not show what the demo says; none when it does.

    Only the killed backend may cost anything: requests that were under way to it or were sent to it before its
    health checks failed.
    """
    tally = record.tally
    if not tally.answered:
        yield "no request was answered"
    if tally.skipped:
        yield f"{tally.skipped} requests were never sent: too many were waiting"
    if record.phase is Phase.BACKEND_KILLED:
        if record.late.failed:
            yield f"{record.late.failed} requests failed later than {NOTICE_SECONDS:g} s after the backend was killed"
        if others := set(tally.broken) - {cast.victim}:
            yield f"long connections to living backends broke: {', '.join(sorted(others))}"
    else:
        if tally.failed:
            yield f"{tally.failed} requests failed"
        if tally.broken:
            yield f"long connections broke: {', '.join(sorted(tally.broken))}"
    for family in (4, 6):
        answered = {name for of, name in tally.answers if of == family}
        if missing := cast.serving(record.phase) - answered:
            yield f"no answer over IPv{family} from {', '.join(sorted(missing))}"
