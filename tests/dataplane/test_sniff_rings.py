"""Rings come and go under running programs, outlive the agent, and an update of the programs."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_rig import pin_place
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz
from sluicegate_agent.kernel.libbpf import Program
from sluicegate_agent.loader.carry import carry_all, carry_rest, with_replaced
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.sniffing.model import WORKERS
from sluicegate_agent.sniffing.rings import SMALLEST, SniffRings, ring_bytes
from sluicegate_agent.sniffing.tables import SniffTables
from sniff_rig import load_maps, maps, put_flow, sniff_manifest, write_sources

__all__ = ["maps", "sniff_manifest"]
pytestmark = pytest.mark.kernel

SIZE = 1 << 17
ENTRY = 8 + 128
XDP_DROP, XDP_PASS = 1, 2


@pytest.fixture
def place() -> Iterator[Path]:
    with pin_place() as directory:
        yield directory


@pytest.fixture
def sniffing(maps: KernelTables) -> SniffTables:
    return SniffTables(maps, hertz())


def run(manifest: Manifest) -> int:
    """Let the program write one record into the ring of worker 0."""
    with Program.open(manifest.programs["xdp_main"].path) as program:
        return program.test_run(bytes(60)).retval


def written(descriptor: int) -> int:
    """Bytes that the programs have put into a ring since it was made."""
    page = mmap.PAGESIZE
    with mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page) as producer:
        return int.from_bytes(producer[:8], "little")


def test_programs_write_into_the_ring_of_the_worker(
    maps: KernelTables, sniffing: SniffTables, sniff_manifest: Manifest, place: Path
) -> None:
    with SniffRings(place / "rings") as rings:
        assert run(sniff_manifest) == XDP_DROP
        rings.open(maps, sniffing, 2, SIZE)
        assert sniffing.readers == (2, SIZE)
        assert run(sniff_manifest) == XDP_PASS
        assert [written(descriptor) for descriptor in rings.descriptors] == [ENTRY, 0]
        rings.remove(maps, sniffing)
        assert sniffing.readers == (0, 0)
        assert run(sniff_manifest) == XDP_DROP
        assert not (place / "rings").exists()


def test_the_next_agent_finds_the_records_that_nobody_read(
    maps: KernelTables, sniffing: SniffTables, sniff_manifest: Manifest, place: Path
) -> None:
    with SniffRings(place / "rings") as rings:
        rings.open(maps, sniffing, 1, SIZE)
        run(sniff_manifest)
    run(sniff_manifest)
    with SniffRings(place / "rings") as again:
        again.open(maps, SniffTables(maps, hertz()), 1, SIZE)
        assert written(again.descriptors[0]) == 2 * ENTRY


def test_a_ring_of_another_size_is_made_anew(
    maps: KernelTables, sniffing: SniffTables, sniff_manifest: Manifest, place: Path
) -> None:
    with SniffRings(place / "rings") as rings:
        rings.open(maps, sniffing, 1, SIZE)
        run(sniff_manifest)
        rings.open(maps, sniffing, 1, 2 * SIZE)
        assert sniffing.readers == (1, 2 * SIZE)
        assert written(rings.descriptors[0]) == 0
        run(sniff_manifest)
        assert written(rings.descriptors[0]) == ENTRY


def test_fewer_workers_leave_no_rings_behind_and_keep_their_descriptors(
    maps: KernelTables, sniffing: SniffTables, place: Path
) -> None:
    with SniffRings(place / "rings") as rings:
        rings.open(maps, sniffing, 3, SIZE)
        first = rings.descriptors
        rings.open(maps, sniffing, 1, SIZE)
        assert rings.descriptors == first[:1]
        assert [path.name for path in (place / "rings").iterdir()] == ["ring-0"]
        assert len(list(maps["sniff_rings"].map.keys())) == WORKERS  # an array has all its keys
        assert [maps["sniff_rings"].map.lookup(key.to_bytes(4, "little")) is not None for key in range(3)] == [
            True,
            False,
            False,
        ]


@pytest.mark.parametrize("workers", [0, WORKERS + 1])
def test_there_can_be_so_many_rings(maps: KernelTables, sniffing: SniffTables, place: Path, workers: int) -> None:
    with SniffRings(place / "rings") as rings, pytest.raises(ValueError, match="workers; there can be 1 to 64"):
        rings.open(maps, sniffing, workers, SIZE)


def test_sizes_are_powers_of_two() -> None:
    assert [ring_bytes(size) for size in (1, SMALLEST, SMALLEST + 1, 16 << 20)] == [
        SMALLEST,
        SMALLEST,
        2 * SMALLEST,
        16 << 20,
    ]


@pytest.mark.parametrize("changes", [{}, {"#define SNIFF_WORKERS 64": "#define SNIFF_WORKERS 65"}])
def test_rings_and_flows_outlive_an_update_of_the_programs(
    place: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    """The new layout has another flow table, and with the change another ``sniff_rings``, which begins empty."""
    before = load_maps(write_sources(tmp_path / "before"), place)
    after = load_maps(
        write_sources(tmp_path / "after", {"struct sniff {": "struct sniff { u64 news;", **changes}), place
    )
    after = with_replaced(after, before)
    with (
        KernelTables(before) as old,
        KernelTables(after) as new,
        SniffRings(place / "rings") as rings,
    ):
        rings.open(old, SniffTables(old, hertz()), 1, SIZE)
        run(before)
        put_flow(old, ("10.0.0.1", 1), ("10.0.0.2", 80), flow_id=1 << 32, sent=7)
        carry_all(after)
        carry_rest(after)
        rings.open(new, SniffTables(new, hertz()), 1, SIZE)
        assert run(before) == run(after) == XDP_PASS
        assert written(rings.descriptors[0]) == 3 * ENTRY
        (row,) = [value for _, value in new["sniffs4"].rows()]
        assert (int(row["news"]), int(row["sent"])) == (0, 7)
