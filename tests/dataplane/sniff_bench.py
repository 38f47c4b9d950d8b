"""A sniffer on the bench: real rules, rings and verdict words, with the test as the engine that reads and decides.

The thread is kept on one CPU: ids, and what is told of lost records, go by CPU.
"""

from __future__ import annotations

import os
import select
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from enum import IntEnum
from ipaddress import ip_address
from typing import Self

import numpy as np
import numpy.typing as npt

from bench import CLIENT, VIP, VIP_PORT, Bench, Hook, Outcome
from frames import from_client, ip_layer, transport
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.live.ring import KernelRing
from sluicegate_agent.dpi.records import ENTRY, RECORD
from sluicegate_agent.kernel.clock import hertz
from sluicegate_agent.kernel.libbpf import BpfMap, MapType
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_agent.sniffing.model import SniffCounters, SnifferPlan, SniffState, SniffWhy, Tap
from sluicegate_agent.sniffing.tables import SniffTables

NUMBER = 5
"""Of the sniffer that most tests have."""
PLAN = SnifferPlan(NUMBER, "tests/edge", adaptive=False)
RING_BYTES = 64 << 10
CLIENT_PORT = 40000
BIG_ENTRY, SMALL_ENTRY = 1608, 136
"""Bytes that entries of the sizes 1600 and 128 take in a ring."""
WORD = 0xFFFFFFFF
# What each packet is counted under, exactly one of them: SniffCounters.
FATES = (
    *("sent", "empty", "stopped", "dropped", "ignored", "fragments", "unreadable", "lost", "no_worker", "no_room"),
)


class Action(IntEnum):
    """Of a verdict word."""

    STOP = 1
    DROP = 2


@dataclass(frozen=True, slots=True)
class Record:
    """``struct sg_record``, the captured bytes, and the size of the whole entry."""

    ts_ns: int
    flow_id: int
    ifindex: int
    wire_len: int
    index: int
    cap_len: int
    l4_off: int
    pl_off: int
    pl_len: int
    l4_proto: int
    tcp_flags: int
    flags: int
    policy: int
    tunnel: int
    vlan: int
    drops: int
    data: bytes
    size: int


_HEAD = tuple(member.name for member in fields(Record))[:-2]


@dataclass(frozen=True, slots=True)
class SeenFlow:
    """A flow as the programs have it; ends are (address, port) of who opened it and of the other."""

    opener: tuple[str, int]
    other: tuple[str, int]
    ifindex: int
    protocol: int
    id: int
    state: SniffState
    why: SniffWhy
    packets: tuple[int, int]
    octets: tuple[int, int]
    tcp_flags: tuple[int, int]
    sent: int
    payload_packets: int
    payload_bytes: int
    rule: int
    sniffer: int
    first_ns: int

    @property
    def slot(self) -> int:
        """In the verdict words."""
        return self.id & WORD

    @property
    def generation(self) -> int:
        """Which use of its slot it is."""
        return self.id >> 32


