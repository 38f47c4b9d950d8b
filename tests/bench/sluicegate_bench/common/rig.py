"""Loaded programs and places for them, gone at the end whatever happens."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sluicegate_agent.kernel import bpffs
from sluicegate_agent.loader.client import load
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.request import Hook, LoadRequest, Unit, bpf_sources

PREFIX = f"sgb-{os.getpid()}"
"""Of every name that the bench gives away outside its own process."""

_CLONE_NEWNET = 0x40000000
_SOURCES = Path(__file__).resolve().parents[2] / "bpf"
_numbers = itertools.count()

FLOORS = (
    Unit("floors_xdp.c", Hook.XDP, ("feed_xdp",), {"empty_xdp": 0, "parse_xdp": 1, "lookup_xdp": 2}),
    Unit("floors_tc.c", Hook.TC, ("feed_tc",), {"empty_tc": 0, "parse_tc": 1, "lookup_tc": 2}),
)
"""Programs of tests/bench/bpf; the indices are those of their program arrays."""

FORWARD = (
    Unit("forward_xdp.c", Hook.XDP, ("generate", "sink_xdp")),
    Unit("forward_tc.c", Hook.TC, ("sink_tc",)),
)
"""Generator and receivers."""


@contextmanager
def pin_directory() -> Iterator[Path]:
    """An own directory in the BPF file system."""
    bpffs.mount_if_missing()
    place = bpffs.ROOT / f"{PREFIX}-{next(_numbers)}"
    place.mkdir()
    try:
        yield place
    finally:
        bpffs.remove_tree(place)


def load_real(pins: Path, *, sources: Path | None = None, **features: bool) -> Manifest:
    """The programs of the product, tables in their default sizes."""
    return load(LoadRequest(sources or bpf_sources(), pins, {}, features), progress=lambda _: None)


def load_own(pins: Path, units: tuple[Unit, ...]) -> Manifest:
    """Programs of tests/bench/bpf."""
    return load(LoadRequest(_SOURCES, pins, {}, {}, units), progress=lambda _: None)


@contextmanager
def own_network() -> Iterator[None]:
    """The calling thread is in an empty network namespace without a name, which goes when the thread leaves it."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, _CLONE_NEWNET)
    finally:
        os.close(home)


@contextmanager
def undisturbed() -> Iterator[None]:
    """The calling thread has one CPU to itself, for a second or two at a time: nobody else's process runs there.

    By a real-time priority, because by default a nice value counts only among the processes of one session. Where the
    machine allows none, measuring goes on without.
    """
    affinity, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    os.sched_setaffinity(0, {last_cpu()})
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, affinity)


def last_cpu() -> int:
    """The CPU to measure on: interrupts prefer the first one."""
    return max(os.sched_getaffinity(0))


def _call(function: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), function)
