"""What all benchmarks share: figures are paired by round, and a run writes its own section of the docs only."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sluicegate_bench.common.machine import describe
from sluicegate_bench.common.plot import Bar, Line, bars, lines
from sluicegate_bench.common.report import Report, Target, write_documents
from sluicegate_bench.common.series import Series, gather, interleave
from sluicegate_bench.common.table import Table


def make_report(part: str, cell: str) -> Report:
    table = Table("Costs", ("case", "ns"), ((cell, "7"),))
    target = Target("cost", "≤", 2.5, 1.8)
    return Report(part, f"make bench PART={part}", 3.0, describe(), (table,), (target,))


def test_a_ratio_compares_values_of_the_same_round() -> None:
    before_and_after_the_machine_got_slow = Series((10.0, 20.0, 30.0))
    floor = Series((5.0, 10.0, 15.0))

    assert (before_and_after_the_machine_got_slow / floor).values == (2.0, 2.0, 2.0)
    assert (before_and_after_the_machine_got_slow - floor).median == 10.0


def test_spread_is_the_middle_half() -> None:
    assert Series((1.0, 2.0, 3.0, 4.0, 100.0)).spread == (2.0, 4.0)
    assert Series((7.0,)).spread == (7.0, 7.0)


def test_each_round_measures_every_case_once_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []

    def case(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = interleave({name: lambda name=name: case(name) for name in "abc"}, 4, warm_up=1)

    assert [sorted(calls[at : at + 3]) for at in range(0, 15, 3)] == [["a", "b", "c"]] * 5
    assert {name: len(series.values) for name, series in found.items()} == {"a": 4, "b": 4, "c": 4}
    assert min(min(series.values) for series in found.values()) == 4.0


def test_a_group_may_give_several_values_per_round() -> None:
    assert gather([lambda: {"a": [1.0, 2.0]}], 2, warm_up=0)["a"].values == (1.0, 2.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("relation", "value", "met"), [("≤", 2.5, True), ("≤", 2.6, False), ("≥", 6.0, True), ("≥", 5.9, False)]
)
def test_a_target_is_met_or_missed(relation: str, value: float, met: bool) -> None:
    assert Target("what", relation, 2.5 if relation == "≤" else 6.0, value).met is met  # type: ignore[arg-type]


def test_a_report_survives_its_file(tmp_path: Path) -> None:
    report = make_report("packet", "empty")

    assert Report.load(report.save(tmp_path)) == report


def test_a_part_writes_its_own_section_of_the_document_only(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(
        "# A\n\n<!-- bench:packet -->\nold\n<!-- /bench:packet -->\n\n"
        "by hand\n\n<!-- bench:pool -->\nstays\n<!-- /bench:pool -->\n"
    )
    make_report("packet", "parse").save(tmp_path)

    assert write_documents(("packet", "pool"), tmp_path, document) == ["packet"]

    text = document.read_text()
    assert "| parse | 7 |" in text
    assert "old" not in text
    assert text.startswith("# A\n")
    assert text.endswith("by hand\n\n<!-- bench:pool -->\nstays\n<!-- /bench:pool -->\n")


def test_a_document_without_a_place_for_the_part_is_an_error(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("# A\n")
    make_report("packet", "parse").save(tmp_path)

    with pytest.raises(ValueError, match="bench:packet"):
        write_documents(("packet",), tmp_path, document)


def test_pictures_are_well_formed_and_escape_what_they_show() -> None:
    drawn = bars("a < b & c", [Bar("x<y", 3.0, "3 ns"), Bar("none", 0.0, "0")])
    curve = lines("t", [Line("p99", [(0.0, 1.0), (2.0, 3.0)])], x="s", y="ms")

    assert "x<y" in "".join(ET.fromstring(drawn).itertext())  # noqa: S314 - our own text
    assert "p99" in "".join(ET.fromstring(curve).itertext())  # noqa: S314
