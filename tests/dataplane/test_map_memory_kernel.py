"""What ``explain`` says of the kernel's tables is what the kernel accounts for them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from sluicegate_agent.kernel.libbpf import BpfMap, MapType, possible_cpus
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import LoadRequest, bpf_sources
from sluicegate_agent.reports.map_memory import map_memory, selection_table_bytes

pytestmark = pytest.mark.kernel

SLACK = 1024
"""Bytes by which heads of tables differ between kernels."""


def accounted(opened: BpfMap) -> int:
    for line in Path(f"/proc/self/fdinfo/{opened.fd}").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "memlock":
            return int(value)
    raise AssertionError("the kernel does not say what a map costs")


@pytest.fixture(autouse=True)
def _kernel_that_tells() -> None:
    if tuple(map(int, platform.release().split("-")[0].split(".")[:2])) < (6, 4):
        pytest.skip("before Linux 6.4 memlock is an estimate of another kind")


def test_every_table_costs_what_is_said(manifest: Manifest) -> None:
    said = {row.name: row for row in map_memory(LoadRequest(bpf_sources(), Path(), manifest.sizes), possible_cpus())}
    pinned = {name: layout.path for name, layout in manifest.maps.items() if layout.path is not None}
    assert said.keys() == pinned.keys() | manifest.program_arrays.keys()
    for name, path in pinned.items():
        with BpfMap.open(path) as opened:
            real = accounted(opened)
        assert said[name].bytes - SLACK <= real <= said[name].full + SLACK, name
        if said[name].bytes == said[name].full:
            assert abs(said[name].bytes - real) <= SLACK, name


@pytest.mark.parametrize(
    ("kind", "key", "value", "most"),
    [(MapType.LPM_TRIE, 24, 4, 48), (MapType.LPM_TRIE, 12, 4, 36), (MapType.HASH, 16, 88, 160)],
)
def test_an_entry_of_a_table_that_grows_costs_what_is_said(kind: MapType, key: int, value: int, most: int) -> None:
    no_prealloc = 1
    with BpfMap.create(kind, "sgt_memory", key, value, 16, flags=no_prealloc) as opened:
        before = accounted(opened)
        prefix = (8 * (key - 4)).to_bytes(4, "little")
        for number in range(4):
            opened.update(prefix + os.urandom(key - 5) + bytes([number]), bytes(value))
        assert accounted(opened) - before == 4 * most


def test_a_selection_table_costs_what_is_said() -> None:
    with BpfMap.create(MapType.ARRAY, "sgt_memory", 4, 4, 4093) as opened:
        assert abs(accounted(opened) - selection_table_bytes(4093)) <= SLACK
