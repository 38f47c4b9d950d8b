"""Conversations of real clients: with Python's own servers, with real ones, or with answers read from a table."""

from __future__ import annotations

import asyncio
import ftplib
import http.client
import imaplib
import logging
import logging.handlers
import poplib
import shutil
import smtplib
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from golden_wire import SERVER, Wire
from sluicegate_agent.lab import dns
from sluicegate_agent.lab.certificate import client_context, make_certificate, server_context
from sluicegate_agent.lab.namespace import Namespace

NAME = "www.example.org"
BODY = b"<html>" + b"All work and no play makes Jack a dull boy. " * 1000
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Talk:
    """``needs`` programs, and ``imports`` packages, without which there is no such client.

    ``run`` returns when both sides are done.
    """

    run: Callable[[Wire, Path], None]
    needs: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Of what it needs."""
        programs = [program for program in self.needs if shutil.which(program) is None]
        return programs + [package for package in self.imports if find_spec(package) is None]


# ---- servers ----


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no trouble of the server."""
        del request, client_address


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _tcp(
    wire: Wire, port: int, handler: type[socketserver.BaseRequestHandler], certificate: Path | None = None
) -> Iterator[None]:
    with wire.server.inside():
        server = _Server((SERVER, port), handler)
    if certificate is not None:
        server.socket = server_context(certificate).wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    with _serving(server):
        yield


class _Web(BaseHTTPRequestHandler):
    """One page."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "golden/1", ""

    def do_GET(self) -> None:
        """The page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(BODY)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
        """Nothing."""


class _Lines(socketserver.StreamRequestHandler):
    """Greets, then answers each line by its first word, or by its second after a tag; "*" answers what is not named."""

    greeting: ClassVar[bytes]
    answers: ClassVar[Mapping[bytes, bytes]]
    tagged: ClassVar[bool] = False
    last: ClassVar[bytes] = b"QUIT"

    def handle(self) -> None:
        """One connection."""
        self.wfile.write(self.greeting)
        while line := self.rfile.readline():
            words = line.split()
            tag, word = (words[0], words[1].upper()) if self.tagged else (b"", words[0].upper())
            answer = self.answers.get(word, self.answers.get(b"*", b""))
            self.wfile.write(answer.replace(b"TAG", tag))
            if answer.startswith(b"354"):
                while self.rfile.readline() not in {b".\r\n", b""}:
                    pass
                self.wfile.write(b"250 queued\r\n")
            if word == self.last:
                return


def _lines(
    greeting: bytes, answers: Mapping[bytes, bytes], *, tagged: bool = False, last: bytes = b"QUIT"
) -> type[_Lines]:
    return type("_Spoken", (_Lines,), {"greeting": greeting, "answers": answers, "tagged": tagged, "last": last})


class _Names(socketserver.BaseRequestHandler):
    """Answers questions over UDP and TCP."""

    def handle(self) -> None:
        """One question."""
        if isinstance(self.request, tuple):
            question, opened = self.request
            opened.sendto(dns.answer(question), self.client_address)
            return
        stream = self.request.makefile("rwb")
        question = stream.read(int.from_bytes(stream.read(2)))
        answer = dns.answer(question)
        stream.write(len(answer).to_bytes(2) + answer)
        stream.flush()


class _Broker(socketserver.BaseRequestHandler):
    """Takes whoever comes (MQTT 3.1.1, section 3.2)."""

    def handle(self) -> None:
        """One connection."""
        self.request.recv(4096)
        self.request.sendall(b"\x20\x02\x00\x00")
        while self.request.recv(4096):
            pass


class _Shell(socketserver.StreamRequestHandler):
    """Says its version and what it can do, each when the client has, and goes (RFC 4253, sections 4.2, 6 and 7.1).

    So that who speaks first does not depend on who is faster.
    """

    offers = ("curve25519-sha256", "ssh-ed25519", *["aes128-ctr"] * 2, *["hmac-sha2-256"] * 2, *["none"] * 2, "", "")

    def handle(self) -> None:
        """One connection."""
        self.rfile.readline()
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
        self.rfile.read(int.from_bytes(self.rfile.read(4)))
        lists = b"".join(len(offer).to_bytes(4) + offer.encode() for offer in self.offers)
        payload = b"\x14" + bytes(16) + lists + bytes(5)
        padding = 12 - (len(payload) + 1) % 8
        self.wfile.write((1 + len(payload) + padding).to_bytes(4) + bytes([padding]) + payload + bytes(padding))
        self.rfile.read(4)


# ---- clients ----


