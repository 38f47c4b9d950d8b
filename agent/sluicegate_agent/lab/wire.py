"""What the lab's clients share: targets, and names for the ways a request can fail."""

from __future__ import annotations

import errno
from ipaddress import ip_address

_KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "no local port",
}


class ClosedEarlyError(ConnectionError):
    """The connection ended in the middle of an answer."""


def failure_kind(error: Exception) -> str:
    """One or two words for people: refused, reset, timeout, closed early, …"""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ClosedEarlyError):
        return "closed early"
    if isinstance(error, OSError):
        return _KINDS.get(error.errno or 0, errno.errorcode.get(error.errno or 0, "other"))
    return "bad answer"


def parse_target(text: str) -> tuple[str, int]:
    """``a.b.c.d:port`` or ``[v6]:port``."""
    host, _, port = text.rpartition(":")
    return str(ip_address(host.strip("[]"))), int(port)


def target(address: object, port: int) -> str:
    """The reverse of :func:`parse_target`."""
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
