"""What the demo shows where there is a terminal, and where there is none."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from rich.text import Text

from sluicegate_agent.lab.demo.failover_script import Phase, Record
from sluicegate_agent.lab.demo.failover_view import BackendRow, FailoverFrame, results
from sluicegate_agent.lab.demo.inspection_script import ALONE, SITES, SNIFFED, Traffic
from sluicegate_agent.lab.demo.inspection_script import Phase as InspectionPhase
from sluicegate_agent.lab.demo.inspection_view import InspectionFrame, listed, megabytes, packets, percent
from sluicegate_agent.lab.demo.screen import Frame, LiveScreen, PlainScreen
from sluicegate_agent.lab.demo.svg import svg
from sluicegate_agent.lab.demo.weights_script import CORES, DYNAMIC, FAILING, STATIC, Row, Weight
from sluicegate_agent.lab.demo.weights_script import Phase as WeightsPhase
from sluicegate_agent.lab.demo.weights_view import SideNow, WeightsFrame, comparison, duration
from sluicegate_agent.lab.intruder import Standing
from sluicegate_agent.lab.outcomes import Figures
from sluicegate_agent.lab.tally import Tally

SMALLEST_TERMINAL = (80, 24)
ROOT = Path(__file__).parents[3]


def failover_frame(elapsed: float) -> FailoverFrame:
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
    return FailoverFrame(elapsed, Phase.BACKEND_KILLED, "pid 7", 120.0, rows, (record,))


def weights_frame(elapsed: float, phase: WeightsPhase = WeightsPhase.HOLE) -> WeightsFrame:
    good = Figures(100, Counter(), Counter(dict.fromkeys(CORES, 25)), 0.05, 0.125, 0.001)
    bad = Figures(100, Counter({"timeout": 7}), Counter({"backend-1": 93}), 0.05, math.inf, 0.001)
    weights = {name: Weight(100, 50.0 * cores) for name, cores in CORES.items()}
    weights[FAILING] = Weight(100, 5.0, "61 % of new flows fail [reset before any byte]: errors 0.78 " * 3)
    sides = {STATIC: SideNow(bad, {"backend-1": bad}), DYNAMIC: SideNow(good, dict.fromkeys(CORES, good))}
    rows = tuple(Row(phase, bad, good, {STATIC: bad, DYNAMIC: good}) for phase in WeightsPhase)
    return WeightsFrame(elapsed, phase, 3.0, sides, weights, rows)


def inspection_frame(elapsed: float, phase: InspectionPhase = InspectionPhase.ATTACK) -> InspectionFrame:
    names = {kind: Counter(dict.fromkeys([*SITES, "mirror.example", "more.example"], 1234)) for kind in ("http", "tls")}
    return InspectionFrame(
        elapsed,
        phase,
        visits={"http": 12345, "tls": 12345, "dns": 0},
        failed=0,
        names={**names, "dns": Counter()},
        speeds={SNIFFED: 1.9e9, ALONE: 2e9},
        known="TLS to mirror.example",
        alert="Password file asked for",
        standing=Standing(412, 4, 41.0),
        traffic=Traffic(12_345_678, 123_456, 7_654_321, 12_345, 4_321_987, 0, 1),
    )


FRAMES = pytest.mark.parametrize(
    "frame",
    [failover_frame(1.0), weights_frame(1.0), inspection_frame(1.0)],
    ids=["failover", "weights", "inspection"],
)


def written(width: int = 90) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=width), text


def lines_with(text: io.StringIO, word: str) -> list[list[str]]:
    return [line.split() for line in text.getvalue().splitlines() if word in line]


def test_without_a_terminal_there_is_one_line_per_second() -> None:
    console, text = written()
    with PlainScreen(console) as screen:
        for elapsed in (0.1, 0.4, 0.9, 1.2):
            screen.show(failover_frame(elapsed))
        screen.note("something happened to [it]")
    first, second, note = text.getvalue().splitlines()
    assert first.split() == second.replace("1 s", "0 s").split()
    assert "backend killed" in first
    assert "120 req/s" in first
    assert "backend-2  25%" in first
    assert note == "something happened to [it]"


def test_a_line_of_the_second_act_has_both_sides_and_the_weights() -> None:
    assert " ".join(weights_frame(31.0).line.split()) == (
        "31 s black hole static p50 50 ms p99 ∞ failed 7 dynamic p50 50 ms p99 125 ms failed 0 weights 50 5 100 200"
    )


def test_failures_are_named_by_kind_over_both_families() -> None:
    console, text = written()
    console.print(results(failover_frame(0).records))
    last = " ".join(text.getvalue().splitlines()[-1].split())
    assert last == "backend killed 101 10 refused, 1 reset 3 12 ms"


def test_the_first_picture_tells_the_share_and_the_state_of_each_backend() -> None:
    console, text = written()
    console.print(failover_frame(12.0).picture())
    assert lines_with(text, "backend-2") == [["backend-2", "down", "█" * 6, "25%", "30", "30"]]


def test_the_second_picture_tells_weight_share_and_latency_of_each_backend_on_both_sides() -> None:
    console, text = written()
    console.print(weights_frame(12.0).picture())
    dynamic, static = lines_with(text, "backend-4")
    assert " ".join(dynamic) == f"backend-4 4 cores 100 → 200 {'█' * 12} 25% 50 ms 125 ms"
    assert " ".join(static) == "backend-4 4 cores 100 0% – –"  # noqa: RUF001


def test_the_second_picture_says_why_the_lowest_weight_is_low() -> None:
    console, text = written()
    console.print(weights_frame(12.0).picture())
    (line,) = [line for line in text.getvalue().splitlines() if "status:" in line]
    assert line.strip().startswith("status: backend-2: 61 % of new flows fail [reset before any byte]")
    assert line.rstrip().endswith("…")


def test_a_line_of_the_third_act_has_the_share_sent_up_and_the_attackers_fate() -> None:
    assert " ".join(inspection_frame(17.0).line.split()) == (
        "17 s attack 12340 names found failed 0 sent up 1.5% of 12345678 packets download 1900 MB/s"
        " attacker answered 4 of 412"
    )


def test_the_third_picture_names_what_was_asked_for_and_the_alert() -> None:
    console, text = written()
    console.print(inspection_frame(17.0).picture())
    (tls,) = lines_with(text, "TLS  ")
    assert " ".join(tls) == "TLS 12345 shop.example, mail.example, www.wikipedia.org, 2 more"
    (attacker,), (alert,) = lines_with(text, "attacker"), lines_with(text, "alert:")
    assert " ".join(attacker) == "attacker 4 of 412 requests answered"
    assert " ".join(alert) == "alert: Password file asked for; dropped for 60 s"
    slower, faster = (lines_with(text, side)[0] for side in ("sniffed", "left alone"))
    assert slower == ["sniffed", "1900", "MB/s", "█" * 23, "TLS", "to", "mirror.example"]
    assert faster == ["left", "alone", "2000", "MB/s", "█" * 24]


def test_what_is_not_there_yet_is_a_dash() -> None:
    console, text = written()
    nothing = InspectionFrame(
        0.0,
        InspectionPhase.KNOWN,
        visits={},
        failed=0,
        names={},
        speeds={SNIFFED: None, ALONE: None},
        known="",
        alert="",
        standing=Standing(0, 0),
        traffic=Traffic(),
    )
    console.print(nothing.picture(), packets(Traffic()), f"{percent(None)} {megabytes(None)} {nothing.line}")
    assert text.getvalue().count("–") == 8  # noqa: RUF001


def test_few_names_are_all_listed_and_many_are_counted() -> None:
    assert listed(Counter({"a.example": 1, "b.example": 2})) == "b.example, a.example"
    assert listed(Counter(dict.fromkeys("abcdef", 1))) == "a, b, c, 3 more"


@pytest.mark.parametrize(
    "frame",
    [
        failover_frame(1.0),
        *(weights_frame(1.0, phase) for phase in WeightsPhase),
        *(inspection_frame(1.0, phase) for phase in InspectionPhase),
    ],
)
def test_a_picture_fits_on_the_smallest_terminal(frame: Frame) -> None:
    width, height = SMALLEST_TERMINAL
    console, text = written(width)
    console.print(frame.picture())
    wide, _ = written(200)
    lines = text.getvalue().splitlines()
    assert len(lines) == len(wide.render_lines(frame.picture(), pad=False))
    assert len(lines) <= height
    assert sum("…" in line for line in lines) <= 1  # only the reason may be cut


def test_the_comparison_is_by_phase() -> None:
    console, text = written()
    console.print(comparison(weights_frame(0).rows))
    (row,) = lines_with(text, "black hole")
    assert " ".join(row) == "black hole 50 ms 50 ms ∞ 125 ms > 24× 7 0"  # noqa: RUF001


def test_numbers_for_people() -> None:
    assert [duration(value) for value in (0.0004, 0.042, 0.9996, 2.34, math.inf, math.nan)] == [
        "0 ms",
        "42 ms",
        "1.0 s",
        "2.3 s",
        "∞",
        "–",  # noqa: RUF001
    ]


@FRAMES
def test_a_live_screen_leaves_only_the_notes_behind(frame: Frame) -> None:
    text = io.StringIO()
    console = Console(file=text, width=90, force_terminal=False)
    with LiveScreen(console) as screen:
        screen.note("the agent is killed")
        screen.show(frame)
    assert "the agent is killed" in text.getvalue()


def check_picture(text: str) -> None:
    """It is well-formed, and nothing in it is fetched from anywhere."""
    ET.fromstring(text)  # noqa: S314
    assert set(re.findall(r"https?:[^\"'\s)]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|@font-face|url\((?!#)|<script|<image|href", text)


@FRAMES
def test_a_picture_file_is_whole_and_loads_nothing_from_elsewhere(frame: Frame) -> None:
    text = svg("the demo", [Text("$ sluicegate demo", "bold"), frame.picture()])
    check_picture(text)
    assert re.search(r"backend-2|attacker", text)


@pytest.mark.parametrize("name", ["failover.svg", "weights.svg", "inspection.svg"])
def test_the_pictures_of_the_readme_load_nothing_from_elsewhere(name: str) -> None:
    check_picture((ROOT / "docs" / "images" / name).read_text())
    assert f"docs/images/{name}" in (ROOT / "README.md").read_text()
