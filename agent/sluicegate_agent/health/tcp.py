"""The TCP check: can a connection be opened within the timeout? No byte is sent."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct

from sluicegate_agent.health.model import Outcome, Result, Target

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""``struct linger``: close with RST, so no check leaves a TIME_WAIT here or an idle connection there."""

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ENETUNREACH: "no route to it",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ETIMEDOUT: "no answer",
    errno.EACCES: "forbidden by a route or the packet filter of this node",
    errno.EPERM: "forbidden by the packet filter of this node",
}

_OWN_TROUBLE = {
    errno.EMFILE: "this process has no file descriptors left; raise its limit (ulimit -n)",
    errno.ENFILE: "this node has no file descriptors left; raise fs.file-max",
    errno.EADDRNOTAVAIL: "this node has no free port or address to check from; see net.ipv4.ip_local_port_range",
    errno.ENOBUFS: "this node has no memory for sockets",
    errno.ENOMEM: "this node has no memory for sockets",
    errno.EAFNOSUPPORT: "this node does not speak the address's family",
}


async def check_tcp(target: Target) -> Outcome:
    """Open a connection to the target and reset it at once."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET if target.address.version == 4 else socket.AF_INET6
    started = loop.time()
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            code = connection.connect_ex((str(target.address), target.port))
            if code == errno.EINPROGRESS:
                if not await _writable(connection, target.timeout):
                    return Outcome(Result.FAILED, f"no answer within {target.timeout:g} s")
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:
        code = error.errno or errno.EIO
    if code == 0:
        return Outcome(Result.PASSED, "connected", (loop.time() - started) * 1000)
    if code in _OWN_TROUBLE:
        return Outcome(Result.INCONCLUSIVE, f"could not check: {_OWN_TROUBLE[code]}")
    return Outcome(Result.FAILED, _WORDS.get(code) or os.strerror(code))


async def _writable(connection: socket.socket, seconds: float) -> bool:
    """Whether the socket became writable in time.

    Not asyncio's own timeout: after a stall of this process the answer and the timer are due in the same round of the
    loop. There the answer is handled first and has to win, or a busy node would take its backends for dead.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()

    def settle(value: bool) -> None:
        if not answered.done():
            answered.set_result(value)

    loop.add_writer(connection, settle, True)
    timer = loop.call_later(seconds, settle, False)
    try:
        return await answered
    finally:
        timer.cancel()
        loop.remove_writer(connection)
