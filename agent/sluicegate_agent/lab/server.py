"""A backend for the lab: HTTP/1.1 and UDP echo on one address, both families. Run as ``python -m``.

With ``--certificate`` HTTP is served over TLS as well; with ``--dns`` names are answered over UDP
(:mod:`sluicegate_agent.lab.dns`).

- ``GET /``: the server's name.
- ``GET /client``: the name and the address the connection came from.
- ``GET /blob/N``: N bytes of :mod:`sluicegate_agent.lab.content`.
- ``POST /digest``: the SHA-256 of the request's body, in hex.
- ``GET /healthz``: as ``--health`` says.
- UDP: the name, the sender's address and the payload, separated by spaces; a payload that begins with ``=`` comes back
  as it is. Answers come from the address that was asked, which may be a VIP on the loopback (direct return).

Connections are closed after one answer unless the request asks for ``Connection: keep-alive``. ``ready`` is printed
once all ports are open. Each line on standard input is the number of seconds that go before answers from then on, and
is confirmed by ``ok``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from enum import StrEnum
from ipaddress import IPv6Address
from pathlib import Path

from sluicegate_agent.lab import dns
from sluicegate_agent.lab.certificate import server_context
from sluicegate_agent.lab.content import BLOCK, blocks

HTTP_PORT = 8080
TLS_PORT = 443
UDP_PORT = 9000
DNS_PORT = 53

_BACKLOG = 1024
_LARGEST_DATAGRAM = 65535
_PACKET_INFO = struct.Struct("=16sI")  # struct in6_pktinfo: the local address and an interface, 0 for any
_DRIP_SECONDS = 0.01


class Health(StrEnum):
    """What ``/healthz`` does: answer 200, answer 500, say nothing, or never end its header or its body."""

    OK = "ok"
    FAILING = "failing"
    SILENT = "silent"
    ENDLESS_HEADER = "endless-header"
    ENDLESS_BODY = "endless-body"


class Server:
    """Answers the requests of one backend; ``name`` is in every answer, which ``delay`` seconds go before."""

    def __init__(self, name: str, health: Health = Health.OK, delay: float = 0.0) -> None:
        self._name = name
        self._health = health
        self._delay = delay

    async def serve(
        self, http_port: int, udp_port: int, *, dns_port: int | None = None, certificate: Path | None = None
    ) -> None:
        """Listen and answer until cancelled; over TLS too with a certificate."""
        ports: dict[int, ssl.SSLContext | None] = {http_port: None}
        if certificate is not None:
            ports[TLS_PORT] = server_context(certificate)
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            for port, context in ports.items():
                listener = socket.create_server(
                    ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG
                )
                await stack.enter_async_context(
                    await asyncio.start_server(self._connection, sock=listener, backlog=_BACKLOG, ssl=context)
                )
            self._datagrams(udp_port, self._echo)
            if dns_port is not None:
                self._datagrams(dns_port, _resolved)
            with suppress(PermissionError):  # a file or /dev/null: nobody will say anything
                loop.add_reader(sys.stdin, self._obey, loop)
            print("ready", flush=True)
            await asyncio.Event().wait()

    def _obey(self, loop: asyncio.AbstractEventLoop) -> None:
        line = sys.stdin.readline()
        if not line:
            loop.remove_reader(sys.stdin)
            return
        self._delay = float(line)
        print("ok", flush=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client, a health check for one, may leave whenever it likes.
        with suppress(OSError, EOFError):
            while await self._request(reader, writer):
                pass
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        keep = headers.get("connection", "").lower() == "keep-alive"
        if path == "/healthz":
            await self._answer_health(writer)
            return False
        await asyncio.sleep(self._delay)
        if method == "GET" and path.startswith("/blob/"):
            size = int(path.removeprefix("/blob/"))
            writer.write(_head(size, keep=keep))
            for block in blocks(size):
                writer.write(block)
                await writer.drain()
        else:
            body = await self._answer(method, path, headers, reader, writer)
            writer.write(_head(len(body), keep=keep) + body)
            await writer.drain()
        return keep

    async def _answer(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes:
        if method == "POST" and path == "/digest":
            return (await _digest(reader, int(headers["content-length"]))).encode()
        if path == "/client":
            return f"{self._name} {_plain(writer.get_extra_info('peername')[0])}".encode()
        return self._name.encode()

    async def _answer_health(self, writer: asyncio.StreamWriter) -> None:
        match self._health:
            case Health.OK:
                writer.write(_head(0, keep=False))
            case Health.FAILING:
                writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
            case Health.SILENT:
                pass
            case Health.ENDLESS_HEADER:
                writer.write(b"HTTP/1.1 200 OK\r\n")
            case Health.ENDLESS_BODY:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        while self._health not in {Health.OK, Health.FAILING}:
            if self._health is not Health.SILENT:
                writer.write(b"X-More: of the same\r\n")
                await writer.drain()  # raises once the other side has gone
            elif writer.transport.is_closing():
                return
            await asyncio.sleep(_DRIP_SECONDS)

    def _echo(self, data: bytes, sender: str) -> bytes:
        return data if data.startswith(b"=") else f"{self._name} {sender} ".encode() + data

    def _datagrams(self, port: int, reply: Callable[[bytes, str], bytes]) -> None:
        """Answer each datagram to a port; ``reply`` gets it and its sender's address."""
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        opened.setblocking(False)
        opened.bind(("::", port))
        asyncio.get_running_loop().add_reader(opened, _answer_datagram, opened, reply)


