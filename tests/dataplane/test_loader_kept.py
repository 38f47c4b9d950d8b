"""Programs from the cache: the same as freshly compiled ones, without a compiler; and never those of something else."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_rig import TC, pin_place, request_for, write_sources
from sluicegate_agent.kernel.libbpf import BpfMap, Program
from sluicegate_agent.loader import client
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import LoadRequest, bpf_sources

pytestmark = pytest.mark.kernel

FRAME = bytes(60)
XDP_TX = 3
TAKEN = ["xdp.c: taken from the cache", "tc.c: taken from the cache"]

# Finding bcc's files must still work: that is how the loader tells which bcc would be used.
WITHOUT_BCC = """\
import sys
def refuse(event, arguments):
    if event == "import" and arguments[0].split(".")[0] == "bcc":
        raise ImportError("bcc was imported")
sys.addaudithook(refuse)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    with pin_place() as directory:
        yield directory


@pytest.fixture
def request_(tmp_path: Path, place: Path) -> LoadRequest:
    return replace(request_for(write_sources(tmp_path / "sources"), place), cache=tmp_path / "cache" / "programs")


@pytest.fixture
def no_bcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = tmp_path / "without_bcc"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(WITHOUT_BCC)
    monkeypatch.setenv("PYTHONPATH", str(directory))


def load(request: LoadRequest) -> tuple[Manifest, list[str]]:
    """The manifest, and what was said of where the units came from, without times."""
    said: list[str] = []
    manifest = client.load(request, progress=said.append)
    origins = [re.sub(r" in [\d.]+ s", "", line) for line in said if re.search("compil|cache", line)]
    return manifest, sorted(origins, reverse=True)


def essence(manifest: Manifest, pins: Path) -> object:
    """All of a manifest but where it is pinned and how long loading took."""
    raw = json.loads(manifest.to_json().replace(str(pins), "PINS"))
    for program in raw["programs"].values():
        del program["load_ms"]
    return raw


def map_infos(manifest: Manifest) -> dict[str, object]:
    infos = {}
    for name, row in manifest.maps.items():
        if row.path is not None:
            with BpfMap.open(row.path) as opened:
                infos[name] = replace(opened.info, id=0)
    return infos


def test_a_second_load_takes_all_from_the_cache_and_comes_to_the_same(
    request_: LoadRequest, no_bcc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as with_bcc, pin_place() as first:
        with_bcc.delenv("PYTHONPATH")
        before, said = load(replace(request_, pins=first))
        assert said == ["xdp.c: compiled", "tc.c: compiled", "compiling xdp.c and tc.c"]
        infos = map_infos(before)
    after, said = load(request_)
    assert said == TAKEN
    assert essence(after, request_.pins) == essence(before, first)
    assert map_infos(after) == infos
    with Program.open(after.programs["xdp_main"].path) as program:
        assert program.test_run(FRAME).retval == XDP_TX


def test_the_data_path_itself_is_the_same_from_the_cache(no_bcc: None, place: Path, tmp_path: Path) -> None:
    request = LoadRequest(bpf_sources(), place, {"FLOWS": 1024}, cache=tmp_path / "cache")
    environment = os.environ.copy()
    with pytest.MonkeyPatch.context() as with_bcc, pin_place() as first:
        with_bcc.delenv("PYTHONPATH")
        before, _ = load(replace(request, pins=first))
        infos = map_infos(before)
    assert os.environ == environment
    after, said = load(request)
    assert said == TAKEN
    assert essence(after, place) == essence(before, first)
    assert map_infos(after) == infos


def test_without_a_cache_bcc_is_needed(request_: LoadRequest, no_bcc: None) -> None:
    with pytest.raises(LoaderError, match="bcc cannot be imported"):
        load(replace(request_, cache=None))


def test_a_request_without_a_cache_compiles_and_keeps_nothing(request_: LoadRequest, tmp_path: Path) -> None:
    load(request_)
    _, said = load(replace(request_, cache=None))
    assert said == ["xdp.c: compiled", "tc.c: compiled", "compiling xdp.c and tc.c"]
    assert len(list((tmp_path / "cache" / "programs").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        (lambda request: write_sources(request.sources, tc=TC.replace("3 : 2", "2 : 3")) and request, ["tc.c"]),
        (lambda request: replace(request, sizes={"ROWS": 32}), ["xdp.c", "tc.c"]),
        (lambda request: replace(request, features={"LATER": True}), ["xdp.c", "tc.c"]),
    ],
    ids=["source", "size", "feature"],
)
def test_what_changed_is_compiled_anew_and_the_rest_is_not(
    request_: LoadRequest, change: Callable[[LoadRequest], LoadRequest], anew: list[str]
) -> None:
    load(request_)
    _, said = load(change(request_))
    compiled = [line.removesuffix(": compiled") for line in said if line.endswith(": compiled")]
    assert compiled == anew
    assert load(change(request_))[1] == TAKEN


def test_entries_of_another_bcc_are_not_used(
    request_: LoadRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load(request_)
    found = importlib.util.find_spec("bcc")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent, tmp_path / "other" / "bcc")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    assert "xdp.c: compiled" in load(request_)[1]


def test_entries_made_with_another_library_or_damaged_are_made_anew(
    request_: LoadRequest, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = load(request_)
    assert request_.cache is not None
    for path in request_.cache.iterdir():
        assert re.search(rb"/libbcc[^/]*\.so", path.read_bytes())
        path.write_bytes(path.read_bytes()[:-10])
    second, said = load(request_)
    assert "tc.c: compiled" in said
    assert sorted(row.message.rpartition(": ")[2] for row in caplog.records) == ["it is damaged", "it is damaged"]
    assert second.maps == first.maps
    assert load(request_)[1] == TAKEN


def test_a_directory_that_others_may_write_is_not_used_and_that_is_said(
    request_: LoadRequest, caplog: pytest.LogCaptureFixture
) -> None:
    load(request_)
    assert request_.cache is not None
    request_.cache.chmod(0o777)
    assert "xdp.c: compiled" in load(request_)[1]
    assert [row.levelname for row in caplog.records] == ["WARNING"]
    assert "others may write it (mode 777)" in caplog.text


def test_a_program_that_the_verifier_rejects_is_not_kept(request_: LoadRequest) -> None:
    write_sources(request_.sources, tc=TC.replace("return -1", "return *(u64 *)(void *)(long)skb->len"))
    with pytest.raises(LoaderError, match="the verifier rejects tc_ingress"):
        load(request_)
    assert request_.cache is not None
    assert list(request_.cache.iterdir()) == []


def test_loaders_at_the_same_time_share_a_cache(request_: LoadRequest) -> None:
    with pin_place() as other, ThreadPoolExecutor(2) as pool:
        requests = (request_, replace(request_, pins=other))
        first, second = (done[0] for done in pool.map(load, requests))
        assert essence(first, request_.pins) == essence(second, other)
    assert load(request_)[1] == TAKEN


def test_without_capabilities_what_is_kept_does_not_load_either(request_: LoadRequest) -> None:
    load(request_)
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "sluicegate_agent.loader"],
        input=request_.to_json(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "run as root" in json.loads(done.stdout)["remedy"], done.stdout
