"""Prometheus: one PromQL query whose result has the utilisation of each backend, asked once for all that share it.

The instant query of the HTTP API, version 1. Asked through streams of the event loop, because the URL may name a host
and speak TLS (checked against the certificate authorities of this machine).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from sluicegate_agent.asking.connection import words_for
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.http import CHUNK, Response, get_request
from sluicegate_agent.signals.samples import Samples, parse_samples
from sluicegate_agent.signals.targets import QueryQuestion

LONGEST_BODY: Final = 4 * 1024 * 1024
"""About ten thousand samples with a dozen labels."""
_PORTS: Final = {"http": 80, "https": 443}
_RESOLVER: Final = ThreadPoolExecutor(2, thread_name_prefix="resolve")
"""Threads of its own: a name server that does not answer holds them for many seconds, and nobody else's work."""


async def ask_prometheus(question: QueryQuestion, seconds: float) -> Samples:
    """Ask once; the answer is complete within ``seconds``. Raises SignalError."""
    response = Response(LONGEST_BODY)
    try:
        url = urlsplit(question.url)
        host, port = url.hostname, url.port or _PORTS[url.scheme]
    except (ValueError, KeyError) as error:
        raise SignalError("the URL of Prometheus cannot be used") from error
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await _connected(host or "", port, _tls() if url.scheme == "https" else None, seconds)
            try:
                writer.write(_request(url, question.query, seconds))
                await _receive(reader, response)
            finally:
                writer.transport.abort()
    except TimeoutError as error:
        came = f"the answer was not complete within {seconds:g} s ({response.received} bytes came)"
        raise SignalError(came if response.received else f"no answer within {seconds:g} s") from error
    except (OSError, UnicodeError) as error:
        raise SignalError(_words(error, host or "")) from error
    return parse_samples(response.status, bytes(response.body))


@cache
def _tls() -> ssl.SSLContext:
    """Read once: this takes milliseconds. Certificate authorities that come later are known after a restart."""
    return ssl.create_default_context()


async def _connected(
    host: str, port: int, tls: ssl.SSLContext | None, seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first address of the name that takes one; each gets its part of the time. Raises OSError."""
    addresses = await _addresses(host, port)
    failure: OSError | None = None
    for address in addresses:
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                return await asyncio.open_connection(address, port, ssl=tls, server_hostname=host if tls else None)
        except OSError as error:  # TimeoutError is one
            failure = error
    raise failure or socket.gaierror


async def _addresses(host: str, port: int) -> list[str]:
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(_RESOLVER, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(place[0]) for *_kind, place in found))


def _request(url: SplitResult, query: str, seconds: float) -> bytes:
    # With the time it has: Prometheus gives up when nobody waits for the result any more.
    milliseconds = max(1, int(seconds * 1000))
    path = f"{url.path.rstrip('/')}/api/v1/query?timeout={milliseconds}ms&query={quote(query, safe='')}"
    return get_request(path, url.netloc.rpartition("@")[2], "sluicegate-signals")


async def _receive(reader: asyncio.StreamReader, response: Response) -> None:
    while received := await reader.read(CHUNK):
        if response.feed(received):
            return
    response.end()


def _words(error: OSError | UnicodeError, host: str) -> str:
    match error:
        case socket.gaierror() | UnicodeError():
            return f"the name {host} cannot be resolved"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'no reason given'}"
        case _:
            return words_for(error)
