"""Answers ``sluicegate observe``: the recent events, and on request those that come, as a stream.

Filters are the command's: it has the time to take every line apart, the agent has not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from sluicegate_agent.control.durations import DurationError, parse_duration
from sluicegate_agent.control.protocol import JsonObject, stream_line
from sluicegate_agent.control.server import CommandRefusedError, Stream
from sluicegate_agent.dpi.events.hub import EventHub
from sluicegate_agent.dpi.events.recent import Kept, Recent, RecentState

MOST_OBSERVERS = 16
LONGEST_SINCE = 7 * 86_400
"""Seconds. More than is ever kept."""

_KINDS = {"flows": "flow", "alerts": "alert"}
_NOTHING_YET = {
    "flows": "no flow has ended since the agent started: an event tells of a flow when it is over, or idle for long",
    "alerts": "no signature and no action has matched since the agent started",
}


class Observing:
    """The command's other side. ``silence`` says why a kind of event ("flows", "alerts") does not come, or is empty."""

    def __init__(self, hub: EventHub, silence: Callable[[str], str] = lambda _: "") -> None:
        self._hub = hub
        self._silence = silence

    async def observe(self, arguments: dict[str, str]) -> Stream:
        """``what``: flows or alerts; ``since``: a duration; ``follow``: "true" to go on with what comes."""
        what = arguments.get("what", "")
        kind = _KINDS.get(what)
        if kind is None:
            raise CommandRefusedError(f"{what!r} cannot be observed: choose from {', '.join(_KINDS)}")
        try:
            since = arguments.get("since")
            seconds = None if since is None else parse_duration(since, least=1, most=LONGEST_SINCE)
        except DurationError as error:
            raise CommandRefusedError(f"--since: {error}") from error
        recent = self._hub.recent[kind]
        state = recent.state()
        if state.observers >= MOST_OBSERVERS:
            raise CommandRefusedError(f"{MOST_OBSERVERS} others observe {what} already: end one of them")
        oldest = 0 if seconds is None else time.time_ns() - seconds * 1_000_000_000
        chunks = _chunks(recent, oldest, follow=arguments.get("follow") == "true")
        return Stream(self._head(what, state), chunks)

    def _head(self, what: str, state: RecentState) -> JsonObject:
        """What the stream is made from. ``note`` says why there may be nothing in it."""
        sniffers = sorted(each.name for each in self._hub.sniffers.values())
        note = "" if state.kept else _NOTHING_YET[what]
        note = self._silence(what) or note
        if not sniffers:
            note = "no DpiSniffer is in force: put one into the files of the agent; sluicegate status lists them"
        return {
            "what": what,
            "sniffers": sniffers,
            "kept": state.kept,
            "came": state.came,
            "oldestSeconds": time.time() - state.oldest_ns / 1e9 if state.oldest_ns else None,
            "note": note,
        }


async def _chunks(recent: Recent, oldest: int, *, follow: bool) -> AsyncGenerator[bytes, None]:
    loop, more = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        if not more.is_set():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(more.set)

    reader = recent.reader(wake)
    try:
        backlog = True
        while True:
            more.clear()
            kept, missed = reader.read()
            if missed:
                yield stream_line(missed=missed)
            if chunk := _joined(kept, oldest):
                yield chunk
            if kept:
                continue
            if backlog:
                yield stream_line(backlog="done")
                backlog = False
            if recent.closed or not follow:
                break
            await more.wait()
        yield stream_line(end="the agent ends" if follow else "complete")
    finally:
        reader.close()


def _joined(kept: list[Kept], oldest: int) -> bytes:
    return b"".join(each.line for each in kept if each.time_ns >= oldest)
