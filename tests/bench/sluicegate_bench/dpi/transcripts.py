"""What sides say to each other at the beginning of a flow: by real clients where there is one to ask."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import random
import socket
import ssl
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sluicegate_bench.dpi.traffic import Side

Transcript = tuple[tuple[Side, bytes], ...]

_QUIC_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")  # RFC 9001, section 5.2
_QUIC_SIZE = 1200
"""The least size of a datagram with a client's Initial."""

_SSH_LISTS = (  # RFC 4253, section 7.1, with names that OpenSSH 9 offers
    b"curve25519-sha256,ecdh-sha2-nistp256,diffie-hellman-group14-sha256",
    b"ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
    *(2 * (b"chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com",)),
    *(2 * (b"umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com",)),
    *(2 * (b"none,zlib@openssh.com",)),
    b"",
    b"",
)


def tls(names: Sequence[str]) -> dict[str, Transcript]:
    """Handshakes of Python's own TLS client and server with these server names; every third is TLS 1.2."""
    with tempfile.TemporaryDirectory() as directory:
        server = _server_context(Path(directory))
    return {name: _handshake(name, server, old=number % 3 == 0) for number, name in enumerate(names)}


def quic(names: Sequence[str], source: random.Random) -> dict[str, bytes]:
    """A client's first datagram for each name: its ClientHello in an Initial packet of QUIC 1, protected as RFC 9001
    says."""
    return {name: _initial(_client_hello(name), source.randbytes(8)) for name in names}


def http_request(host: str, path: str, agent: str, body: bytes = b"", method: str = "GET") -> bytes:
    """As Python's own HTTP client writes it."""
    ours, its = socket.socketpair()
    with ours, its:
        connection = http.client.HTTPConnection(host)
        connection.sock = ours
        headers = {"User-Agent": agent, "Accept": "*/*"} | ({"Content-Type": "text/plain"} if body else {})
        connection.request(method, path, body or None, headers)
        ours.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: its.recv(65536), b""))


def http_response(body: bytes) -> bytes:
    """A plain one."""
    return b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


def dns(name: str, source: random.Random) -> tuple[bytes, bytes]:
    """A question for an address, and its answer."""
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    question = labels + b"\0\0\x01\0\x01"
    ident = source.getrandbits(16)
    answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + source.randbytes(4)
    return (
        struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + question,
        struct.pack("!6H", ident, 0x8180, 1, 1, 0, 0) + question + answer,
    )


def ssh(source: random.Random) -> Transcript:
    """Versions and offers of both sides, and a key exchange of random numbers."""
    versions = (b"SSH-2.0-OpenSSH_9.2p1\r\n", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
    said = [(side, versions[side]) for side in Side]
    said += [(side, _ssh_packet(b"\x14" + source.randbytes(16) + _ssh_offer() + bytes(5))) for side in Side]
    said.append((Side.CLIENT, _ssh_packet(b"\x1e\0\0\0\x20" + source.randbytes(32))))
    said.append((Side.SERVER, _ssh_packet(b"\x1f\0\0\0\x33" + source.randbytes(240)) + _ssh_packet(b"\x15")))
    said.append((Side.CLIENT, _ssh_packet(b"\x15")))
    return tuple(said)


def _ssh_offer() -> bytes:
    return b"".join(len(names).to_bytes(4) + names for names in _SSH_LISTS)


def _ssh_packet(payload: bytes) -> bytes:
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 * (padding < 4)
    return struct.pack("!IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def _server_context(directory: Path) -> ssl.SSLContext:
    certificate, key = directory / "certificate", directory / "key"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-subj", "/CN=bench.test", "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _client_context(*, old: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _handshake(name: str, server: ssl.SSLContext, *, old: bool) -> Transcript:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sent = (ssl.MemoryBIO(), ssl.MemoryBIO())
    sides = (
        _client_context(old=old).wrap_bio(to_client, sent[0], server_hostname=name),
        server.wrap_bio(to_server, sent[1], server_side=True),
    )
    said, done = [], [False, False]
    while not all(done):
        for side in Side:
            try:
                sides[side].do_handshake()
                done[side] = True
            except ssl.SSLWantReadError:
                pass
            if data := sent[side].read():
                said.append((side, data))
                (to_server, to_client)[side].write(data)
    return tuple(said)


def _client_hello(name: str) -> bytes:
    """The handshake message alone."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _client_context().wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()[5:]
    raise AssertionError("a handshake without a server")


def _initial(hello: bytes, destination: bytes) -> bytes:
    secret = _expand(_hmac(_QUIC_SALT, destination), b"client in", 32)
    key, vector, header_key = (
        _expand(secret, label, size) for label, size in ((b"quic key", 16), (b"quic iv", 12), (b"quic hp", 16))
    )
    head = b"\xc3\0\0\0\x01" + bytes((len(destination),)) + destination + b"\0\0"  # 4 bytes of packet number, no token
    frames = b"\x06\0" + (0x4000 | len(hello)).to_bytes(2) + hello
    number = bytes(4)
    room = _QUIC_SIZE - len(head) - 2 - len(number) - 16
    frames += bytes(room - len(frames))
    head += (0x4000 | (len(number) + room + 16)).to_bytes(2) + number
    sealed = _gcm(key, vector, frames, head)  # packet number 0: the vector as it is
    mask = _aes(header_key, sealed[:16])
    protected = bytearray(head)
    protected[0] ^= mask[0] & 0x0F
    for index in range(4):
        protected[len(head) - 4 + index] ^= mask[1 + index]
    return bytes(protected) + sealed


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    full = b"tls13 " + label
    return _hmac(secret, struct.pack("!HB", size, len(full)) + full + b"\0\x01")[:size]


def _gcm(key: bytes, vector: bytes, plain: bytes, extra: bytes) -> bytes:
    """AES-128-GCM (NIST SP 800-38D): sealed text and tag."""
    counters = b"".join(vector + number.to_bytes(4) for number in range(1, 2 + (len(plain) + 15) // 16))
    stream = _aes(key, bytes(16) + counters)
    hashed, first, stream = int.from_bytes(stream[:16]), stream[16:32], stream[32:]
    sealed = bytes(one ^ other for one, other in zip(plain, stream, strict=False))
    total = 0
    padded = b"".join(part + bytes(-len(part) % 16) for part in (extra, sealed))
    for at in range(0, len(padded), 16):
        total = _multiply(total ^ int.from_bytes(padded[at : at + 16]), hashed)
    total = _multiply(total ^ (8 * len(extra) << 64 | 8 * len(sealed)), hashed)
    return sealed + (total ^ int.from_bytes(first)).to_bytes(16)


def _multiply(one: int, other: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = other >> 1 ^ (0xE1 << 120 if other & 1 else 0)
    return product


def _aes(key: bytes, blocks: bytes) -> bytes:
    return _openssl("enc", "-aes-128-ecb", "-nopad", "-K", key.hex(), data=blocks)


def _openssl(*arguments: str, data: bytes = b"") -> bytes:
    try:
        done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, timeout=30, check=False)
    except FileNotFoundError as error:
        raise RuntimeError("openssl is not installed: apt-get install openssl") from error
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
