"""A bounded HTTP load from one process, run inside the client's namespace as ``python -m``.

Requests start at a fixed rate, in turn to each target, each on a new connection; besides, some long connections send
a small request now and then and must not break. Every fifth of a second a line with a :class:`Tally` of what ended
since the last one is printed. Ends when its standard input is closed: no new request starts, those under way may
finish, and a last line follows.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from sluicegate_agent.lab.tally import Tally
from sluicegate_agent.lab.wire import ClosedEarlyError, failure_kind, parse_target

Target = tuple[str, int]

_REPORT_SECONDS = 0.2
_TICK_SECONDS = 0.01
_MAX_WAITING = 1000
_SESSION_PAUSE_SECONDS = 0.1
_REQUEST = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: %s\r\n\r\n"


class Load:
    """The requests and long connections of one run."""

    def __init__(self, targets: Sequence[Target], *, rate: float, sessions: int, timeout: float) -> None:
        self._targets = targets
        self._rate = rate
        self._sessions = sessions
        self._timeout = timeout
        self._tally = Tally()
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until standard input ends."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(sys.stdin, ended.set)
        background = [asyncio.create_task(self._reports())]
        background += [
            asyncio.create_task(self._session(self._targets[number % len(self._targets)], ended))
            for number in range(self._sessions)
        ]
        await self._requests(ended)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await asyncio.gather(*self._waiting)
        self._report()

    async def _requests(self, ended: asyncio.Event) -> None:
        """Start requests at the rate; a late tick makes up for at most a tenth of a second."""
        due, sent, last = 0.0, 0, time.monotonic()
        while not ended.is_set():
            now = time.monotonic()
            due = min(due + (now - last) * self._rate, self._rate / 10 + 1)
            last = now
            while due >= 1:
                due -= 1
                if len(self._waiting) >= _MAX_WAITING:
                    self._tally.skipped += 1
                    continue
                task = asyncio.create_task(self._request(self._targets[sent % len(self._targets)]))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)
                sent += 1
            await asyncio.sleep(_TICK_SECONDS)

    async def _request(self, target: Target) -> None:
        family = 6 if ":" in target[0] else 4
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                name = await _ask_once(target)
        except (OSError, ValueError) as error:
            self._tally.failures[family, failure_kind(error)] += 1
        else:
            self._tally.answers[family, name] += 1
            self._tally.slowest = max(self._tally.slowest, time.monotonic() - started)

    async def _session(self, target: Target, ended: asyncio.Event) -> None:
        """Keep one long connection busy; open another one when it breaks."""
        while not ended.is_set():
            name = ""
            with suppress(OSError, ValueError, EOFError):
                async with asyncio.timeout(self._timeout):
                    reader, writer = await asyncio.open_connection(*target)
                try:
                    while True:
                        async with asyncio.timeout(self._timeout):
                            answer = await _ask_again(reader, writer)
                        if name and answer != name:
                            raise ValueError(f"a connection to {name} was answered by {answer}")
                        name = answer
                        self._tally.exchanges += 1
                        await asyncio.sleep(_SESSION_PAUSE_SECONDS)
                finally:
                    writer.transport.abort()
            if name:
                self._tally.broken[name] += 1
            await asyncio.sleep(_SESSION_PAUSE_SECONDS)

    async def _reports(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self._report()

    def _report(self) -> None:
        tally, self._tally = self._tally, Tally()
        print(tally.to_json(), flush=True)


async def _ask_once(target: Target) -> str:
    """One request on a connection of its own; plain sockets cost half of what streams do."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        await loop.sock_connect(connection, target)
        await loop.sock_sendall(connection, _REQUEST % b"close")
        answer = b""
        while part := await loop.sock_recv(connection, 4096):
            answer += part
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator or len(body) != _length(head):
        raise ClosedEarlyError
    return body.decode()


async def _ask_again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """One request on a connection that stays open."""
    writer.write(_REQUEST % b"keep-alive")
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    return (await reader.readexactly(_length(head))).decode()


def _length(head: bytes) -> int:
    """Content-Length of an answer with status 200; ValueError for any other answer."""
    status, *headers = head.decode("latin-1").split("\r\n")
    if " 200 " not in status:
        raise ValueError(f"unexpected answer {status}")
    fields = dict(line.lower().split(": ", 1) for line in headers if line)
    return int(fields["content-length"])


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="HTTP load of the lab")
    parser.add_argument("--target", type=parse_target, action="append", required=True)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--sessions", type=int, default=0, help="long connections")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds until a request has failed")
    options = parser.parse_args()
    load = Load(options.target, rate=options.rate, sessions=options.sessions, timeout=options.timeout)
    asyncio.run(load.run())


if __name__ == "__main__":
    main()
