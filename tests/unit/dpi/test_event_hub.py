"""The hub: sniffers' lines go to their outputs and to whoever looks, and nobody who hands lines over waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from sluicegate_agent.dpi.events.hub import EventHub, SnifferEvents
from sluicegate_agent.dpi.events.places import Place
from sluicegate_agent.dpi.events.sinks import Sink
from sluicegate_api.export import EveExport

EDGE = SnifferEvents("shop/edge", EveExport.model_validate({"type": "File", "path": "/eve.json"}))


def lines(*numbers: int) -> list[bytes]:
    return [b'{"timestamp":"2026","line":%d}\n' % number for number in numbers]


class PretendSink:
    """Takes lines when it is let: ``room`` lines, then it has a problem. Every call is told."""

    def __init__(self, room: int = 1_000_000, *, hold: bool = False) -> None:
        self.problem = ""
        self.room = room
        self.lines: list[bytes] = []
        self.limits: tuple[int, int] | None = None
        self.opened = 0
        self.closed = threading.Event()
        self.called = threading.Semaphore(0)
        self.go = threading.Event()
        if not hold:
            self.go.set()

    def write(self, lines: Sequence[bytes]) -> int:
        self.called.release()
        assert self.go.wait(30)
        done = min(self.room, len(lines))
        self.room -= done
        self.lines += lines[:done]
        self.problem = "" if done == len(lines) else "the disk is full"
        return done

    def limit(self, max_bytes: int, max_files: int) -> None:
        self.limits = (max_bytes, max_files)

    def reopen(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def hub_with() -> Iterator[Callable[..., EventHub]]:
    hubs: list[EventHub] = []

    def make(*sinks: PretendSink, queue_bytes: int = 1 << 20) -> EventHub:
        waiting = list(sinks)

        def opened(place: Place) -> Sink:
            del place
            return waiting.pop(0)

        hubs.append(EventHub(queue_bytes=queue_bytes, sinks=opened))
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.close()


HubWith = Callable[..., EventHub]


def test_lines_are_written_in_order_and_counted(hub_with: HubWith) -> None:
    sink = PretendSink()
    hub = hub_with(sink)
    hub.configure({3: EDGE})
    hub.publish(3, "flow", lines(1, 2))
    hub.publish(3, "alert", lines(3))
    assert hub.close() == 0
    assert sink.lines == lines(1, 2, 3)
    assert sink.closed.is_set()
    assert hub.stats().outputs == {}


def test_a_sniffer_that_exports_nowhere_can_be_observed(hub_with: HubWith) -> None:
    hub = hub_with()
    hub.configure({1: SnifferEvents("shop/edge")})
    hub.publish(1, "flow", lines(1))
    hub.publish(1, "tls", lines(2))
    (kept,), missed = hub.recent["flow"].reader().read()
    assert (kept.sniffer, kept.line, missed) == ("shop/edge", *lines(1), 0)
    stats = hub.stats()
    assert stats.events == {(1, "flow"): 1, (1, "tls"): 1}
    assert stats.outputs == {}


def test_a_stuck_output_costs_events_and_no_time(hub_with: HubWith) -> None:
    sink = PretendSink(hold=True)
    hub = hub_with(sink, queue_bytes=10 * len(lines(10)[0]))
    hub.configure({1: EDGE})
    hub.publish(1, "flow", lines(10))
    assert sink.called.acquire(timeout=30)  # now it is stuck in the first line
    hub.publish(1, "flow", lines(*range(11, 40)))
    hub.publish(1, "flow", lines(41))
    output = hub.stats().outputs[1]
    assert (output.written, output.queued, output.dropped, output.lost) == (0, 10, 21, 0)
    assert hub.stats().recent["flow"].kept == 31  # to be observed none the less
    sink.go.set()
    assert hub.close() == 0
    assert sink.lines == lines(*range(10, 20))  # what waited has no gap


def test_what_cannot_be_written_is_tried_again_until_it_can(hub_with: HubWith) -> None:
    sink = PretendSink(room=2)
    hub = hub_with(sink)
    hub.configure({1: EDGE})
    hub.publish(1, "flow", lines(1, 2, 3))
    assert sink.called.acquire(timeout=30)
    assert sink.called.acquire(timeout=30)  # once more, and there was no room again, or there is none still
    assert hub.stats().outputs[1].problem == "the disk is full"
    sink.room = 10
    hub.reopen()  # does not wait for the next try
    while sink.lines != lines(1, 2, 3):
        assert sink.called.acquire(timeout=30)
    assert hub.close() == 0
    assert sink.opened == 1


def test_what_is_left_at_the_end_is_counted(hub_with: HubWith) -> None:
    sink = PretendSink(room=1)
    hub = hub_with(sink)
    hub.configure({1: EDGE})
    hub.publish(1, "flow", lines(1, 2, 3))
    for _ in range(2):
        assert sink.called.acquire(timeout=30)
    assert hub.close() == 2
    assert sink.lines == lines(1)


def test_an_output_that_is_stuck_at_the_end_does_not_hold_it_up(hub_with: HubWith) -> None:
    sink = PretendSink(hold=True)
    hub = hub_with(sink)
    hub.configure({1: EDGE})
    hub.publish(1, "flow", lines(1, 2))
    assert sink.called.acquire(timeout=30)
    assert hub.close(0.01) == 2
    sink.go.set()
    assert sink.closed.wait(30)


def test_an_output_that_stays_loses_nothing_when_sniffers_change(hub_with: HubWith) -> None:
    sink, other = PretendSink(), PretendSink()
    hub = hub_with(sink, other)
    hub.configure({1: EDGE})
    hub.publish(1, "flow", lines(1))
    elsewhere = SnifferEvents("shop/inner", EveExport.model_validate({"type": "UnixSocket", "path": "/eve.sock"}))
    feed = hub._feeds[1][1]
    hub.configure({1: EDGE, 2: elsewhere})
    assert hub._feeds[1][1] is feed  # its counts go on
    hub.publish(1, "flow", lines(2))
    hub.publish(2, "flow", lines(3))
    hub.configure({2: elsewhere})
    assert sink.closed.wait(30)
    assert sink.lines == lines(1, 2)
    hub.close()
    assert other.lines == lines(3)


def test_counts_of_a_number_end_with_its_sniffer(hub_with: HubWith) -> None:
    hub = hub_with(PretendSink(), PretendSink())
    hub.configure({1: EDGE})
    hub.publish(1, "flow", lines(1))
    hub.configure({})
    hub.configure({1: EDGE})
    assert hub.stats().events == {}
    assert hub.stats().outputs[1].written == 0


def test_two_sniffers_share_a_file_with_the_smaller_limits(hub_with: HubWith) -> None:
    sink = PretendSink()
    hub = hub_with(sink)
    small = {"type": "File", "path": "/eve.json", "maxBytes": 65_536}
    few = {"type": "File", "path": "/eve.json", "maxFiles": 2}
    hub.configure({1: SnifferEvents("a/a", EveExport.model_validate(few))})
    for order in ((few, small), (small, few)):
        sink.limits = None
        hub.configure({1: SnifferEvents("a/a", EveExport.model_validate(few))})
        hub.configure({n: SnifferEvents("a/a", EveExport.model_validate(eve)) for n, eve in enumerate(order, 1)})
        assert sink.limits == (65_536, 2)
    hub.publish(1, "flow", lines(1))
    hub.publish(2, "flow", lines(2, 3))
    hub.configure({1: SnifferEvents("a/a", EveExport.model_validate(few))})
    hub.close()
    assert sink.lines == lines(1, 2, 3)


@pytest.mark.parametrize(
    "line",
    [
        b'{"timestamp":"2026"}',
        b'{"timestamp":"2026"}\n{"timestamp":"2026"}\n',
        b'{"event":"2026"}\n',
        b'{"timestamp":"2026"\n',
        b'{"timestamp":"' + b"x" * (256 << 10) + b'"}\n',
        b"",
    ],
)
def test_what_is_no_line_of_ours_goes_nowhere_and_is_counted(hub_with: HubWith, line: bytes) -> None:
    sink = PretendSink()
    hub = hub_with(sink)
    hub.configure({1: EDGE})
    hub.publish(1, "flow", [*lines(1), line])
    assert hub.stats().malformed == 1
    hub.close()
    assert sink.lines == lines(1)


def test_an_output_that_takes_nothing_is_named(hub_with: HubWith, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate_agent.dpi.events.writer.STUCK_SECONDS", 0.0)
    sink = PretendSink(hold=True)
    hub = hub_with(sink)
    hub.configure({1: EDGE})
    hub.publish(1, "flow", lines(1))
    assert sink.called.acquire(timeout=30)
    assert hub.stats().outputs[1].problem == "/eve.json has taken nothing for 0 s"
    sink.go.set()


def test_real_files_of_two_sniffers(tmp_path: Path) -> None:
    hub = EventHub()
    eves = {
        number: EveExport.model_validate({"type": "File", "path": str(tmp_path / "logs" / f"{number}.json")})
        for number in (1, 2)
    }
    hub.configure({number: SnifferEvents(f"shop/{number}", eve) for number, eve in eves.items()})
    for index in range(100):
        hub.publish(1 + index % 2, "flow", lines(index))
    assert hub.close() == 0
    found = [
        [json.loads(line)["line"] for line in (tmp_path / "logs" / f"{number}.json").read_text().splitlines()]
        for number in (1, 2)
    ]
    assert found == [list(range(0, 100, 2)), list(range(1, 100, 2))]
