"""The loader as the agent starts it: compile, verify, pin, and what it leaves when something goes wrong."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_rig import MAPS, TC, XDP, pin_place, request_for, write_sources
from sluicegate_agent.kernel.libbpf import BpfMap, MapType, Program, ProgramType
from sluicegate_agent.loader import client
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.request import Hook, Unit

pytestmark = pytest.mark.kernel

FRAME = bytes(60)
XDP_DROP, XDP_TX = 1, 3


@pytest.fixture
def place() -> Iterator[Path]:
    with pin_place() as directory:
        yield directory


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return write_sources(tmp_path / "sources")


def count(path: Path | None, index: int) -> int:
    assert path is not None
    with BpfMap.open(path) as counts:
        return int(struct.unpack("<Q", counts.lookup(struct.pack("<I", index)) or b"")[0])


def test_a_loaded_set_runs_from_its_pins_alone_and_reaches_its_tail_calls(sources: Path, place: Path) -> None:
    said: list[str] = []
    manifest = client.load(request_for(sources, place), progress=said.append)
    with Program.open(manifest.programs["xdp_main"].path) as program:
        assert program.test_run(FRAME).retval == XDP_TX
    counts = manifest.maps["counts"].path
    assert (count(counts, 0), count(counts, 1)) == (1, 1)
    info = manifest.programs["xdp_main"]
    assert any(line.startswith(f"xdp_main: {info.instructions} instructions") for line in said)
    assert min(info.instructions, info.xlated_bytes, info.jited_bytes, info.verified_instructions) > 0


def test_programs_of_both_hooks_share_one_map(sources: Path, place: Path) -> None:
    manifest = client.load(request_for(sources, place), progress=print)
    with Program.open(manifest.programs["tc_ingress"].path) as program:
        program.test_run(FRAME)
    assert count(manifest.maps["counts"].path, 2) == 1


def test_another_feature_set_keeps_the_maps_and_their_rows(sources: Path, place: Path) -> None:
    first = client.load(request_for(sources, place), progress=print)
    with Program.open(first.programs["xdp_main"].path) as program:
        program.test_run(FRAME)
    second = client.load(request_for(sources, place, later=True), progress=print)
    assert second.maps == first.maps
    assert count(second.maps["counts"].path, 0) == 1
    assert second.set_digest != first.set_digest
    assert first.programs["xdp_main"].path.exists()


def test_a_changed_layout_gets_a_map_of_its_own(sources: Path, place: Path) -> None:
    first = client.load(request_for(sources, place), progress=print)
    write_sources(sources, maps=MAPS.replace("u64 seen;", "u32 seen; u32 more;"))
    second = client.load(request_for(sources, place), progress=print)
    assert second.maps["rows"].path != first.maps["rows"].path
    assert second.maps["counts"].path == first.maps["counts"].path


def test_the_manifest_tells_where_members_lie_with_their_padding(sources: Path, place: Path) -> None:
    manifest = client.load(request_for(sources, place), progress=print)
    rows = manifest.maps["rows"]
    assert rows.path is not None
    with BpfMap.open(rows.path) as opened:
        assert opened.info.value_size == rows.value_dtype.itemsize
        assert (opened.info.type, opened.info.max_entries) == (MapType.HASH, rows.max_entries)
    assert rows.value_dtype["hop"].fields["mac"][1] == 4
    assert rows.value_dtype.fields["seen"][1] == 16


def test_the_template_of_a_map_of_maps_is_described_but_not_pinned(sources: Path, place: Path) -> None:
    manifest = client.load(request_for(sources, place), progress=print)
    assert manifest.maps["tables"].inner == "slots"
    assert manifest.maps["slots"].path is None
    assert {path.name.split("-")[0] for path in (place / "maps").iterdir()} == {"rows", "counts", "tables"}


def test_a_set_that_is_pinned_already_is_found_without_compiling(sources: Path, place: Path, tmp_path: Path) -> None:
    saved = tmp_path / "manifest.json"
    request = request_for(sources, place)
    manifest = client.load(request, progress=print)
    manifest.save(saved)
    assert client.pinned(request, saved) == manifest
    assert client.pinned(request_for(sources, place, later=True), saved) is None
    (manifest.programs["xdp_open"].path).unlink()
    assert client.pinned(request, saved) is None


def test_loading_the_same_set_again_leaves_the_running_one_whole(sources: Path, place: Path) -> None:
    first = client.load(request_for(sources, place), progress=print)
    second = client.load(request_for(sources, place), progress=print)
    assert second.maps == first.maps
    assert not {row.path for row in first.programs.values()} & {row.path for row in second.programs.values()}
    for manifest in (first, second):
        with Program.open(manifest.programs["xdp_main"].path) as program:
            assert program.test_run(FRAME).retval == XDP_TX


def test_a_loader_killed_in_the_middle_can_be_followed_by_another(sources: Path, place: Path) -> None:
    request = request_for(sources, place)
    with subprocess.Popen(
        [sys.executable, "-m", "sluicegate_agent.loader"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as killed:
        assert killed.stdin is not None
        assert killed.stderr is not None
        killed.stdin.write(request.to_json())
        killed.stdin.close()
        assert "compiling" in killed.stderr.readline()  # the first of several things that it does
        killed.kill()
    assert killed.wait(timeout=30) < 0
    manifest = client.load(request, progress=print)
    assert [path.name for path in (place / "programs").iterdir()] == [manifest.set_digest[:12]]
    assert all(path.exists() for path in manifest.pins())


def test_what_a_killed_loader_left_confuses_nobody(sources: Path, place: Path) -> None:
    request = request_for(sources, place)
    unfinished = place / "programs" / f"{client.expected_digest(request)[:12]}-new"
    unfinished.mkdir(parents=True)
    exit_2 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)
    with Program.load(ProgramType.XDP, "old", exit_2) as program:
        program.pin(unfinished / "xdp_main")
    manifest = client.load(request, progress=print)
    assert not unfinished.exists()
    with Program.open(manifest.programs["xdp_main"].path) as program:
        assert program.test_run(FRAME).retval == XDP_TX


def test_a_compile_error_names_the_place_in_the_header(sources: Path, place: Path) -> None:
    write_sources(sources, maps=MAPS.replace("counts.increment(index);", "counts.increment(index)\n;oops;"))
    with pytest.raises(LoaderError) as caught:
        client.load(request_for(sources, place), progress=print)
    assert f"{sources}/maps.h:11:2: error: use of undeclared identifier 'oops'" in caught.value.message
    assert "modprobe" not in caught.value.message


def test_a_warning_is_an_error(sources: Path, place: Path) -> None:
    write_sources(sources, tc=TC.replace("return -1", "int unused; return -1"))
    with pytest.raises(LoaderError, match=r"tc\.c:2:\d+: error: unused variable 'unused'"):
        client.load(request_for(sources, place), progress=print)


def test_a_program_that_the_verifier_rejects_is_reported_and_leaves_no_set(sources: Path, place: Path) -> None:
    write_sources(sources, tc=TC.replace("return -1", "u64 *wild = 0; return *(u64 *)((void *)wild + skb->len)"))
    with pytest.raises(LoaderError, match=r"(?s)the verifier rejects tc_ingress.*R\d.*invalid"):
        client.load(request_for(sources, place), progress=print)
    assert list((place / "programs").iterdir()) == []


@pytest.mark.parametrize(
    ("xdp", "reason"),
    [
        (XDP.replace("int xdp_open", "int xdp_opened"), "xdp.c has no function xdp_open"),
        (XDP + "int helper(struct xdp_md *ctx) { return 0; }\n", "nothing attaches or calls helper"),
        (XDP + 'BPF_TABLE("prog", u32, u32, tails_more, 1);\n', "more than one map tails_"),
    ],
)
def test_sources_that_do_not_match_the_units_are_refused(sources: Path, place: Path, xdp: str, reason: str) -> None:
    write_sources(sources, xdp=xdp)
    with pytest.raises(LoaderError, match=reason):
        client.load(request_for(sources, place), progress=print)


def test_tail_calls_without_a_program_array_are_refused(sources: Path, place: Path) -> None:
    request = replace(request_for(sources, place), units=(Unit("tc.c", Hook.TC, ("tc_egress",), {"tc_ingress": 0}),))
    with pytest.raises(LoaderError, match="has tail calls but no map tails_"):
        client.load(request, progress=print)


def test_a_map_declared_in_two_ways_is_refused(sources: Path, place: Path) -> None:
    write_sources(
        sources,
        tc=f'BPF_TABLE("array", u32, u64, other, 1);\n{TC}'.replace("other", "rows").replace(
            '#include "maps.h"', "#include <uapi/linux/bpf.h>\n#define count(index)"
        ),
    )
    with pytest.raises(LoaderError, match=r"the map rows is declared in two ways, one of them in tc\.c"):
        client.load(request_for(sources, place), progress=print)


def test_a_map_too_large_for_the_kernel_is_reported(sources: Path, place: Path) -> None:
    with pytest.raises(LoaderError, match=r"the kernel refused a map: .*rows.*make the maps smaller"):
        client.load(request_for(sources, place, rows=2**31), progress=print)


def test_without_capabilities_the_loader_says_how_to_run_it(sources: Path, place: Path) -> None:
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "sluicegate_agent.loader"],
        input=request_for(sources, place).to_json(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert "run as root" in answer["remedy"], answer
