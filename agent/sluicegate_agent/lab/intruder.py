"""A client that behaves, until it is told not to. Run inside the client's namespace as ``python -m``.

It sends a request now and then over one HTTP connection and never waits for answers. The line ``attack`` on standard
input makes it ask for a password file once, as scanners do, and go on as before. A line with a :class:`Standing` is
printed after each request. Ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from sluicegate_agent.lab.wire import parse_target

ATTACK_PATH = "/download?file=../../../etc/passwd"

_PAUSE_SECONDS = 0.1
_REQUEST = "GET {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: lab/1.0\r\nConnection: keep-alive\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 "


@dataclass(frozen=True, slots=True)
class Standing:
    """Requests sent and answers received so far. ``attacked``: seconds since the attack was sent, None before it."""

    sent: int
    answered: int
    attacked: float | None = None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Standing:
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(line))


class Intruder:
    """The connection."""

    def __init__(self) -> None:
        self._answered = 0
        self._path = ""
        self._ended = asyncio.Event()

    async def run(self, where: tuple[str, int]) -> None:
        """Send until standard input ends."""
        asyncio.get_running_loop().add_reader(sys.stdin, self._obey)
        reader, writer = await asyncio.open_connection(*where)
        counting = asyncio.create_task(self._count(reader))
        sent, attacked = 0, None
        with suppress(OSError):
            while not self._ended.is_set():
                path, self._path = self._path or "/", ""
                writer.write(_REQUEST.format(path=path).encode())
                sent += 1
                now = time.monotonic()
                if path == ATTACK_PATH:
                    attacked = now
                print(
                    Standing(sent, self._answered, None if attacked is None else now - attacked).to_json(), flush=True
                )
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PAUSE_SECONDS):
                        await self._ended.wait()
        counting.cancel()
        writer.transport.abort()

    async def _count(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                self._answered += head.startswith(_ANSWER)

    def _obey(self) -> None:
        line = sys.stdin.readline()
        if not line:
            self._ended.set()
        elif line.strip() == "attack":
            self._path = ATTACK_PATH


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="a client of the lab that attacks when told to")
    parser.add_argument("target", type=parse_target)
    options = parser.parse_args()
    asyncio.run(Intruder().run(options.target))


if __name__ == "__main__":
    main()
