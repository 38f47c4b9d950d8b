r"""Agent check: a port of the backend that says in one line how the backend wants to be used.

The grammar is that of HAProxy's ``agent-check`` (configuration manual, section 5.2): words between spaces, tabs and
commas, in any letter case; the last one of its sort counts; ``#`` begins a note for people.

====================================  ==========================================================================
``75%``                               this part of the configured weight
``weight:N``                          this weight, 0 to 1000 as in the configuration
``maxconn:N``                         noted and shown; limits of connections are not enforced
``ready``, ``drain``, ``maint``       administrative: all well; no new flows; no flows at all
``up``, ``down``, ``failed``,         operational; ``down`` and its synonyms count like failed health checks
``stopped``, ``fail``
====================================  ==========================================================================

What a line does not mention stays as it was stated before. A line with a word that is not in the grammar is refused as
a whole, unlike in HAProxy: half an order is none.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from sluicegate_agent.asking.connection import Connection
from sluicegate_agent.signals.errors import SignalError, printable, quoted
from sluicegate_agent.signals.model import Report, Stated

LONGEST_LINE: Final = 1024
"""Bytes until the end of the line."""
MOST_PERCENT: Final = 1000
"""Ten times the configured weight; HAProxy's own limit depends on the weight, 25,600 for one of 1."""
MOST_WEIGHT: Final = 1000
"""As in the configuration."""
_LONGEST_NOTE: Final = 120

_SEPARATORS = re.compile(rb"[ \t,]+")
_END_OF_LINE = re.compile(rb"[\r\n\0]")
_PERCENT = re.compile(rb"(\d{1,9})%")
_NAMED = re.compile(rb"(weight|maxconn):(\d{1,9})")

_ADMINISTRATIVE = {b"ready": Stated.READY, b"drain": Stated.DRAIN, b"maint": Stated.MAINT}
_OPERATIONAL = {
    b"up": Stated.UP,
    b"down": Stated.DOWN,
    b"fail": Stated.DOWN,
    b"failed": Stated.DOWN,
    b"stopped": Stated.DOWN,
}


async def read_agent(connection: Connection, seconds: float) -> Report:
    """What the agent at the other end says in its first line; ``seconds`` is the time it was given, for words.

    Raises SignalError and OSError.
    """
    line = bytearray()
    while len(line) < LONGEST_LINE:
        received = await connection.receive(LONGEST_LINE - len(line))
        if received is None:
            came = f"its line had no end ({len(line)} bytes came)" if line else "it said nothing"
            raise SignalError(f"connected, but {came} within {seconds:g} s")
        searched = len(line)
        line += received
        if not received or _END_OF_LINE.search(line, searched):
            return parse_line(bytes(line))
    raise SignalError(f"its line is longer than {LONGEST_LINE} bytes: {quoted(bytes(line))}")


def parse_line(answer: bytes) -> Report:
    """The report in the first line of an answer. Raises SignalError."""
    line = _END_OF_LINE.split(answer, 1)[0]
    words, sharp, note = line.partition(b"#")
    report = Report(note=printable(note.strip(), _LONGEST_NOTE))
    given = [word for word in _SEPARATORS.split(words) if word]
    if not given:
        raise SignalError(f"an answer without a word: {quoted(line)}" if sharp else "an empty answer")
    for word in given:
        report = _with_word(report, word, line)
    return report


def _with_word(report: Report, word: bytes, line: bytes) -> Report:
    known = word.lower()
    if known in _ADMINISTRATIVE:
        return replace(report, administrative=_ADMINISTRATIVE[known])
    if known in _OPERATIONAL:
        return replace(report, operational=_OPERATIONAL[known])
    if percent := _PERCENT.fullmatch(known):
        share = _bounded(percent[1], MOST_PERCENT, word)
        return replace(report, share=share / 100, weight=None)
    if named := _NAMED.fullmatch(known):
        if named[1] == b"weight":
            return replace(report, weight=_bounded(named[2], MOST_WEIGHT, word), share=None)
        return replace(report, max_connections=int(named[2]))
    within = "" if word == line else f" in {quoted(line)}"
    raise SignalError(
        f"{quoted(word)}{within} is not in the agent-check grammar: 75%, weight:N, maxconn:N, ready, drain, maint, "
        "up, down, failed, stopped"
    )


def _bounded(digits: bytes, most: int, word: bytes) -> int:
    number = int(digits)
    if number > most:
        raise SignalError(f"{quoted(word)} is above {most}")
    return number


def combined(before: Report | None, now: Report) -> Report:
    """What holds after a further line: what it does not mention stays as it was stated before."""
    if before is None:
        return now
    reweighed = now.share is not None or now.weight is not None
    return replace(
        now,
        share=now.share if reweighed else before.share,
        weight=now.weight if reweighed else before.weight,
        administrative=now.administrative or before.administrative,
        operational=now.operational or before.operational,
        max_connections=before.max_connections if now.max_connections is None else now.max_connections,
        note=now.note if now.note or now.operational or now.administrative else before.note,
    )