def _answer_datagram(opened: socket.socket, reply: Callable[[bytes, str], bytes]) -> None:
    """Answer one datagram from the address that it was sent to."""
    try:
        data, controls, _, sender = opened.recvmsg(_LARGEST_DATAGRAM, socket.CMSG_SPACE(_PACKET_INFO.size))
    except OSError:
        return  # an ICMP error about an earlier answer
    local = [
        (level, kind, _PACKET_INFO.pack(_PACKET_INFO.unpack(value)[0], 0))
        for level, kind, value in controls
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    ]
    # No way back any more, or no question: the client will miss the answer.
    with suppress(OSError, ValueError):
        opened.sendmsg([reply(data, _plain(sender[0]))], local, 0, sender)


def _resolved(data: bytes, sender: str) -> bytes:
    del sender
    return dns.answer(data)


async def _digest(reader: asyncio.StreamReader, size: int) -> str:
    total = hashlib.sha256()
    while size:
        part = await reader.read(min(size, BLOCK))
        if not part:
            raise EOFError
        total.update(part)
        size -= len(part)
    return total.hexdigest()


def _head(length: int, *, keep: bool) -> bytes:
    connection = "keep-alive" if keep else "close"
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n".encode()


def _plain(address: str) -> str:
    """The address as its own family writes it: sockets of both families show IPv4 as ``::ffff:a.b.c.d``."""
    parsed = IPv6Address(address)
    return str(parsed.ipv4_mapped or parsed)


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="HTTP and UDP echo server of the lab")
    parser.add_argument("--name", required=True)
    parser.add_argument("--http-port", type=int, default=HTTP_PORT)
    parser.add_argument("--udp-port", type=int, default=UDP_PORT)
    parser.add_argument("--health", type=Health, default=Health.OK)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer but those about health")
    parser.add_argument("--dns", action="store_true", help=f"answer questions for names on port {DNS_PORT}")
    parser.add_argument("--certificate", type=Path, help=f"key and certificate of the TLS port, {TLS_PORT}")
    options = parser.parse_args()
    server = Server(options.name, options.health, options.delay)
    names = DNS_PORT if options.dns else None
    with suppress(KeyboardInterrupt):
        asyncio.run(server.serve(options.http_port, options.udp_port, dns_port=names, certificate=options.certificate))


if __name__ == "__main__":
    main()
