"""What tests of limits and selection read and write in the tables that the programs keep for themselves."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address

import numpy as np
import numpy.typing as npt

from bench import CLIENT, VIP, VIP_PORT, Bench, Hook, Outcome
from services import SETTINGS
from sluicegate_agent.datapath.model import BackendId, FrontendId, IPNetwork, Protocol, Put, ServiceId, Settings, Table
from sluicegate_agent.kernel.clock import hertz

WORD = 0xFFFFFFFF
GOLDEN_RATIO = 0x9E3779B1


def mix(value: int) -> int:
    """MurmurHash3's finalizer (Appleby, 2011)."""
    value ^= value >> 16
    value = value * 0x85EBCA6B & WORD
    value ^= value >> 13
    value = value * 0xC2B2AE35 & WORD
    return value ^ value >> 16


def drawn_slots(family: int, protocol: Protocol, port: int, slots: int, draws: int) -> list[int]:
    """The first slots that the client's flow draws, as ``flow_hash()`` and ``draw()`` in bpf/hash.h define them."""
    value = SETTINGS.seed
    words = zip(*(struct.iter_unpack("<I", ip_address(text[family]).packed) for text in (CLIENT, VIP)), strict=True)
    for (source,), (destination,) in words:
        value = (mix(value ^ source) + destination) & WORD
    (sport, dport) = struct.unpack("<HH", struct.pack("!HH", port, VIP_PORT))
    value = mix((mix(value ^ (sport << 16 | dport)) + protocol) & WORD)
    return [mix((value + n * GOLDEN_RATIO) & WORD) * slots >> 32 for n in range(draws)]


def send_to(bench: Bench, hook: Hook, frame: bytes) -> tuple[Outcome, BackendId | None]:
    """Send a client's frame; also tells which backend counted it, as with direct return no address does."""
    before = bench.datapath.counters().backends
    outcome = bench.send(hook, frame)
    after = bench.datapath.counters().backends
    moved = [key for key, row in after.items() if row.request_packets != before[key].request_packets]
    assert len(moved) <= 1
    return outcome, moved[0] if moved else None


def drops(bench: Bench, frontend: int = 1) -> int:
    """Packets that a frontend dropped."""
    return bench.datapath.counters().frontends[FrontendId(frontend)].dropped


def flows(bench: Bench, family: int) -> int:
    """Entries of ``flows``."""
    return len(bench.rows("flows", family)[0])


def rewind(bench: Bench, table: str, family: int, member: str, seconds: float) -> None:
    """Make all rows look as if a time that they hold was ``seconds`` earlier."""
    keys, values = bench.rows(table, family)
    values = values.copy()
    values[member] -= round(seconds * hertz())
    for key, value in zip(keys, values, strict=True):
        bench.tables.by_family(table, family).map.update(key.tobytes(), value.tobytes())


def admission(bench: Bench, service: int = 1) -> npt.NDArray[np.void]:
    """One row, to be changed and written back by :func:`put_admission`."""
    table = bench.tables["admissions"]
    return np.array([table.get(service)], dtype=table.value)


def put_admission(bench: Bench, row: npt.NDArray[np.void], service: int = 1) -> None:
    """Write a row of ``admissions``."""
    bench.tables["admissions"].put(service, row.tobytes())


def bucket(bench: Bench, service: int = 1) -> tuple[int, float]:
    """Time of a service's last refill in jiffies, and the flows that its bucket holds."""
    value = int(admission(bench, service)["bucket"][0])
    return value >> 32, (value & WORD) / hertz()


def set_bucket(bench: Bench, then: int, flows_left: float, service: int = 1) -> None:
    """Write the bucket: ``then`` in jiffies, as the programs read them."""
    row = admission(bench, service)
    row["bucket"] = ((then & WORD) << 32) | round(flows_left * hertz())
    put_admission(bench, row, service)


def half_open(bench: Bench, service: int = 1) -> int:
    """Half-open flows of a service."""
    return int(admission(bench, service)["half_open"].astype(np.int64).sum())


def pass_epochs(bench: Bench, epochs: int, service: int = 1) -> None:
    """Let quarters of the half-open timeout go by; a negative number is what a CPU sees whose clock is behind."""
    row = admission(bench, service)
    counts = row["half_open"][0].copy()
    row["half_open"][0] = np.roll(counts, -epochs)  # what was counted in epoch e stands where e - epochs does
    row["epoch"] = (int(row["epoch"][0]) - epochs) % (1 << 64)
    put_admission(bench, row, service)


def edit_frontend(bench: Bench, service: int = 1, **changes: object) -> None:
    """Change members of a frontend's row."""
    row = bench.datapath.observe().frontends[FrontendId(service)]
    bench.apply(Put(Table.FRONTENDS, FrontendId(service), replace(row, **changes)))


def limited(limit: int) -> Settings:
    """The bench's settings with another quota of half-open flows, and epochs that do not end during a test."""
    return replace(SETTINGS, half_open_limit=limit, half_open_seconds=4000.0)


def allow(bench: Bench, *networks: IPNetwork, service: int = 1) -> None:
    """Write a service's allowed sources."""
    bench.apply(Put(Table.SOURCES, ServiceId(service), frozenset(networks)))
