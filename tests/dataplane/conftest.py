"""Programs and namespace are made once per session, tables are emptied after each test, all goes away at the end."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench import EGRESS, Bench, Hook, lay_out_network
from sluicegate_agent.datapath.kernel import KernelDatapath
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel import bpffs
from sluicegate_agent.kernel.libbpf import MapType, Program
from sluicegate_agent.loader.client import load
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import LoadRequest, bpf_sources
from sluicegate_agent.settings import load_settings
from sniff_bench import SniffBench

CLONE_NEWNET = 0x40000000
SIZES = {"FLOWS": 1024, "NATS": 1024, "SERVICES": 16, "FRONTENDS": 64, "BACKENDS": 128, "NEXTHOPS": 128}
SIZES |= {"SNIFFS": 1024, "SNIFF_SLOTS": 2048, "SNIFF_PREFIXES": 16384}


@pytest.fixture(scope="session")
def manifest() -> Iterator[Manifest]:
    """The real programs with small tables, pinned in a directory of their own."""
    bpffs.mount_if_missing()
    pins = Path("/sys/fs/bpf", f"sgt-{secrets.token_hex(4)}")
    try:
        yield _load(pins)
    finally:
        bpffs.remove_tree(pins)


@pytest.fixture(scope="session")
def hardware_manifest(manifest: Manifest) -> Manifest:
    """The programs for nodes whose interfaces are all hardware, on the same maps."""
    return _load(manifest.programs["xdp_main"].path.parents[2], PARTIAL_CHECKSUMS=False)


@pytest.fixture(scope="session")
def node() -> Iterator[int]:
    """A descriptor of the bench's network namespace, which lives as long as that."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _call("unshare", CLONE_NEWNET)
    try:
        lay_out_network()
        there = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    finally:
        _call("setns", home, CLONE_NEWNET)
    try:
        yield there
    finally:
        os.close(there)
        os.close(home)


@pytest.fixture
def own_network(node: int) -> Iterator[None]:
    """The test's thread is in the bench's namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    _call("setns", node, CLONE_NEWNET)
    try:
        yield
    finally:
        _call("setns", home, CLONE_NEWNET)
        os.close(home)


@pytest.fixture
def bench(manifest: Manifest, own_network: None) -> Iterator[Bench]:
    """Both hooks over empty tables."""
    with KernelTables(manifest) as tables:
        datapath = KernelDatapath(manifest)
        entries = {Hook.XDP: "xdp_main", Hook.TC: "tc_ingress", EGRESS: "tc_egress"}
        programs: dict[str, Program] = {
            hook: Program.open(manifest.programs[name].path) for hook, name in entries.items()
        }
        ifindex = {name: socket.if_nametoindex(name) for name in ("c0", "b0")}
        try:
            yield Bench(manifest, datapath, tables, ifindex, programs)
        finally:
            for program in programs.values():
                program.close()
            datapath.close()
            _empty(tables)


@pytest.fixture
def sniffer(bench: Bench) -> Iterator[SniffBench]:
    """A sniffer to be, with nothing that it looks at."""
    with SniffBench(bench) as rig:
        yield rig


def _load(pins: Path, **features: bool) -> Manifest:
    request = LoadRequest(bpf_sources(), pins, SIZES, features, cache=load_settings().cache_dir)
    return load(request, progress=lambda _: None)


def _empty(tables: KernelTables) -> None:
    for table in tables.values():
        kind, rows = table.map.info.type, table.capacity
        if kind in {MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE, MapType.ARRAY_OF_MAPS}:
            for key in list(table.map.keys()):
                table.map.delete(key)
        else:
            keys = np.arange(rows, dtype="<u4")
            table.map.update_batch(keys.tobytes(), bytes(rows * table.map.stored_size), rows)


def _call(function: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), function)
