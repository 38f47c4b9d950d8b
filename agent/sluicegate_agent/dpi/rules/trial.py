"""Trying patterns one by one before the engine compiles them all, in a process that may be ended.

A pattern that Vectorscan refuses, compiles for too long, that needs too much memory or that takes the scanner too long
per byte is found here, and cannot hurt anything that runs.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Protocol

from sluicegate_agent.dpi.rules.tables import Pattern
from sluicegate_agent.dpi.rules.vectorscan import library

MAX_COST = 6.0
"""Times what one plain content costs on the same sample. Usual expressions have 1 to 2, a word boundary before a class
that repeats a hundred times 9: that one alone took 87 % of the time of a hundred rules."""
MAX_PATTERN_BYTES = 4 << 20
MAX_STREAM_BYTES = 4096
PATTERN_SECONDS = 3.0
TOTAL_SECONDS = 60.0

_ENDED = "compiling it ended the compiler, or took more than its memory"
_CHILD = "sluicegate_agent.dpi.rules.trial_child"

_WORDS = (
    ("Zero-width assertions", "looks ahead or behind, which cannot be done here; write what it looks at as part of it"),
    ("Back-references", "refers back to a group, which cannot be done here; write the text out"),
    ("Possessive", "has a possessive quantifier (such as ++); write it without the second +"),
    ("Atomic groups", "has an atomic group (?>...); write (?:...)"),
    ("conditional", "has a condition (?(...)...), which cannot be done here"),
    ("matches empty buffer", "matches the empty text, so it matches everywhere; ask for at least one byte"),
    ("Embedded start anchors", "has ^ behind something else, where it can never match"),
    ("Embedded end anchors", "has $ before something else, where it can never match"),
    ("can never match", "can never match"),
    ("Bounded repeat is too large", "repeats more than 32767 times"),
    ("allocate memory", "needs too much memory to compile; make its repeats smaller or unbounded"),
    ("Pattern is too large", "is too large when all its repeats are written out; make them smaller or unbounded"),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one pattern. ``cost``: times that of a plain content, None when it was not timed.

    ``refused``: it cannot be expressed; ``quarantined``: it could run, but would hurt. One reason at most.
    """

    cost: float | None = None
    refused: str = ""
    quarantined: str = ""


class Tries(Protocol):
    """Whoever tries patterns."""

    def __call__(self, patterns: Iterable[Pattern]) -> dict[Pattern, Trial]:
        """The outcome of each pattern."""
        ...


@dataclass
class ChildTries:
    """Tries patterns in a child process, which is replaced when a pattern ends it. Keeps what it learnt for reloads."""

    pattern_seconds: float = PATTERN_SECONDS
    total_seconds: float = TOTAL_SECONDS
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._known: dict[Pattern, Trial] = {}
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, patterns: Iterable[Pattern]) -> dict[Pattern, Trial]:
        """The outcome of each pattern, within the total time. Raises NoVectorscanError."""
        library()  # without it every pattern would end the child, and look guilty
        wanted = dict.fromkeys(patterns)
        deadline = self.clock() + self.total_seconds
        late = Trial(quarantined=f"not tried: all rules together took longer than {self.total_seconds:g} s")
        answers: dict[Pattern, Trial] = {}
        try:
            # What may take forever comes last, so that it costs only its own kind their turn.
            for pattern in sorted(wanted, key=_suspicion):
                known = self._known.get(pattern)
                if known is None and self.clock() >= deadline:
                    answers[pattern] = late
                    continue
                answers[pattern] = known or self._try(pattern)
        finally:
            self._end()
        self._known = {pattern: trial for pattern, trial in answers.items() if trial is not late}
        return answers

    def _try(self, pattern: Pattern) -> Trial:
        child = self._child or self._start()
        request = {
            "expression": pattern.expression.decode("latin-1"),
            "flags": pattern.flags,
            "min_offset": pattern.min_offset,
            "max_offset": pattern.max_offset,
        }
        try:
            _pipe(child.stdin).write(json.dumps(request).encode() + b"\n")
            _pipe(child.stdin).flush()
            line = _line(_pipe(child.stdout), self.pattern_seconds)
        except BrokenPipeError:
            line = b""
        if line is None:
            self._end()
            return Trial(quarantined=f"compiling and trying it took longer than {self.pattern_seconds:g} s")
        if not line:
            self._end()
            return Trial(quarantined=_ENDED)
        try:
            return _trial(json.loads(line))
        except ValueError:
            self._end()
            return Trial(quarantined=_ENDED)

    def _start(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(
            [sys.executable, "-m", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _suspicion(pattern: Pattern) -> tuple[int, int]:
    return pattern.expression.count(b"{"), len(pattern.expression)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:  # pragma: no cover  # both ends were asked for
        raise BrokenPipeError
    return pipe


def _line(pipe: IO[bytes], seconds: float) -> bytes | None:
    """One answer, empty when the child ended; None when it took too long."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return pipe.readline() if selector.select(seconds) else None


def _trial(answer: dict[str, object]) -> Trial:
    error = answer.get("error")
    if isinstance(error, str):
        return Trial(refused=next((words for key, words in _WORDS if key in error), f"Vectorscan says: {error}"))
    cost, size, stream = (answer.get(key) for key in ("cost", "size", "stream"))
    if not (isinstance(cost, float) and isinstance(size, int) and isinstance(stream, int)):
        return Trial(quarantined="trying it gave no answer")
    if size > MAX_PATTERN_BYTES:
        return Trial(cost, quarantined=f"takes {size >> 20} MiB of memory, more than {MAX_PATTERN_BYTES >> 20}")
    if stream > MAX_STREAM_BYTES:
        return Trial(cost, quarantined=f"keeps {stream} bytes for each flow, more than {MAX_STREAM_BYTES}")
    if cost > MAX_COST:
        return Trial(
            cost,
            quarantined=f"takes {cost:.0f} times as long as a plain content, more than {MAX_COST:g}; "
            r"begin with a literal, or leave out \b before a class",
        )
    return Trial(cost)
