"""One large transfer over one connection, run inside the client's namespace as ``python -m``.

``download`` reads N bytes from a server, ``upload`` sends them; both compare SHA-256 digests. The pace is held at
``--rate`` bytes per second while standard input is open and is free afterwards, so that whoever started it decides
what happens while it is under way. Prints ``started`` once bytes flow, and at the end ``ok`` or what went wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import time

from sluicegate_agent.lab.content import BLOCK, blocks, digest
from sluicegate_agent.lab.wire import failure_kind, parse_target

_STALL_SECONDS = 30.0


class Pace:
    """Holds a loop at a rate until released."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._started = time.monotonic()
        self._moved = 0
        self._free = asyncio.Event()

    def release(self) -> None:
        """From now on at full speed."""
        self._free.set()

    async def moved(self, size: int) -> None:
        """Count bytes; wait until they are due."""
        if not self._moved:
            print("started", flush=True)
        self._moved += size
        late = self._started + self._moved / self._rate - time.monotonic()
        if late > 0 and not self._free.is_set():
            try:
                async with asyncio.timeout(late):
                    await self._free.wait()
            except TimeoutError:
                return


async def download(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, pace: Pace) -> str:
    """Read ``size`` bytes and give their digest."""
    writer.write(f"GET /blob/{size} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    total = hashlib.sha256()
    while size:
        async with asyncio.timeout(_STALL_SECONDS):
            part = await reader.read(min(size, BLOCK))
        if not part:
            raise EOFError
        total.update(part)
        size -= len(part)
        await pace.moved(len(part))
    return total.hexdigest()


async def upload(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, pace: Pace) -> str:
    """Send ``size`` bytes and give the digest that the server answers."""
    writer.write(f"POST /digest HTTP/1.1\r\nHost: lab\r\nContent-Length: {size}\r\n\r\n".encode())
    for block in blocks(size):
        writer.write(block)
        async with asyncio.timeout(_STALL_SECONDS):
            await writer.drain()
        await pace.moved(len(block))
    async with asyncio.timeout(_STALL_SECONDS):
        answer = await reader.read()
    return answer.partition(b"\r\n\r\n")[2].decode()


async def transfer(direction: str, target: tuple[str, int], size: int, rate: float) -> str:
    """Carry one out; ``ok`` or what went wrong."""
    pace = Pace(rate)
    asyncio.get_running_loop().add_reader(sys.stdin, pace.release)
    try:
        reader, writer = await asyncio.open_connection(*target)
        got = await (download if direction == "download" else upload)(reader, writer, size, pace)
        writer.close()
    except EOFError:
        return "closed early"
    except OSError as error:
        return failure_kind(error)
    return "ok" if got == digest(size) else f"other bytes arrived: their SHA-256 is {got}"


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="large transfer of the lab")
    parser.add_argument("direction", choices=["download", "upload"])
    parser.add_argument("target", type=parse_target)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="bytes per second while standard input is open")
    options = parser.parse_args()
    print(asyncio.run(transfer(options.direction, options.target, options.bytes, options.rate)), flush=True)


if __name__ == "__main__":
    main()
