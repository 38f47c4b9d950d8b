"""Rows outlive a change of their map's layout."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_rig import MAPS, pin_place, request_for, write_sources
from sluicegate_agent.kernel.libbpf import BpfMap, MapType, possible_cpus
from sluicegate_agent.loader import client
from sluicegate_agent.loader.carry import carry_all, carry_rest, with_replaced
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.layout import Field, Layout
from sluicegate_agent.loader.manifest import FORMAT, Manifest, MapLayout

pytestmark = pytest.mark.kernel

HOP: Layout = (Field("ifindex", "<u4"), Field("mac", "u1", (6,)), Field("__pad_end", "u1", (2,)))
OLD: Layout = (Field("hop", HOP), Field("gone", "<u4"), Field("seen", "<u4"), Field("__pad_end", "u1", (4,)))
WIDER_HOP: Layout = (Field("mtu", "<u4"), *HOP)
NEW: Layout = (Field("seen", "<u8"), Field("fresh", "<u8"), Field("hop", WIDER_HOP), Field("words", "<u4", (2,)))


@pytest.fixture
def place() -> Iterator[Path]:
    with pin_place() as directory:
        yield directory


def make(path: Path, map_type: MapType, value: Layout, entries: int = 8) -> MapLayout:
    row = MapLayout(path, map_type, "<u4", value, entries, 0)
    with BpfMap.create(map_type, "rows", 4, row.value_dtype.itemsize, entries) as made:
        made.pin(path)
    return row


def pair(old: MapLayout, new: MapLayout) -> Manifest:
    before = Manifest("a", "", {}, {}, {"rows": old}, {}, {}, (), format=FORMAT - 1)
    return with_replaced(replace(before, set_digest="b", maps={"rows": new}, format=FORMAT), before)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


OLD_ROW = struct.pack("<I6s2xII4x", 7, b"abcdef", 99, 5)
NEW_ROW = struct.pack("<QQII6s2xII", 5, 0, 0, 7, b"abcdef", 0, 0)


@pytest.mark.parametrize("map_type", [MapType.HASH, MapType.LRU_HASH, MapType.ARRAY])
def test_members_are_taken_over_by_name_wherever_they_lie(place: Path, map_type: MapType) -> None:
    manifest = pair(make(place / "old", map_type, OLD), make(place / "new", map_type, NEW))
    with BpfMap.open(place / "old") as old, BpfMap.open(place / "new") as new:
        old.update(u32(3), OLD_ROW)
        carry_all(manifest)
        assert new.lookup(u32(3)) == NEW_ROW


def test_every_cpus_value_is_taken_over(place: Path) -> None:
    manifest = pair(
        make(place / "old", MapType.PERCPU_ARRAY, (Field("packets", "<u4"),)),
        make(place / "new", MapType.PERCPU_ARRAY, (Field("bytes", "<u8"), Field("packets", "<u8"))),
    )
    with BpfMap.open(place / "old") as old, BpfMap.open(place / "new") as new:
        old.update(u32(2), b"".join(struct.pack("<Q", 10 + cpu) for cpu in range(possible_cpus())))
        carry_all(manifest)
        assert new.lookup(u32(2)) == b"".join(struct.pack("<QQ", 0, 10 + cpu) for cpu in range(possible_cpus()))


@pytest.mark.parametrize("map_type", [MapType.HASH, MapType.ARRAY])
def test_a_smaller_map_takes_what_fits_and_says_so(
    place: Path, map_type: MapType, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = pair(make(place / "old", map_type, "<u4", 8), make(place / "new", map_type, "<u4", 3))
    with BpfMap.open(place / "old") as old, BpfMap.open(place / "new") as new:
        for index in range(8):
            old.update(u32(index), u32(index))
        carry_all(manifest)
        carry_rest(manifest)
        kept = list(new.keys())
        assert len(kept) == 3
        assert [new.lookup(key) for key in kept] == kept
    assert "the map rows is smaller than before" in caplog.text


def test_the_rows_of_an_array_are_taken_over_once(place: Path) -> None:
    manifest = pair(make(place / "old", MapType.ARRAY, "<u4"), make(place / "new", MapType.ARRAY, "<u4"))
    with BpfMap.open(place / "old") as old, BpfMap.open(place / "new") as new:
        carry_all(manifest)
        old.update(u32(0), u32(1))
        carry_rest(manifest)
        assert new.lookup(u32(0)) == u32(0)


def test_rows_added_until_the_links_moved_follow_and_newer_ones_stay(place: Path) -> None:
    manifest = pair(make(place / "old", MapType.HASH, OLD), make(place / "new", MapType.HASH, NEW))
    with BpfMap.open(place / "old") as old, BpfMap.open(place / "new") as new:
        old.update(u32(1), OLD_ROW)
        carry_all(manifest)
        old.update(u32(2), OLD_ROW)
        newer = b"\1" + NEW_ROW[1:]
        new.update(u32(1), newer)
        carry_rest(manifest)
        assert (new.lookup(u32(1)), new.lookup(u32(2))) == (newer, NEW_ROW)


def test_an_old_map_that_was_unpinned_meanwhile_is_let_go(place: Path) -> None:
    manifest = pair(make(place / "old", MapType.HASH, OLD), make(place / "new", MapType.HASH, NEW))
    (place / "old").unlink()
    carry_all(manifest)
    carry_rest(manifest)


@pytest.mark.parametrize(
    "change", [{"type": MapType.LRU_HASH}, {"key": "<u8"}, {"path": None}], ids=["type", "key", "unpinned"]
)
def test_maps_of_another_kind_or_key_are_not_taken_over(change: dict[str, object]) -> None:
    old = MapLayout(Path("/old"), MapType.HASH, "<u4", OLD, 8, 0)
    new = replace(old, **({"path": Path("/new")} | change))
    assert pair(old, new).replaced == {}


def test_a_load_after_a_change_of_the_sources_takes_the_rows_over(place: Path, tmp_path: Path) -> None:
    sources = write_sources(tmp_path / "sources")
    first = client.load(request_for(sources, place), progress=print)
    rows = first.maps["rows"].path
    assert rows is not None
    with BpfMap.open(rows) as old:
        old.update(u32(5), struct.pack("<I6s6xQ", 7, b"abcdef", 11))
    write_sources(sources, maps=MAPS.replace("u64 seen;", "u64 added; u64 seen;"))
    second = client.load(request_for(sources, place), progress=print, previous=first)
    assert set(second.replaced) == {"rows"}
    assert second.maps["rows"].path is not None
    with BpfMap.open(second.maps["rows"].path) as new:
        assert new.lookup(u32(5)) == struct.pack("<I6s6xQQ", 7, b"abcdef", 0, 11)
    assert Manifest.from_json(second.to_json()) == second


def test_rows_that_this_version_does_not_know_are_refused_with_what_to_do() -> None:
    newer = MapLayout(Path("/newer"), MapType.HASH, "<u4", NEW, 8, 0)
    ours = replace(newer, path=Path("/ours"), value=OLD)
    left = Manifest("a", "", {}, {}, {"rows": newer}, {}, {}, ())

    with pytest.raises(LoaderError, match="left by a newer version") as refused:
        with_replaced(replace(left, set_digest="b", maps={"rows": ours}), left)

    assert "--teardown" in str(refused.value)
