"""Real workers on rings of plain memory, laid out as the kernel lays out its own."""

from __future__ import annotations

import asyncio
import functools
import json
import mmap
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_rig import SECOND, facts_of
from scapy.packet import Packet

from sluicegate_agent.dpi.live.pool import WorkerConfig, WorkerPolicy, WorkerPool, WorkerState, worker_policy
from sluicegate_agent.dpi.records import ENTRY, MemoryRing, flow_id
from sluicegate_agent.dpi.rules.load import RuleSource, load
from sluicegate_api.dpisniffer import DpiSniffer

PAGE = mmap.PAGESIZE
SIZE = 1 << 18
SLOTS = 1024
PATIENCE = 15.0
SNIFFER = 3
IFINDEX = 70001
STOP, DROP = 1, 2


def live(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """An asynchronous test in an event loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **fixtures: Any) -> None:
        asyncio.run(test(*arguments, **fixtures))

    return run


class SharedRing(MemoryRing):
    """The kernel's side of a ring: entries are written twice, because plain memory is not mapped twice in a row."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__(0)
        self.size = size
        self.descriptor = os.memfd_create("test-ring")
        os.ftruncate(self.descriptor, 2 * PAGE + 2 * size)
        self.pages = mmap.mmap(self.descriptor, 2 * PAGE + 2 * size)

    @property
    def position(self) -> int:
        """What the reader took."""
        return int(struct.unpack_from("<Q", self.pages, 0)[0])

    def put_raw(self, header: bytes, l3: bytes | memoryview = b"") -> bool:
        body = header + bytes(l3)
        entry = ENTRY.pack(len(body), 0) + body
        entry += bytes(-len(entry) % 8)
        if self.produced + len(entry) - self.position > self.size:
            return False
        at = self.produced % self.size
        room = self.size - at
        for start, part in ((at, entry), (at + self.size, entry[:room]), (0, entry[room:])):
            self.pages[2 * PAGE + start : 2 * PAGE + start + len(part)] = part
        self.produced += len(entry)
        struct.pack_into("<Q", self.pages, PAGE, self.produced)
        return True

    def close(self) -> None:
        self.pages.close()
        os.close(self.descriptor)


@dataclass(frozen=True)
class Over:
    """A flow that the kernel says is over."""

    flow_id: int
    packets: tuple[int, int] = (100, 200)
    octets: tuple[int, int] = (10_000, 2_000_000)
    family: int = 4
    client: bytes = bytes((192, 0, 2, 10))
    server: bytes = bytes((198, 51, 100, 20))
    ports: tuple[int, int] = (40000, 80)
    protocol: int = 6
    ifindex: int = IFINDEX
    first_ns: int = SECOND
    last_ns: int = 9 * SECOND
    state: int = 2
    why: int = 3
    sent: int = 7
    closing: bool = True
    sniffer: int = SNIFFER
    tunnel: int = 0
    end: str = "idle"


def policy(rules: str = "", name: str = "edge", **spec: Any) -> WorkerPolicy:
    """A sniffer with rules."""
    if rules:
        spec["signatures"] = {"inline": rules}
    sniffer = DpiSniffer.model_validate({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
    loaded = load([RuleSource("test", rules)], tries=lambda _: {}) if rules else None
    return worker_policy(sniffer, loaded)


def configuration(*policies: WorkerPolicy) -> WorkerConfig:
    """The sniffers have numbers from 3 on."""
    return WorkerConfig(dict(enumerate(policies, SNIFFER)), "node-1", {IFINDEX: "eth7"})


@dataclass
class Stage:
    """A pool, the kernel's side of its rings, and what it said."""

    pool: WorkerPool
    rings: list[SharedRing]
    words: mmap.mmap
    heard: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    worker: int = 0  # which ring `put` writes to
    sniffer: int = SNIFFER

    def put(self, packet: Packet, flow: int = 1, *, reverse: bool = False, **changes: int) -> None:
        """A packet goes up, as `engine_rig.Rig.put`."""
        fields = facts_of(packet, flow, reverse=reverse)
        fields |= {"ts_ns": time.time_ns(), "policy": self.sniffer, "ifindex": IFINDEX}
        assert self.rings[self.worker].put(bytes(packet), **(fields | changes))

    def word(self, flow: int) -> tuple[int, int, int]:
        """Generation, seconds and action of a slot's verdict."""
        (word,) = struct.unpack_from("<Q", self.words, flow * 8)
        return word >> 32, word >> 8 & 0xFFFFFF, word & 0xFF

    def of(self, event_type: str) -> list[dict[str, Any]]:
        return [event for _, kind, event in self.heard if kind == event_type]

    def take(self, sniffer: int, event_type: str, lines: list[bytes]) -> None:
        self.heard += [(sniffer, event_type, json.loads(line)) for line in lines]

    @property
    def state(self) -> WorkerState:
        return self.pool.states()[self.worker]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that other processes do."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, (self.pool.states(), self.heard)
            await asyncio.sleep(0.005)

    async def settled(self, config: WorkerConfig) -> None:
        """All workers do it."""
        await self.pool.configure(config)
        await self.until(lambda: all(state.config == self.pool.version for state in self.pool.states()))

    async def drained(self) -> None:
        await self.until(lambda: all(ring.position == ring.produced for ring in self.rings))


@asynccontextmanager
async def stage(folder: Path, workers: int = 1, **options: Any) -> AsyncIterator[Stage]:
    """A pool without a configuration."""
    rings = [SharedRing() for _ in range(workers)]
    verdicts = os.memfd_create("test-verdicts")
    try:
        os.ftruncate(verdicts, SLOTS * 8)
        with mmap.mmap(verdicts, SLOTS * 8) as words:
            heard: list[Stage] = []
            pool = WorkerPool(
                [ring.descriptor for ring in rings],
                SIZE,
                verdicts,
                folder,
                lambda sniffer, kind, lines: heard[0].take(sniffer, kind, lines),  # noqa: PLW0108  # there is none yet
                **options,
            )
            async with pool:
                heard.append(Stage(pool, rings, words))
                yield heard[0]
    finally:
        os.close(verdicts)
        for ring in rings:
            ring.close()


def over(flow: int = 1, **fields: Any) -> Over:
    """The flow in this slot is over."""
    return Over(flow_id(flow, 7), **fields)


def status_of(pid: int) -> Mapping[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def connected() -> tuple[socket.socket, socket.socket]:
    """Two ends that do not block."""
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    return pair
