"""What the kernel tests of maps, loader, pins and links share: namespaces, small programs, places to pin."""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sluicegate_agent.kernel import bpffs
from sluicegate_agent.loader import client
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import Hook, LoadRequest, Unit
from sluicegate_agent.pins import Pins
from sluicegate_agent.settings import load_settings

UNITS = (Unit("xdp.c", Hook.XDP, ("xdp_main",), {"xdp_open": 0}), Unit("tc.c", Hook.TC, ("tc_ingress", "tc_egress")))

MAPS = """\
#ifndef MAPS_H
#define MAPS_H
#include <uapi/linux/bpf.h>
struct hop { u32 ifindex; u8 mac[6]; };
struct row { struct hop hop; u64 seen; };
BPF_TABLE("hash", u32, struct row, rows, ROWS);
BPF_TABLE("array", u32, u64, counts, 8);
BPF_F_TABLE("array", u32, u32, slots, 1, BPF_F_INNER_MAP);
BPF_ARRAY_OF_MAPS(tables, "slots", 4);
static inline void count(u32 index) { counts.increment(index); }
#endif
"""
XDP = """\
#include "maps.h"
BPF_TABLE("prog", u32, u32, tails_xdp, 1);
int xdp_open(struct xdp_md *ctx) { count(1); return XDP_TX; }
int xdp_main(struct xdp_md *ctx) {
    u32 key = 5;
    struct row *row = rows.lookup(&key);
    void *table = tables.lookup(&key);
    if (row && !table) return XDP_DROP;
    count(0);
    tails_xdp.call(ctx, 0);
    return XDP_PASS;
}
"""
TC = """\
#include "maps.h"
int tc_ingress(struct __sk_buff *skb) { count(WITH_LATER ? 3 : 2); return -1; }
int tc_egress(struct __sk_buff *skb) { count(WITH_LATER ? 5 : 4); return -1; }
"""


def run(*command: str) -> str:
    """Run a command that must work."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout


def write_sources(directory: Path, **files: str) -> Path:
    """The small programs, with some files replaced (``xdp=...`` is xdp.c)."""
    directory.mkdir(exist_ok=True)
    for name, text in ({"maps": MAPS, "xdp": XDP, "tc": TC} | files).items():
        (directory / f"{name}.{'h' if name == 'maps' else 'c'}").write_text(text)
    return directory


def request_for(sources: Path, pins: Path, *, rows: int = 16, later: bool = False) -> LoadRequest:
    """A request for the small programs; ``later`` selects another feature set with the same maps."""
    return LoadRequest(sources, pins, {"ROWS": rows}, {"LATER": later}, UNITS)


@contextmanager
def pin_place() -> Iterator[Path]:
    """An own directory in the BPF file system."""
    bpffs.mount_if_missing()
    place = bpffs.ROOT / f"sgt-{secrets.token_hex(4)}"
    place.mkdir()
    try:
        yield place
    finally:
        bpffs.remove_tree(place)


@contextmanager
def namespace() -> Iterator[str]:
    """A network namespace with nothing but loopback."""
    name = f"sgt-{secrets.token_hex(4)}"
    run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        run("ip", "netns", "del", name)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """The calling thread is in that namespace for a while; file systems stay as they are."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        assert libc.setns(other, 0) == 0
        yield
    finally:
        back = libc.setns(own, 0)
        os.close(own)
        os.close(other)
        assert back == 0


def add_veth(name: str, *options: str) -> int:
    """A pair ``name`` and ``name``p in the current namespace, both up; the index of ``name``."""
    run("ip", "link", "add", name, *options, "type", "veth", "peer", "name", f"{name}p")
    run("ip", "link", "set", name, "up")
    run("ip", "link", "set", f"{name}p", "up")
    return index_of(name)


def index_of(name: str) -> int:
    """Index of an interface in the current namespace."""
    return int(run("ip", "-o", "link", "show", name).split(":", 1)[0])


@dataclass(frozen=True)
class Sets:
    """Two sets of programs that share their maps."""

    now: Manifest
    later: Manifest


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sets]:
    """Both sets of the small programs, loaded."""
    sources = write_sources(tmp_path_factory.mktemp("sources"))
    cache = load_settings().cache_dir
    with pin_place() as place:
        requests = (replace(request_for(sources, place, later=later), cache=cache) for later in (False, True))
        yield Sets(*(client.load(request, progress=print) for request in requests))


@pytest.fixture
def netns() -> Iterator[str]:
    """The test runs inside this namespace."""
    with namespace() as name, inside(name):
        yield name


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Pins]:
    """Pins of a state directory of its own, nothing pinned yet."""
    own = Pins(tmp_path / "state", run_dir=tmp_path / "run")
    try:
        yield own
    finally:
        own.teardown()
