"""The process that trial.py talks to: a pattern in JSON on each line in, its outcome on each line out.

It imports little, so that starting it again is cheap, and bounds its own memory.
"""

from __future__ import annotations

import base64
import json
import random
import resource
import sys
import time

from sluicegate_agent.dpi.rules.tables import DOT_ALL, SINGLE_MATCH, Pattern
from sluicegate_agent.dpi.rules.vectorscan import CompileError, Database

_MEMORY = 2 << 30
_PIECE = 1400
_ROUNDS = 5
_SLOW_SECONDS = 0.2
"""A first round above this is answer enough."""

_REQUEST = (
    b"GET /shop/cart.php?id=1042&ref=%2Fnews%2F HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nCookie: session=8f14e45fceea167a; theme=dark\r\n\r\n"
)


def sample() -> list[list[bytes]]:
    """Streams in pieces of a packet's size, always the same: requests, markup, words of one letter, base64, noise."""
    dice = random.Random(6)  # noqa: S311  # the same bytes each time
    parts = (
        _REQUEST * 64,
        b"<div class=row><a href='/item?n=7'>Seventh item, 12.50</a></div>\n" * 200,
        b"A" * 8192,
        base64.b64encode(dice.randbytes(12_000)),
        dice.randbytes(16_384),
    )
    return [[part[at : at + _PIECE] for at in range(0, len(part), _PIECE)] for part in parts]


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    streams = sample()
    with Database([Pattern(b"sluicegate-sample", DOT_ALL | SINGLE_MATCH, 0, 3)], stream=True) as plain:
        base = _seconds(plain, streams)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        pattern = Pattern(
            request["expression"].encode("latin-1"),
            request["flags"],
            0,
            3,
            request["min_offset"],
            request["max_offset"],
        )
        sys.stdout.write(json.dumps(_outcome(pattern, streams, base)) + "\n")
        sys.stdout.flush()


def _outcome(pattern: Pattern, streams: list[list[bytes]], base: float) -> dict[str, object]:
    try:
        with Database([pattern], stream=True) as database:
            return {
                "cost": _seconds(database, streams) / base,
                "size": database.size,
                "stream": database.stream_size,
            }
    except CompileError as error:
        return {"error": error.message}


def _seconds(database: Database, streams: list[list[bytes]]) -> float:
    """CPU time of one round, the best of some: others may use the same core."""
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.process_time()
        for pieces in streams:
            database.scan(pieces)
        best = min(best, time.process_time() - start)
        if best > _SLOW_SECONDS:
            break
    return best


if __name__ == "__main__":
    main()
