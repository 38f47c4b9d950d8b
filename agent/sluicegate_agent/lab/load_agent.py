"""What a backend of the lab says of its load. Run as ``python -m``.

Answers each connection to the agent port with one line, as HAProxy's agents do, and each GET to the report port with
JSON, as ORCA names things. What it says is set by lines on standard input: ``agent LINE`` and ``report JSON``; without
the rest it falls silent there, and accepts connections without ever answering. ``ok`` is printed after each, ``ready``
once both ports are open.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

AGENT_PORT: Final = 8081
REPORT_PORT: Final = 8082

_BACKLOG = 64
_KINDS: Final = ("agent", "report")


class LoadAgent:
    """The two answers of one backend; empty ones are never given."""

    def __init__(self) -> None:
        self._answers = dict.fromkeys(_KINDS, "")

    async def serve(self, agent_port: int, report_port: int) -> None:
        """Listen on both ports, in both families, and obey standard input until it ends."""
        agent = await _listen(agent_port, self._agent)
        report = await _listen(report_port, self._report)
        print("ready", flush=True)
        async with agent, report:
            await asyncio.to_thread(self._obey)

    def _obey(self) -> None:
        for line in sys.stdin:
            kind, _, answer = line.strip().partition(" ")
            if kind not in _KINDS:
                raise ValueError(f"{line!r} begins with none of {', '.join(_KINDS)}")
            self._answers[kind] = answer
            print("ok", flush=True)

    async def _agent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = self._answers["agent"]
        if not answer:
            await reader.read()  # until the other side gives up
        writer.write(f"{answer}\n".encode())
        await writer.drain()

    async def _report(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = self._answers["report"].encode()
        if not body:
            await reader.read()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()


async def _listen(
    port: int, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            await answer(reader, writer)
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()

    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    return await asyncio.start_server(serve, sock=listener, backlog=_BACKLOG)


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="load agent of a backend of the lab")
    parser.add_argument("--agent-port", type=int, default=AGENT_PORT)
    parser.add_argument("--report-port", type=int, default=REPORT_PORT)
    options = parser.parse_args()
    asyncio.run(LoadAgent().serve(options.agent_port, options.report_port))


if __name__ == "__main__":
    main()
