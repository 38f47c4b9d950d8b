"""The manifest as a file, and the digest that decides whether a pinned map is the one wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sluicegate_agent.loader.layout import Field
from sluicegate_agent.loader.manifest import Manifest, MapLayout, ProgramInfo, layout_digest
from sluicegate_agent.loader.request import Hook
from sluicegate_agent.loader.sources import Reason

FLOWS = MapLayout(Path("/p/maps/flows"), 9, (Field("a", "<u4"),), (Field("b", "<u2"), Field("c", "u1", (6,))), 10, 0)
SLOTS = MapLayout(None, 2, "<u4", "<u4", 1, 0x1000)
MANIFEST = Manifest(
    set_digest="ab",
    source_digest="cd",
    features={"IPV4": True},
    sizes={"FLOWS": 10},
    maps={"flows": FLOWS, "slots": SLOTS, "tables": replace(SLOTS, path=Path("/p/maps/tables"), inner="slots")},
    programs={"xdp_main": ProgramInfo(Path("/p/programs/ab/xdp_main"), Hook.XDP, "12", 3, 24, 30, 5, 0.2)},
    program_arrays={"tails_xdp": Path("/p/programs/ab/tails_xdp")},
    reasons=(Reason("NO_FLOW", "drop", "not known"),),
)


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state" / "manifest.json"
    MANIFEST.save(path)
    assert Manifest.read(path) == MANIFEST
    assert [entry.name for entry in path.parent.iterdir()] == ["manifest.json"]


def test_a_set_is_pinned_when_its_maps_programs_and_arrays_are() -> None:
    names = {str(path.relative_to("/p")) for path in MANIFEST.pins()}
    assert names == {"maps/flows", "maps/tables", "programs/ab/xdp_main", "programs/ab/tails_xdp"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"set_digest": "ab"}', '{"maps": 3}'])
def test_a_damaged_manifest_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    assert Manifest.read(path) is None


def test_a_missing_manifest_is_none(tmp_path: Path) -> None:
    assert Manifest.read(tmp_path / "manifest.json") is None


@pytest.mark.parametrize(
    "other",
    [
        replace(FLOWS, type=1),
        replace(FLOWS, max_entries=11),
        replace(FLOWS, flags=1),
        replace(FLOWS, key=(Field("renamed", "<u4"),)),
        replace(FLOWS, value=(Field("c", "u1", (6,)), Field("b", "<u2"))),
    ],
)
def test_maps_that_differ_in_type_size_flags_or_members_are_different_maps(other: MapLayout) -> None:
    assert layout_digest(other, None) != layout_digest(FLOWS, None)


def test_the_same_layout_at_another_path_is_the_same_map() -> None:
    assert layout_digest(replace(FLOWS, path=None), None) == layout_digest(FLOWS, None)


def test_a_map_of_maps_differs_when_its_template_does() -> None:
    assert layout_digest(SLOTS, replace(SLOTS, value="<u8")) != layout_digest(SLOTS, SLOTS)