@dataclass
class SniffBench:
    """The bench with rings for workers. Use it in a `with` statement."""

    bench: Bench
    _rings: list[KernelRing] = field(default_factory=list)
    _descriptors: list[int] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            cpus = os.sched_getaffinity(0)
            opening.callback(os.sched_setaffinity, 0, cpus)
            os.sched_setaffinity(0, {min(cpus)})
            self.tables = self.bench.tables
            self.sniffing = SniffTables(self.tables, hertz())
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read_by(self, workers: int = 1, size: int = RING_BYTES) -> None:
        """Give the programs rings, empty ones, of which each worker has one."""
        self._rings.clear()
        self._descriptors.clear()
        for worker in range(workers):
            made = self._open.enter_context(BpfMap.create(MapType.RINGBUF, f"ring_{worker}", 0, 0, size))
            self._rings.append(self._open.enter_context(KernelRing(made.fd, size)))
            self._descriptors.append(made.fd)
            self.tables["sniff_rings"].map.update(worker.to_bytes(4, "little"), made.fd.to_bytes(4, "little"))
        self.sniffing.set_readers(workers, size)

    def tap(self, plan: SnifferPlan = PLAN, *devices: str, hook: str = Hook.XDP) -> None:
        """Have one sniffer, on ``c0`` or the given devices, and a reader if there is none."""
        if not self._rings:
            self.read_by()
        taps = [Tap(self.bench.ifindex[name], plan.number, hook == Hook.XDP) for name in devices or ("c0",)]
        applied = self.sniffing.apply([plan], taps)
        assert not applied.refused_plans, applied.refused_plans
        assert not applied.refused_taps

    def untap(self) -> None:
        """Look at nothing; flows and rings stay."""
        self.sniffing.apply([], [])

    def send(self, hook: str, *frames: bytes, device: str = "c0") -> list[Outcome]:
        """Run packets; each is counted by the sniffer once."""
        outcomes = []
        for frame in frames:
            before = self.count()
            outcomes.append(self.bench.send(hook, frame, device))
            after = self.count()
            fates = {name for name in FATES if getattr(after, name) != getattr(before, name)}
            assert after.packets - before.packets == sum(getattr(after, name) - getattr(before, name) for name in FATES)
            assert len(fates) <= 1, fates
        return outcomes

    def fate(self, hook: str, frame: bytes, device: str = "c0") -> str:
        """Run one packet; under what the sniffer counted it."""
        before = self.count()
        (outcome,) = self.send(hook, frame, device=device)
        after = self.count()
        moved = [name for name in FATES if getattr(after, name) != getattr(before, name)]
        assert len(moved) == 1, moved
        assert (outcome.reason == "sniff_dropped") == (moved == ["dropped"])
        return moved[0]

    def fates(self, hook: str, *frames: bytes) -> list[str]:
        """The same for several."""
        return [self.fate(hook, frame) for frame in frames]

    def records(self, worker: int = 0) -> list[Record]:
        """Take what waits."""
        ring, found = self._rings[worker], []
        position = ring.consumed
        while position < ring.produced:
            entry = ring.entry(position)
            assert entry is not None, "an entry that was never finished"
            head = dict(zip(_HEAD, RECORD.unpack_from(entry), strict=True))
            data = entry[RECORD.size : RECORD.size + head["cap_len"]]
            found.append(Record(**head, data=data, size=len(entry)))
            position += ENTRY.size + (len(entry) + 7) // 8 * 8
        ring.consumed = position
        return found

    def wait(self, protocol: int, seconds: float = 10) -> Record:
        """The first record of a protocol, for frames that a device delivers; others may come with them."""
        with select.epoll() as poll:
            poll.register(self._descriptors[0], select.EPOLLIN)
            while True:
                assert poll.poll(seconds), "nothing came up"
                found = [record for record in self.records() if record.l4_proto == protocol]
                if found:
                    return found[0]

    def skip(self) -> None:
        """Take all that waits and look at none of it."""
        for ring in self._rings:
            ring.consumed = ring.produced

    def used(self, worker: int = 0) -> int:
        """Bytes that wait."""
        return self._rings[worker].used

    def count(self, number: int = NUMBER) -> SniffCounters:
        """The sniffer's counters."""
        return self.sniffing.counters().get(number, SniffCounters())

    def flows(self, family: int) -> list[SeenFlow]:
        """All that the programs remember."""
        keys, values = self.bench.rows("sniffs", family)
        return [_flow(key, value) for key, value in zip(keys, values, strict=True)]

    def flow(self, family: int, port: int | None = None) -> SeenFlow:
        """The only one there is; of several, the one of this port, or of ``CLIENT_PORT``."""
        present = self.flows(family)
        if port is not None or len(present) > 1:
            wanted = CLIENT_PORT if port is None else port
            present = [flow for flow in present if wanted in {flow.opener[1], flow.other[1]}]
        (found,) = present
        return found

    def fill(self, hook: str, family: int, entries: int) -> None:
        """Have so many records of ``BIG_ENTRY`` bytes in the ring, each of a flow of its own."""
        for port in range(entries):
            self.bench.run(hook, there(family, Protocol.UDP, payload=bytes(1000), port=1 + port))

    def change(self, family: int, **members: int) -> None:
        """Write members of all flows."""
        table = self.tables.by_family("sniffs", family)
        keys, values = self.bench.rows("sniffs", family)
        values = values.copy()
        for name, value in members.items():
            values[name] = value
        for key, value in zip(keys, values, strict=True):
            table.map.update(key.tobytes(), value.tobytes())

    def pass_time(self, family: int, seconds: float) -> None:
        """Let all flows look as if everything about them had been so much earlier."""
        table = self.tables.by_family("sniffs", family)
        keys, values = self.bench.rows("sniffs", family)
        values = values.copy()
        for name in ("last_seen", "until"):
            values[name] -= round(seconds * hertz())
        for key, value in zip(keys, values, strict=True):
            table.map.update(key.tobytes(), value.tobytes())

    def say(self, flow_id: int, action: int, seconds: int = 0) -> None:
        """A verdict, as a worker writes it."""
        word = flow_id >> 32 << 32 | seconds << 8 | action
        self.tables["sniff_verdicts"].put(self.word_index(flow_id), word.to_bytes(8, "little"))

    def word(self, flow_id: int) -> int:
        """What stands in a flow's slot."""
        raw = self.tables["sniff_verdicts"].map.lookup(self.word_index(flow_id).to_bytes(4, "little"))
        return int.from_bytes(raw or b"", "little")

    def word_index(self, flow_id: int) -> int:
        """Where a flow's word is."""
        return flow_id & WORD & (self.slots - 1)

    @property
    def slots(self) -> int:
        """Verdict words there are."""
        return self.tables["sniff_verdicts"].capacity

    def next_id(self, number: int) -> None:
        """Have this CPU's next flow get the ``number``-th of all ids, which must be one of this CPU's."""
        cpus = possible_cpus()
        assert number % cpus == min(os.sched_getaffinity(0))
        counts = np.full(cpus, number // cpus, "<u8")
        self.tables["sniff_slots"].map.update(bytes(4), counts.tobytes())


def _flow(key: npt.NDArray[np.void] | np.void, value: np.void) -> SeenFlow:
    names = key.dtype.names or ()
    packed = [key["low"], key["high"]] if "low" in names else [key["address"][:1], key["address"][1:]]
    ends = [
        (str(ip_address(address.tobytes())), int(port))
        for address, port in zip(packed, key["port"].byteswap(), strict=True)
    ]
    opener = int(value["flags"]) & 1

    def pair(name: str) -> tuple[int, int]:
        first, second = value[name].tolist()
        return int(first), int(second)

    numbers = {
        name: int(value[name])
        for name in ("id", "sent", "payload_packets", "payload_bytes", "rule", "sniffer", "first_ns")
    }
    return SeenFlow(
        ends[opener],
        ends[1 - opener],
        int(key["ifindex"]),
        int(key["protocol"]),
        state=SniffState(int(value["state"])),
        why=SniffWhy(int(value["why"])),
        packets=pair("packets"),
        octets=pair("octets"),
        tcp_flags=pair("tcp_flags"),
        **numbers,
    )


def there(
    family: int,
    protocol: Protocol = Protocol.TCP,
    flags: str = "PA",
    payload: bytes = b"data",
    *,
    port: int = CLIENT_PORT,
    server_port: int = VIP_PORT,
) -> bytes:
    """A client's frame to a server of nobody's."""
    ip = ip_layer(family, CLIENT[family], VIP[family])
    return bytes(from_client(ip, transport(protocol, flags, port, server_port) / payload))


def back(
    family: int,
    protocol: Protocol = Protocol.TCP,
    flags: str = "PA",
    payload: bytes = b"data",
    *,
    port: int = CLIENT_PORT,
    server_port: int = VIP_PORT,
) -> bytes:
    """The server's frame to that client, on the same link."""
    ip = ip_layer(family, VIP[family], CLIENT[family])
    return bytes(from_client(ip, transport(protocol, flags, server_port, port) / payload))
