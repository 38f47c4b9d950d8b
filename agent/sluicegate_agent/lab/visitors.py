"""Many small visits of different kinds, run inside the client's namespace as ``python -m``.

At a fixed rate, in turn: a page over HTTP, a page over TLS, a question for a name over DNS; each from a new socket, and
for each of the sites in turn. Every fifth of a second a line with :class:`Visits` that ended since the last one is
printed. Ends when its standard input is closed: no new visit starts, those under way may finish, and a last line
follows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from sluicegate_agent.lab import dns
from sluicegate_agent.lab.certificate import client_context
from sluicegate_agent.lab.wire import ClosedEarlyError, failure_kind, parse_target

Target = tuple[str, int]

KINDS = ("http", "tls", "dns")

_REPORT_SECONDS = 0.2
_TICK_SECONDS = 0.01
_MAX_WAITING = 300
_LARGEST_DATAGRAM = 65535
_FIRST_PORT, _PORTS = 20_000, 40_000  # of questions: of one port, several would be one flow
_REQUEST = "GET /{page} HTTP/1.1\r\nHost: {site}\r\nUser-Agent: lab/1.0\r\nConnection: close\r\n\r\n"


@dataclass(slots=True)
class Visits:
    """Visits that ended: ``right`` by kind, ``wrong`` by kind and what went wrong."""

    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: Visits) -> None:
        """Count what ``other`` counted as well."""
        self.right.update(other.right)
        self.wrong.update(other.wrong)

    def to_json(self) -> str:
        """One line."""
        return json.dumps({"right": self.right, "wrong": [[*key, count] for key, count in self.wrong.items()]})

    @classmethod
    def from_json(cls, line: str) -> Visits:
        """Read what :meth:`to_json` wrote."""
        row = json.loads(line)
        return cls(Counter(row["right"]), Counter({(kind, why): count for kind, why, count in row["wrong"]}))


class Visitors:
    """The visits of one run. ``targets`` by kind."""

    def __init__(
        self, targets: Mapping[str, Sequence[Target]], sites: Sequence[str], tls: ssl.SSLContext, timeout: float
    ) -> None:
        self._targets = targets
        self._sites = sites
        self._tls = tls
        self._timeout = timeout
        self._visits = Visits()
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self, rate: float) -> None:
        """Visit until standard input ends."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
        reports = asyncio.create_task(self._reports())
        plan = self._plan()
        due, last = 0.0, time.monotonic()
        while not ended.is_set():
            now = time.monotonic()
            due = min(due + (now - last) * rate, rate / 10 + 1)  # a late tick makes up for a tenth of a second
            last = now
            while due >= 1:
                due -= 1
                if len(self._waiting) < _MAX_WAITING:
                    task = asyncio.create_task(self._visit(*next(plan)))
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
                else:
                    self._visits.wrong["any", "never begun"] += 1
            await asyncio.sleep(_TICK_SECONDS)
        await asyncio.gather(*self._waiting)
        reports.cancel()
        self._report()

    def _plan(self) -> Iterator[tuple[int, str, Target, str]]:
        """Number, kind, target and site of each visit: every kind for a site, then the next site."""
        kinds = [kind for kind in KINDS if self._targets[kind]]
        for number in count():
            turn, kind = number // len(kinds), kinds[number % len(kinds)]
            where = self._targets[kind]
            yield number, kind, where[turn % len(where)], self._sites[turn // len(where) % len(self._sites)]

    async def _visit(self, number: int, kind: str, where: Target, site: str) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                if kind == "dns":
                    await _resolve(number & 0xFFFF, where, site)
                else:
                    await _read_page(number, where, site, self._tls if kind == "tls" else None)
        except (OSError, ValueError, EOFError) as error:
            self._visits.wrong[kind, failure_kind(error)] += 1
        else:
            self._visits.right[kind] += 1

    async def _reports(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self._report()

    def _report(self) -> None:
        visits, self._visits = self._visits, Visits()
        print(visits.to_json(), flush=True)


async def _read_page(number: int, where: Target, site: str, tls: ssl.SSLContext | None) -> None:
    reader, writer = await asyncio.open_connection(*where, ssl=tls, server_hostname=site if tls else None)
    try:
        writer.write(_REQUEST.format(page=number, site=site).encode())
        head, separator, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if not separator:
        raise ClosedEarlyError
    if not head.startswith(b"HTTP/1.1 200 ") or not body:
        raise ValueError(head)


async def _resolve(number: int, where: Target, site: str) -> None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as opened:
        opened.bind(("", _FIRST_PORT + number % _PORTS))
        await loop.sock_connect(opened, where)
        await loop.sock_sendall(opened, dns.query(number, site))
        found = dns.address_in(await loop.sock_recv(opened, _LARGEST_DATAGRAM), number)
    if found != dns.address_of(site):
        raise ValueError(f"{site} is not {found}")


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="visits of different kinds for the lab")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=parse_target, action="append", default=[])
    parser.add_argument("--site", action="append", required=True, help="a name to visit")
    parser.add_argument("--certificate", type=Path, required=True, help="what TLS servers must have")
    parser.add_argument("--rate", type=float, default=60.0, help="visits per second")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds until a visit has failed")
    options = parser.parse_args()
    targets = {kind: getattr(options, kind) for kind in KINDS}
    visitors = Visitors(targets, options.site, client_context(options.certificate), options.timeout)
    asyncio.run(visitors.run(options.rate))


if __name__ == "__main__":
    main()
