"""Where events of live sniffers come together: outputs to write them to, and the recent ones to look at.

Nothing here waits for an output. Each has a thread and a bounded queue of its own, so that a full disk or a reader that
is stuck costs events and nothing else; what it costs is counted.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sluicegate_agent.dpi.events.places import Place, place_of
from sluicegate_agent.dpi.events.recent import Recent, RecentState
from sluicegate_agent.dpi.events.sinks import Sink, open_sink
from sluicegate_agent.dpi.events.writer import Feed, Writer, WriterState
from sluicegate_api.export import EveExport

QUEUE_BYTES = 16 << 20
"""What waits for one output at most: seconds of a busy engine."""
RECENT_BYTES: Mapping[str, int] = {"flow": 8 << 20, "alert": 4 << 20}
"""Event types that can be observed, and how much of each is kept. Each has its own share, or flows would crowd out the
alerts."""
LONGEST_LINE = 256 << 10
"""Bytes. Lines come from processes that read hostile packets."""
CLOSE_SECONDS = 2.0

_BEGINNING = b'{"timestamp":"'


@dataclass(frozen=True, slots=True)
class SnifferEvents:
    """What the hub has to know of a sniffer. ``name`` is namespace/name; without ``eve`` nothing is written."""

    name: str
    eve: EveExport | None = None


@dataclass(frozen=True, slots=True)
class OutputState:
    """How a sniffer's output is. All counts are lines, and only grow while the sniffer has this output.

    ``dropped`` did not fit into the queue; ``lost`` were cut off or left over when the output was closed. ``problem``
    is a sentence without its dot, empty while all is well.
    """

    sniffer: str
    type: str
    path: str
    written: int = 0
    dropped: int = 0
    lost: int = 0
    queued: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class HubStats:
    """All of the hub.

    ``outputs`` by sniffer number; a sniffer that writes nowhere has none. ``events`` by sniffer number and event type.
    ``malformed`` lines were no lines of ours and went nowhere. ``recent`` by event type. ``unread`` counts lines that
    came and went while an observer was too slow to read them.
    """

    outputs: Mapping[int, OutputState]
    events: Mapping[tuple[int, str], int]
    recent: Mapping[str, RecentState]
    malformed: int = 0
    observers: int = 0
    unread: int = 0


class EventHub:
    """Takes lines of all sniffers. Every method may be called in any thread, and none waits but ``close``."""

    def __init__(
        self,
        *,
        queue_bytes: int = QUEUE_BYTES,
        recent_bytes: Mapping[str, int] = RECENT_BYTES,
        sinks: Callable[[Place], Sink] = open_sink,
    ) -> None:
        """No thread is started before a sniffer has an output. ``sinks`` opens outputs; tests give their own."""
        self._queue_bytes = queue_bytes
        self._sinks = sinks
        self._lock = threading.Lock()
        self._sniffers: Mapping[int, SnifferEvents] = {}
        self._writers: dict[tuple[str, str], Writer] = {}
        self._feeds: dict[int, tuple[Writer, Feed]] = {}
        self._closing: list[Writer] = []
        self._events: Counter[tuple[int, str]] = Counter()
        self._malformed = 0
        self.recent: Mapping[str, Recent] = {kind: Recent(size) for kind, size in recent_bytes.items()}
        """By event type: what can be observed."""

    def configure(self, sniffers: Mapping[int, SnifferEvents]) -> None:
        """All sniffers by number, and their outputs; call it again whenever they change.

        Outputs that nobody needs any more are written out and closed in the background; those that stay lose nothing.
        Sniffers that name the same file or socket share it, with the smaller of their limits.
        """
        with self._lock:
            self._configure(sniffers)

    def publish(self, sniffer: int, event_type: str, lines: Sequence[bytes]) -> None:
        """Whole lines, each with its newline, of one type ("flow", "alert", "tls", "stats", ...)."""
        good = [line for line in lines if _is_line(line)]
        now = time.time_ns()
        with self._lock:
            self._malformed += len(lines) - len(good)
            if not good:
                return
            self._events[sniffer, event_type] += len(good)
            known = self._sniffers.get(sniffer)
            feed = self._feeds.get(sniffer)
        if feed is not None:
            feed[0].put(feed[1], good)
        if known is not None and (recent := self.recent.get(event_type)) is not None:
            recent.add(known.name, now, good)

    def stats(self) -> HubStats:
        """Everything, for status and metrics."""
        with self._lock:
            outputs = {
                number: _output_state(self._sniffers[number].name, writer.place, writer.state(feed))
                for number, (writer, feed) in self._feeds.items()
            }
            events, malformed = dict(self._events), self._malformed
        recent = {kind: each.state() for kind, each in self.recent.items()}
        return HubStats(
            outputs,
            events,
            recent,
            malformed,
            sum(each.observers for each in recent.values()),
            sum(each.unread for each in recent.values()),
        )

    @property
    def sniffers(self) -> Mapping[int, SnifferEvents]:
        """As configured."""
        return self._sniffers

    def reopen(self) -> None:
        """Open files anew, as after SIGHUP: for programs that rename log files. Try again at once what failed."""
        with self._lock:
            writers = list(self._writers.values())
        for writer in writers:
            writer.reopen()

    def close(self, seconds: float = CLOSE_SECONDS) -> int:
        """Write what is queued as far as it goes in that time, and end; how many lines were left. Blocks."""
        deadline = time.monotonic() + seconds
        with self._lock:
            self._configure({})
            closing, self._closing = self._closing, []
        for recent in self.recent.values():
            recent.close()
        return sum(writer.join(max(deadline - time.monotonic(), 0.0)) for writer in closing)

    def _configure(self, sniffers: Mapping[int, SnifferEvents]) -> None:
        wanted: dict[tuple[str, str], Place] = {}
        places = {number: place_of(each.eve) for number, each in sniffers.items() if each.eve is not None}
        for place in places.values():
            wanted[place.key] = place.shared_with(wanted.get(place.key, place))
        for key in self._writers.keys() - wanted.keys():
            writer = self._writers.pop(key)
            writer.close()
            self._closing = [each for each in self._closing if each.alive]
            self._closing.append(writer)
        for key, place in wanted.items():
            if key in self._writers:
                self._writers[key].change(place)
            else:
                self._writers[key] = Writer(place, self._sinks, self._queue_bytes)
        before, self._feeds = self._feeds, {}
        for number, place in places.items():
            writer = self._writers[place.key]
            known = before.get(number)
            same = known is not None and known[0] is writer and self._sniffers[number].name == sniffers[number].name
            self._feeds[number] = known if known is not None and same else (writer, Feed())
        for gone in [key for key in self._events if key[0] not in sniffers]:
            del self._events[gone]  # a number goes to another sniffer; its counts must not
        self._sniffers = dict(sniffers)


def _is_line(line: bytes) -> bool:
    return (
        len(line) <= LONGEST_LINE
        and line.startswith(_BEGINNING)
        and line.endswith(b"}\n")
        and line.find(b"\n") == len(line) - 1
    )


def _output_state(name: str, place: Place, state: WriterState) -> OutputState:
    return OutputState(
        name, place.type, place.path, state.written, state.dropped, state.lost, state.queued, state.problem
    )
