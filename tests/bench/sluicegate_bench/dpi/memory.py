"""Memory of a worker's process: engine, rules and events with many flows that all go on.

``python -m sluicegate_bench.dpi.memory DIRECTORY FLOWS`` fills one and prints what it came to, in bytes.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sluicegate_agent.dpi.engine_model import Limits
from sluicegate_agent.dpi.events.lines import EveLines, Origin
from sluicegate_agent.dpi.live.story import Story
from sluicegate_agent.dpi.offline_engine import open_engine
from sluicegate_agent.dpi.records import REVERSE, MemoryRing, flow_id
from sluicegate_bench.dpi import transcripts
from sluicegate_bench.dpi.sending import Writer, sniffer
from sluicegate_bench.dpi.traffic import TCP, Ends, Side, Talk

FLOWS = 100_000
_ETHERNET = 14
_SECONDS = 120.0
_START = 1_700_000_000_000_000_000
_BATCH = 512


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of the process with no flow and with all; ``undecided`` flows hold nDPI's state."""

    empty: int
    full: int
    flows: int
    undecided: int
    streams: int


def measure(directory: Path, flows: int = FLOWS) -> Memory:
    """In a process of its own. Raises RuntimeError when that fails."""
    command = [sys.executable, "-m", "sluicegate_bench.dpi.memory", str(directory), str(flows)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return Memory(**json.loads(done.stdout))


def fill(directory: Path, flows: int) -> Memory:
    """In this process: a third HTTP after its request, a third TLS after its hello, a third of an unknown protocol."""
    ring = MemoryRing(8 << 20)
    with open_engine(sniffer(directory), Limits(max_flows=1 << 17), directory) as opened:
        native, listener = opened.engine, Writer()
        story = Story(EveLines(Origin("bench/bench", "bench"), native, opened.signatures), listener)
        words = bytearray(8 << 17)
        native.use_verdicts(words)
        empty = _resident()
        beginnings = _beginnings()
        for number in range(flows):
            _put(ring, next(beginnings), number)
            if number % _BATCH == _BATCH - 1 or number == flows - 1:
                while ring.produced:
                    story.take(native.run(ring))
                listener.lines.clear()  # handed over
        stats = native.stats()
        if stats["flows_now"] != flows:
            raise RuntimeError(f"{stats['flows_now']} of {flows} flows are there")
        return Memory(empty, _resident(), flows, stats["undecided_now"], stats["streams_now"])


def _beginnings() -> Iterator[Talk]:
    source = random.Random(1)  # noqa: S311 - the same flows in every run
    hellos = [said[0][1] for said in transcripts.tls([f"www{number}.example.net" for number in range(8)]).values()]
    number = 0
    while True:
        number += 1
        client = bytes((10, 64 + (number >> 16), number >> 8 & 255, number & 255))
        port = (80, 443, 7777)[number % 3]
        talk = Talk(Ends(client, bytes((10, 100, 0, 1)), 1025 + number % 60000, port), source)
        talk.open()
        if port == 80:
            path = f"/{number}.html"
            talk.say(Side.CLIENT, transcripts.http_request("www.example.org", path, "Mozilla/5.0 (bench)"))
        elif port == 443:
            talk.say(Side.CLIENT, source.choice(hellos))
        else:
            talk.say(Side.CLIENT, source.randbytes(200))
        yield talk


def _put(ring: MemoryRing, talk: Talk, number: int) -> None:
    for index, (_, frame) in enumerate(talk.frames, 1):
        packet = frame[_ETHERNET:]
        payload_at = 20 + (packet[32] >> 4) * 4
        if packet[33] == 16 and payload_at == len(packet):
            continue  # empty segments do not go up
        ring.put(
            packet,
            ts_ns=_START + number * 1000,
            flow_id=flow_id(number, 1),
            l4_off=20,
            pl_off=payload_at,
            pl_len=len(packet) - payload_at,
            l4_proto=TCP,
            tcp_flags=packet[33],
            flags=0 if packet[12:16] == talk.ends.client else REVERSE,
            ifindex=1,
            index=index,
        )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(asdict(fill(Path(sys.argv[1]), int(sys.argv[2])))))
