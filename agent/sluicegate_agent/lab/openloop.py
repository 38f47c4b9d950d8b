"""An open-loop load: one trace of requests, sent to several peers at its own times. Run in the client's namespace.

Each request of the trace goes to each side at the same planned time, on a connection of its own, whether earlier ones
were answered or not; so a slow backend cannot slow its load down. Latency counts from the planned time. A request
fails when its answer is not complete after ``--timeout`` seconds; ``not sent`` when a side already has more waiting
than is sensible. Every fifth of a second a line with what ended is printed (:mod:`sluicegate_agent.lab.outcomes`).
Ends when its standard input is closed: those under way may finish, and a last line follows.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping

from sluicegate_agent.lab.arrivals import arrivals
from sluicegate_agent.lab.outcomes import Outcome, to_json
from sluicegate_agent.lab.wire import ClosedEarlyError, failure_kind, parse_target

Target = tuple[str, int]

_REPORT_SECONDS = 0.2
_MAX_WAITING = 1000
_REQUEST = b"GET /busy/%.6f HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
_START = b"HTTP/1.1 200 "


class OpenLoop:
    """The load of one run."""

    def __init__(self, sides: Mapping[str, Target], *, timeout: float) -> None:
        self._sides = sides
        self._timeout = timeout
        self._ended: list[Outcome] = []
        self._waiting: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, *, seed: int, rate: float, work: float) -> None:
        """Send until standard input ends, then wait for what is under way."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
        reports = asyncio.create_task(self._reports())
        names = list(self._sides)
        began = time.monotonic()
        for arrival in arrivals(seed, rate, work):
            planned = began + arrival.at
            if (pause := planned - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            if ended.is_set():
                break
            for name in names:
                self._send(name, planned, arrival.work)
            names.reverse()  # no side is always the first
        await asyncio.gather(*self._tasks)
        reports.cancel()
        self._report()

    def _send(self, side: str, planned: float, work: float) -> None:
        if self._waiting[side] >= _MAX_WAITING:
            now = time.monotonic()
            self._ended.append(Outcome(side, planned, now - planned, now, failure="not sent"))
            return
        self._waiting[side] += 1
        task = asyncio.create_task(self._request(side, planned, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, side: str, planned: float, work: float) -> None:
        lag = time.monotonic() - planned
        backend = failure = ""
        try:
            async with asyncio.timeout(self._timeout - lag):
                backend = await _ask(self._sides[side], _REQUEST % work)
        except (OSError, ValueError) as error:
            failure = failure_kind(error)
        self._waiting[side] -= 1
        self._ended.append(Outcome(side, planned, lag, time.monotonic(), backend, failure))

    async def _reports(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self._report()

    def _report(self) -> None:
        ended, self._ended = self._ended, []
        print(to_json(ended), flush=True)


async def _ask(target: Target, request: bytes) -> str:
    """The body of the answer; plain sockets cost half of what streams do."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        await loop.sock_connect(connection, target)
        await loop.sock_sendall(connection, request)
        answer = b""
        while part := await loop.sock_recv(connection, 4096):
            answer += part
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        raise ClosedEarlyError
    if not head.startswith(_START) or not body:
        raise ValueError(head)
    return body.decode()


def _side(text: str) -> tuple[str, Target]:
    name, _, where = text.partition("=")
    return name, parse_target(where)


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="open-loop load of the lab")
    parser.add_argument("--side", type=_side, action="append", required=True, help="NAME=ADDRESS:PORT")
    parser.add_argument("--rate", type=float, required=True, help="requests per second to each side")
    parser.add_argument("--work", type=float, required=True, help="mean work of a request, in seconds of one core")
    parser.add_argument("--seed", type=int, required=True, help="the same seed is the same trace")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds until a request has failed")
    options = parser.parse_args()
    load = OpenLoop(dict(options.side), timeout=options.timeout)
    asyncio.run(load.run(seed=options.seed, rate=options.rate, work=options.work))


if __name__ == "__main__":
    main()
