"""What the demo shows where there is a terminal, and where there is none."""

from __future__ import annotations

import io
from collections import Counter

from rich.console import Console

from sluicegate_agent.lab.scenario import Phase, Record
from sluicegate_agent.lab.screen import BackendRow, Frame, LiveScreen, PlainScreen, picture, results
from sluicegate_agent.lab.tally import Tally


def frame(elapsed: float) -> Frame:
    record = Record(Phase.BACKEND_KILLED)
    record.add(
        Tally(
            answers=Counter({(4, "backend-1"): 90}),
            failures=Counter({(4, "refused"): 6, (6, "refused"): 4, (6, "reset"): 1}),
            broken=Counter({"backend-2": 3}),
            slowest=0.012,
        ),
        1.0,
    )
    rows = (BackendRow("backend-1", "active", 90.0, 0.75, 90), BackendRow("backend-2", "down", 30.0, 0.25, 30))
    return Frame(elapsed, Phase.BACKEND_KILLED, "pid 7", 120.0, rows, (record,))


def written(width: int = 90) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=width), text


def test_without_a_terminal_there_is_one_line_per_second() -> None:
    console, text = written()
    with PlainScreen(console) as screen:
        for elapsed in (0.1, 0.4, 0.9, 1.2):
            screen.show(frame(elapsed))
        screen.note("something happened")
    first, second, note = text.getvalue().splitlines()
    assert first.split() == second.replace("1 s", "0 s").split()
    assert "backend killed" in first
    assert "120 req/s" in first
    assert "backend-2  25%" in first
    assert note == "something happened"


def test_failures_are_named_by_kind_over_both_families() -> None:
    console, text = written()
    console.print(results(frame(0).records))
    last = " ".join(text.getvalue().splitlines()[-1].split())
    assert last == "backend killed 101 10 refused, 1 reset 3 12 ms"


def test_the_picture_tells_the_share_and_the_state_of_each_backend() -> None:
    console, text = written()
    console.print(picture(frame(12.0)))
    (row,) = [line for line in text.getvalue().splitlines() if "backend-2" in line]
    assert row.split() == ["backend-2", "down", "█" * 6, "25%", "30", "30"]


def test_a_live_screen_leaves_only_the_notes_behind() -> None:
    text = io.StringIO()
    console = Console(file=text, width=90, force_terminal=False)
    with LiveScreen(console) as screen:
        screen.note("the agent is killed")
        screen.show(frame(1.0))
    assert "the agent is killed" in text.getvalue()
