"""Frames between pool and worker; what comes from a worker may be anything."""

from __future__ import annotations

import json
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_rig import connected, over

from sluicegate_agent.dpi.engine_model import Policy
from sluicegate_agent.dpi.live import messages
from sluicegate_agent.dpi.live.messages import (
    HEADER,
    Configure,
    Frames,
    FromWorker,
    NonsenseError,
    Orders,
    Report,
    ToWorker,
    lines_of,
    report_of,
)
from sluicegate_agent.dpi.live.orders import ended_row
from sluicegate_agent.dpi.live.outbox import Outbox

LINE = b'{"event_type":"flow"}\n'
REPORT = Report(
    config=2, classification="5.0", lines=7, problems={3: "no memory"}, engine={"records": 1 << 63}, sandbox="none"
)


@given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(1, 40), max_size=40))
def test_frames_are_the_same_wherever_the_socket_cuts_them(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages.frame(ToWorker.ENDED, body) for body in bodies)
    frames = Frames()
    found: list[bytes] = []
    for size in [*cuts, len(stream)]:
        found += [body for _, body in frames.feed(stream[:size])]
        stream = stream[size:]
    assert found == bodies


def test_ended_flows_arrive_as_they_were_sent() -> None:
    rows = [
        ended_row(over(7)),
        ended_row(over(8, family=6, client=bytes(range(16)), server=bytes(16), end="reused", tunnel=9, closing=False)),
    ]
    frame = messages.ended(rows)
    back = messages.ended_flows(frame[HEADER.size :])
    assert [row._replace(client=row.client[:4], server=row.server[:4]) for row in back[:1]] == rows[:1]
    assert back[1] == rows[1]
    assert messages.ENDS[back[1].end] == "reused"


def test_rules_that_a_worker_has_are_not_sent_again() -> None:
    orders = {
        1: Orders("a/b", Policy(), digest=b"x", rules=b"old"),
        2: Orders("a/c", Policy(), digest=b"y", rules=b"n"),
    }
    lean = messages.without_rules(Configure(1, "n", orders, {}), {b"x"})
    assert [each.rules for each in lean.orders.values()] == [None, b"n"]
    assert [each.digest for each in lean.orders.values()] == [b"x", b"y"]


def test_lines_and_reports_arrive_as_they_were_sent() -> None:
    (frame,) = messages.lines(3, "flow", [LINE, LINE])
    assert lines_of(frame[HEADER.size :]) == (3, "flow", [LINE, LINE])
    assert report_of(REPORT.packed()[HEADER.size :]) == REPORT


def test_many_lines_are_more_than_one_frame_and_none_is_cut() -> None:
    line = b'{"a":"' + b"x" * 50_000 + b'"}\n'
    frames = list(messages.lines(1, "tls", [line] * 20))
    assert len(frames) > 2
    assert [each for frame in frames for each in lines_of(frame[HEADER.size :])[2]] == [line] * 20
    assert max(map(len, frames)) < messages.MAX_FROM_WORKER


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(16),
        struct.pack("<B15s", 1, b"flow"),
        struct.pack("<B15s", 1, b"flow") + LINE[:-1],
        struct.pack("<B15s", 1, b"stats") + LINE,
        struct.pack("<B15s", 1, b"flow") + b"\n" + LINE,
        struct.pack("<B15s", 1, b"flow") + b"x" + LINE,
        struct.pack("<B15s", 1, b"flow") + LINE[:-1] + b"\0\n}\n",
    ],
)
def test_lines_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(NonsenseError):
        lines_of(body)


@pytest.mark.parametrize(
    "change",
    [
        {"config": -1},
        {"config": True},
        {"config": 1 << 64},
        {"config": 1.5},
        {"lines": None},
        {"sandbox": 3},
        {"problems": {"x": "y"}},
        {"problems": []},
        {"engine": {"records": "1"}},
        {"engine": {str(number): 1 for number in range(1000)}},
        {"classification": ["a"]},
    ],
)
def test_reports_that_are_none_are_refused(change: dict[str, object]) -> None:
    whole = json.loads(REPORT.packed()[HEADER.size :])
    with pytest.raises(NonsenseError):
        report_of(json.dumps(whole | change).encode())


def test_text_of_a_report_is_short_and_printable() -> None:
    whole = json.loads(REPORT.packed()[HEADER.size :])
    found = report_of(json.dumps(whole | {"sandbox": "\x1b[2J" + "a" * 100_000}).encode())
    assert found.sandbox.startswith(" [2J")
    assert len(found.sandbox) <= 512


@given(st.binary(max_size=300))
def test_anything_is_read_or_refused(body: bytes) -> None:
    for read in (lines_of, report_of):
        with suppress(NonsenseError):
            read(body)


def test_lines_that_nobody_reads_are_dropped_and_counted_and_nothing_blocks() -> None:
    ours, theirs = connected()
    with ours, theirs:
        outbox = Outbox(ours, limit=100_000)
        line = b'{"a":"' + b"x" * 1000 + b'"}\n'
        for _ in range(5000):
            outbox.lines(1, "flow", [line])
            outbox.report(REPORT)
            outbox.send()
        assert outbox.made == 5000
        assert outbox.dropped > 4000
        # Who reads again gets whole frames.
        frames, found = Frames(), 0
        while not outbox.empty:
            with suppress(BlockingIOError):
                for kind, body in frames.feed(theirs.recv(1 << 16)):
                    if kind == FromWorker.LINES:
                        found += len(lines_of(body)[2])
            outbox.send()
        with suppress(BlockingIOError):
            while data := theirs.recv(1 << 16):
                found += sum(len(lines_of(body)[2]) for kind, body in frames.feed(data) if kind == FromWorker.LINES)
        assert found == outbox.made - outbox.dropped
