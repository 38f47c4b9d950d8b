"""A backend of a certain capacity that uses next to none: HTTP/1.1 over emulated cores. Run as ``python -m``.

``GET /busy/S`` is answered with the backend's name once S seconds of one core's work are done, as
:class:`~sluicegate_agent.lab.capacity.ProcessorSharing` says; any other path is no work. One request per connection.
A client that leaves takes its work with it.

Commands come on standard input, one per line, and each is confirmed on standard output by ``ok`` or ``bad``:

- ``speed X``: cores do X seconds of work per second.
- ``hole``: connections are accepted and reset as soon as a request comes, so that a check of the port alone, which
  sends none, finds nothing wrong. (Reset on accept, a check that looks a moment later would fail now and then.)
- ``serve``: they are served again.

``ready`` is printed once the port is open; the process ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import socket
import struct
import sys
from contextlib import suppress

from sluicegate_agent.lab.capacity import ProcessorSharing

_BACKLOG = 1024
_LINGER_NOT = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close() sends RST
_END_OF_HEAD = b"\r\n\r\n"
_LONGEST_HEAD = 8192
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Backend:
    """The emulated cores and who waits for them."""

    def __init__(self, name: str, cores: float) -> None:
        self._name = name.encode()
        self._cores = ProcessorSharing(cores)
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.hole = False

    def begin(self, connection: Connection, work: float) -> None:
        """A request for ``work`` seconds of one core."""
        self._cores.add(connection, work, self._loop.time())
        self._watch()

    def give_up(self, connection: Connection) -> None:
        """Its client has gone."""
        self._cores.remove(connection, self._loop.time())
        self._watch()

    def obey(self, command: str) -> None:
        """Carry out a command.

        Raises:
            ValueError: there is no such command.
        """
        match command.split():
            case ["speed", factor]:
                self._cores.set_speed(float(factor), self._loop.time())
                self._watch()
            case ["hole"]:
                self.hole = True
            case ["serve"]:
                self.hole = False
            case _:
                raise ValueError(f"no such command: {command}")

    def _watch(self) -> None:
        """Answer whose work is done, and look again when the next one's is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection, _ in self._cores.ended(self._loop.time()):
            if isinstance(connection, Connection):
                connection.answer(_ANSWER % (len(self._name), self._name))
        when = self._cores.next_end()
        if when is not None:
            self._timer = self._loop.call_at(when, self._watch)


class Connection(asyncio.Protocol):
    """One connection with one request."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._head = b""
        self._begun = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Begin the work once the request's head is complete, or reset; what follows it is of no interest."""
        if self._begun or self._transport is None:
            return
        if self._backend.hole:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._transport.abort()
            return
        self._head += data
        if _END_OF_HEAD not in self._head and len(self._head) < _LONGEST_HEAD:
            return
        self._begun = True
        try:
            work = wanted(self._head)
        except ValueError:
            self.answer(_REFUSAL)
        else:
            self._backend.begin(self, work)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or everything was sent."""
        del exc
        self._transport = None
        if self._begun:
            self._backend.give_up(self)

    def answer(self, data: bytes) -> None:
        """Send everything and close."""
        if self._transport is not None:
            self._transport.write(data)
            self._transport.close()


def wanted(head: bytes) -> float:
    """The work that a request's head asks for, in seconds; ValueError for what is no request or no amount of work."""
    method, path, version, *_ = [*head.partition(b"\r\n")[0].split(b" "), b"", b""]
    if method != b"GET" or not version.startswith(b"HTTP/1."):
        raise ValueError(head)
    if not path.startswith(b"/busy/"):
        return 0.0
    work = float(path.removeprefix(b"/busy/"))
    if not math.isfinite(work) or work < 0:
        raise ValueError(path)
    return work


async def _serve(name: str, cores: float, port: int) -> None:
    loop = asyncio.get_running_loop()
    backend = Backend(name, cores)
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    server = await loop.create_server(lambda: Connection(backend), sock=listener, backlog=_BACKLOG)
    ended = asyncio.Event()
    pending = bytearray()

    def listen_to_commands() -> None:
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            ended.set()
            loop.remove_reader(sys.stdin)
            return
        pending.extend(data)
        while b"\n" in pending:
            line, _, rest = bytes(pending).partition(b"\n")
            pending[:] = rest
            try:
                backend.obey(line.decode(errors="replace"))
            except ValueError:
                print("bad", flush=True)
            else:
                print("ok", flush=True)

    loop.add_reader(sys.stdin, listen_to_commands)
    print("ready", flush=True)
    async with server:
        await ended.wait()
        server.close()


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="emulated backend of the lab")
    parser.add_argument("--name", required=True)
    parser.add_argument("--cores", type=float, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.name, options.cores, options.port))


if __name__ == "__main__":
    main()