def _command(host: Namespace, *command: str, stdin: str = "") -> None:
    """A client whose exit code is its own business."""
    subprocess.run(host.command(command), input=stdin, capture_output=True, text=True, timeout=_SECONDS, check=False)


def _http(wire: Wire, files: Path, *, path: str = "/index.html") -> None:
    del files
    with _tcp(wire, 80, _Web), wire.client.inside():
        connection = http.client.HTTPConnection(SERVER, 80, timeout=_SECONDS)
        connection.request("GET", path, headers={"Host": NAME, "User-Agent": "golden/1", "Accept": "*/*"})
        assert connection.getresponse().read() == BODY
        connection.close()


def _http_curl(wire: Wire, files: Path) -> None:
    del files
    with _tcp(wire, 80, _Web):
        _command(wire.client, "curl", "-s", "-o", "/dev/null", "--resolve", f"{NAME}:80:{SERVER}", f"http://{NAME}/a")


def _tls(wire: Wire, files: Path, *, version: ssl.TLSVersion) -> None:
    certificate = make_certificate(files, [NAME])
    context = client_context(certificate)
    context.minimum_version = context.maximum_version = version
    with _tcp(wire, 443, _Web, certificate), wire.client.inside():
        connection = http.client.HTTPSConnection(SERVER, 443, timeout=_SECONDS, context=context)
        with socket.create_connection((SERVER, 443), _SECONDS) as plain:
            connection.sock = context.wrap_socket(plain, server_hostname=NAME)
            connection.request("GET", "/", headers={"Host": NAME})
            assert connection.getresponse().read() == BODY
            connection.close()


def _tls_curl(wire: Wire, files: Path) -> None:
    certificate = make_certificate(files, [NAME])
    with _tcp(wire, 443, _Web, certificate):
        ca = ("--cacert", str(certificate), "--resolve", f"{NAME}:443:{SERVER}")
        _command(wire.client, "curl", "-s", "-o", "/dev/null", *ca, f"https://{NAME}/")


