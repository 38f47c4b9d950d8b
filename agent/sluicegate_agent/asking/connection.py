"""A connection for one question to a backend, and words for what keeps it from being opened."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sluicegate_agent.datapath.model import IPAddress

T = TypeVar("T")

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""``struct linger``: close with RST, so no question leaves a TIME_WAIT here or an idle connection there."""

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ENETUNREACH: "no route to it",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ETIMEDOUT: "no answer",
    errno.EACCES: "forbidden by a route or the packet filter of this node",
    errno.EPERM: "forbidden by the packet filter of this node",
}

_OWN_TROUBLE = {
    errno.EMFILE: "this process has no file descriptors left; raise its limit (ulimit -n)",
    errno.ENFILE: "this node has no file descriptors left; raise fs.file-max",
    errno.EADDRNOTAVAIL: "this node has no free port or address to ask from; see net.ipv4.ip_local_port_range",
    errno.ENOBUFS: "this node has no memory for sockets",
    errno.ENOMEM: "this node has no memory for sockets",
    errno.EAFNOSUPPORT: "this node does not speak the address's family",
}


class UnansweredError(Exception):
    """The other side gives no answer; the message says why."""


class OwnTroubleError(Exception):
    """This node could not ask, which says nothing about the other side; the message says what it lacks."""


class Connection:
    """An open connection with the time that is left for the answer. Seconds are of the running loop's clock."""

    def __init__(self, peer: socket.socket, deadline: float) -> None:
        self._peer = peer
        self._deadline = deadline

    async def connect(self, address: tuple[str, int]) -> bool:
        """Open it; False when the time ran out. Raises OSError."""
        code = self._peer.connect_ex(address)
        if code == errno.EINPROGRESS:
            if not await self._ready(writing=True):
                return False
            code = self._peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code != 0:
            raise OSError(code, os.strerror(code))
        return True

    def send(self, request: bytes) -> None:
        """Send what fits the buffer of a new connection, some kilobytes, at once. Raises OSError."""
        self._peer.sendall(request)

    async def receive(self, most: int) -> bytes | None:
        """What has arrived, at most so many bytes; empty at its end, None when the time ran out. Raises OSError."""
        if not await self._ready(writing=False):
            return None
        return self._peer.recv(most)

    async def _ready(self, *, writing: bool) -> bool:
        """Whether the socket became ready in time.

        Not asyncio's own timeout: after a stall of this process the answer and the timer are due in the same round of
        the loop. There the answer is handled first and has to win, or a busy node would take its backends for dead.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[bool] = loop.create_future()

        def settle(value: bool) -> None:
            if not answered.done():
                answered.set_result(value)

        (loop.add_writer if writing else loop.add_reader)(self._peer, settle, True)
        timer = loop.call_at(self._deadline, settle, False)
        try:
            return await answered
        finally:
            timer.cancel()
            (loop.remove_writer if writing else loop.remove_reader)(self._peer)


async def converse(address: IPAddress, port: int, seconds: float, talk: Callable[[Connection], Awaitable[T]]) -> T:
    """Connect, ``talk``, and reset the connection at once; all within ``seconds``, if ``talk`` keeps to it.

    Raises UnansweredError, OwnTroubleError, and what ``talk`` raises but for its OSErrors.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            connection = Connection(peer, deadline)
            if not await connection.connect((str(address), port)):
                raise UnansweredError(f"no answer within {seconds:g} s")
            return await talk(connection)
    except OSError as error:
        code = error.errno or errno.EIO
        if code in _OWN_TROUBLE:
            raise OwnTroubleError(_OWN_TROUBLE[code]) from error
        raise UnansweredError(words_for(error)) from error


def words_for(error: OSError) -> str:
    """Words for what went wrong with a connection."""
    code = error.errno or errno.EIO
    return _OWN_TROUBLE.get(code) or _WORDS.get(code) or os.strerror(code)
