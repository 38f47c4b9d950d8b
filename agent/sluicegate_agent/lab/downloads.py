"""The same large download again and again over two connections in turn. Run in the client's namespace.

Two ways to one server are compared at the same time and under the same conditions: a part over the first connection,
the same part over the second one, and so on; both stay open. All over TLS, and the content is verified. A line with one
:class:`Part` is printed after each. Ends when its standard input is closed, after the part that is under way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from sluicegate_agent.lab.certificate import client_context
from sluicegate_agent.lab.content import BLOCK, digest
from sluicegate_agent.lab.wire import ClosedEarlyError, failure_kind, parse_target

_TIMEOUT_SECONDS = 10.0
_LONGEST_HEAD = 4096


@dataclass(frozen=True, slots=True)
class Part:
    """One download. ``problem`` is empty when all of it came as it should."""

    side: str
    size: int
    seconds: float
    problem: str = ""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Part:
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(line))


def speed(parts: Sequence[Part], side: str) -> float | None:
    """Bytes per second in the middle of a side's good parts; None without any."""
    return (
        median(speeds) if (speeds := [p.size / p.seconds for p in parts if p.side == side and not p.problem]) else None
    )


class Connection:
    """One way to the server."""

    def __init__(self, where: tuple[str, int], name: str, tls: ssl.SSLContext) -> None:
        self._socket = tls.wrap_socket(socket.create_connection(where, _TIMEOUT_SECONDS), server_hostname=name)
        self._buffer = bytearray(BLOCK)

    def download(self, size: int) -> str:
        """Fetch ``size`` bytes and give their SHA-256 in hex."""
        request = f"GET /blob/{size} HTTP/1.1\r\nHost: lab\r\nConnection: keep-alive\r\n\r\n"
        self._socket.sendall(request.encode())
        body = self._after_head()
        total = hashlib.sha256(body)
        left = size - len(body)
        while left:
            read = self._socket.recv_into(self._buffer, min(left, BLOCK))
            if not read:
                raise ClosedEarlyError
            total.update(memoryview(self._buffer)[:read])
            left -= read
        return total.hexdigest()

    def _after_head(self) -> bytes:
        """What came of the body together with the end of the head."""
        head = b""
        while b"\r\n\r\n" not in head:
            part = self._socket.recv(_LONGEST_HEAD)
            if not part or len(head) > _LONGEST_HEAD:
                raise ClosedEarlyError
            head += part
        return head.partition(b"\r\n\r\n")[2]


def run(sides: Mapping[str, tuple[str, int]], name: str, size: int, tls: ssl.SSLContext) -> None:
    """Compare until standard input ends, or a side fails."""
    wanted = digest(size)
    connections = {side: Connection(where, name, tls) for side, where in sides.items()}
    while True:
        for side, connection in connections.items():
            started = time.monotonic()
            try:
                problem = "" if connection.download(size) == wanted else "other bytes arrived"
            except OSError as error:
                problem = failure_kind(error)
            print(Part(side, size, time.monotonic() - started, problem).to_json(), flush=True)
            if problem or select.select([sys.stdin], [], [], 0)[0]:
                return


def _side(text: str) -> tuple[str, tuple[str, int]]:
    name, _, where = text.partition("=")
    return name, parse_target(where)


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="downloads in turn for the lab")
    parser.add_argument("--side", type=_side, action="append", required=True, help="NAME=ADDRESS:PORT")
    parser.add_argument("--name", required=True, help="of the server, as its certificate has it")
    parser.add_argument("--bytes", type=int, required=True, help="size of one part")
    parser.add_argument("--certificate", type=Path, required=True)
    options = parser.parse_args()
    run(dict(options.side), options.name, options.bytes, client_context(options.certificate))


if __name__ == "__main__":
    main()