def _tls_openssl(wire: Wire, files: Path) -> None:
    certificate = str(make_certificate(files, [NAME]))
    serve = ["openssl", "s_server", "-accept", f"{SERVER}:443", "-cert", certificate, "-naccept", "1"]
    server = wire.server.spawn(serve, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert server.stdout is not None
    for line in server.stdout:
        if "ACCEPT" in line:
            break
    _command(wire.client, "openssl", "s_client", "-connect", f"{SERVER}:443", "-servername", NAME, stdin="Q\n")


def _names(wire: Wire, files: Path, *, over_tcp: bool = False) -> None:
    """The C library's own resolver, with a /etc/resolv.conf that only it sees."""
    resolvers = files / "resolv.conf"
    resolvers.write_text(f"nameserver {SERVER}\noptions timeout:5{' use-vc' if over_tcp else ''}\n")
    with wire.server.inside():
        server = (_Server if over_tcp else socketserver.UDPServer)((SERVER, 53), _Names)
    ask = f"mount --bind {resolvers} /etc/resolv.conf && getent ahostsv4 {NAME}"
    with _serving(server):
        _command(wire.client, "unshare", "--mount", "sh", "-c", ask)


def _mail(wire: Wire, files: Path) -> None:
    del files
    answers = {
        b"EHLO": b"250-mail.example.org\r\n250 8BITMIME\r\n",
        b"DATA": b"354 go on\r\n",
        b"QUIT": b"221 bye\r\n",
        b"*": b"250 ok\r\n",
    }
    with _tcp(wire, 25, _lines(b"220 mail.example.org ESMTP ready\r\n", answers)), wire.client.inside():
        client = smtplib.SMTP(SERVER, 25, local_hostname="client.example.org", timeout=_SECONDS)
        client.sendmail("a@example.org", ["b@example.org"], "Subject: golden\r\n\r\nHello.\r\n")
        client.quit()


def _ftp(wire: Wire, files: Path) -> None:
    del files
    answers = {
        b"USER": b"331 password, please\r\n",
        b"PASS": b"230 come in\r\n",
        b"PWD": b'257 "/"\r\n',
        b"QUIT": b"221 bye\r\n",
    }
    with _tcp(wire, 21, _lines(b"220 FTP server ready\r\n", answers)), wire.client.inside():
        client = ftplib.FTP(timeout=_SECONDS)  # noqa: S321  # that is what is tested
        client.connect(SERVER, 21)
        client.login("user", "secret")
        client.pwd()
        client.quit()


def _imap(wire: Wire, files: Path) -> None:
    del files
    answers = {
        b"CAPABILITY": b"* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n",
        b"LOGIN": b"TAG OK logged in\r\n",
        b"LOGOUT": b"* BYE\r\nTAG OK done\r\n",
    }
    handler = _lines(b"* OK IMAP4rev1 ready\r\n", answers, tagged=True, last=b"LOGOUT")
    with _tcp(wire, 143, handler), wire.client.inside():
        client = imaplib.IMAP4(SERVER, 143, timeout=_SECONDS)
        client.login("user", "secret")
        client.logout()


def _pop3(wire: Wire, files: Path) -> None:
    del files
    with _tcp(wire, 110, _lines(b"+OK POP3 ready\r\n", {b"*": b"+OK\r\n"})), wire.client.inside():
        client = poplib.POP3(SERVER, 110, timeout=_SECONDS)
        client.user("user")
        client.pass_("secret")
        client.quit()


def _mqtt(wire: Wire, files: Path) -> None:
    del files
    with _tcp(wire, 1883, _Broker):
        _command(wire.client, "curl", "-s", "-d", "42", f"mqtt://{SERVER}/heating")


def _ssh(wire: Wire, files: Path) -> None:
    known = f"UserKnownHostsFile={files}/known"
    with _tcp(wire, 22, _Shell):
        _command(wire.client, "ssh", "-o", known, "-o", "BatchMode=yes", "-F", "/dev/null", f"user@{SERVER}")


def _git(wire: Wire, files: Path) -> None:
    bare = files / "project"
    subprocess.run(["git", "init", "--quiet", "--bare", str(bare)], check=True)
    # Not by way of `git daemon`: that one's child would outlive it.
    programs = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    serve = [f"{programs}/git-daemon", "--verbose", "--export-all", f"--base-path={files}", f"--listen={SERVER}"]
    server = wire.server.spawn(serve, stderr=subprocess.PIPE)
    assert server.stderr is not None
    for line in server.stderr:
        if "Ready" in line:
            break
    _command(wire.client, "git", "ls-remote", f"git://{SERVER}/project")


def _syslog(wire: Wire, files: Path) -> None:
    del files
    with wire.server.inside():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.bind((SERVER, 514))
        server.settimeout(_SECONDS)
        with wire.client.inside():
            handler = logging.handlers.SysLogHandler((SERVER, 514))
        for number in range(3):
            record = logging.LogRecord("golden", logging.WARNING, "", 0, f"golden: message {number}", None, None)
            handler.emit(record)
            server.recv(4096)
        handler.close()


def _quic(wire: Wire, files: Path) -> None:
    from aioquic.asyncio import connect, serve  # noqa: PLC0415  # not installed everywhere
    from aioquic.quic.configuration import QuicConfiguration  # noqa: PLC0415

    certificate = make_certificate(files, [NAME])
    own = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    own.load_cert_chain(certificate, certificate)
    theirs = QuicConfiguration(alpn_protocols=["h3"], server_name=NAME, cafile=str(certificate))

    async def talk() -> None:
        with wire.server.inside():
            server = await serve(SERVER, 443, configuration=own)
        with wire.client.inside():
            async with connect(SERVER, 443, configuration=theirs) as client:
                await client.ping()
        server.close()

    asyncio.run(asyncio.wait_for(talk(), _SECONDS))


TALKS: Mapping[str, Talk] = {
    "HTTP": Talk(_http),
    "HTTP, a request that a signature takes": Talk(partial(_http, path="/../etc/passwd")),
    "HTTP by curl": Talk(_http_curl, ("curl",)),
    "TLS 1.2": Talk(partial(_tls, version=ssl.TLSVersion.TLSv1_2)),
    "TLS 1.3": Talk(partial(_tls, version=ssl.TLSVersion.TLSv1_3)),
    "TLS by curl": Talk(_tls_curl, ("curl",)),
    "TLS by openssl": Talk(_tls_openssl),
    "DNS": Talk(_names, ("unshare",)),
    "DNS over TCP": Talk(partial(_names, over_tcp=True), ("unshare",)),
    "SMTP": Talk(_mail),
    "FTP": Talk(_ftp),
    "IMAP": Talk(_imap),
    "POP3": Talk(_pop3),
    "MQTT": Talk(_mqtt, ("curl",)),
    "SSH": Talk(_ssh, ("ssh",)),
    "Git": Talk(_git, ("git",)),
    "Syslog": Talk(_syslog),
    "QUIC": Talk(_quic, imports=("aioquic",)),
}
