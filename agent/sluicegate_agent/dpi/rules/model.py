"""A rule, read and checked: what it wants of a packet, in the terms of Suricata's language."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from sluicegate_agent.dpi.rules.sets import Ranges


class Buffer(IntEnum):
    """What a pattern looks at. The numbers are those of native/engine.h."""

    STREAM = 0
    """The payload of a TCP connection in one direction, in order."""
    PACKET = 1
    """The payload of one packet."""
    HTTP_URI = 2
    """The request target, %XX decoded once."""
    HTTP_URI_RAW = 3
    """The request target as sent."""
    HTTP_HOST = 4
    """The Host header, lower case, without port."""
    HTTP_USER_AGENT = 5
    """The User-Agent header without surrounding blanks."""
    HTTP_METHOD = 6
    TLS_SNI = 7
    """The server name of a ClientHello over TCP, as sent."""
    DNS_QUERY = 8
    """The name of the first question over UDP, lower case, with dots."""
    HTTP_HEADER = 9
    """All header lines of a request as sent, each with its line end."""

    @property
    def keyword(self) -> str:
        """Its name in rules."""
        return _BUFFER_KEYWORDS[self]

    @property
    def is_payload(self) -> bool:
        """Whether it is bytes as sent, not a field that somebody took out of them."""
        return self in {Buffer.STREAM, Buffer.PACKET}


_BUFFER_KEYWORDS = {
    Buffer.STREAM: "payload",
    Buffer.PACKET: "payload",
    Buffer.HTTP_URI: "http.uri",
    Buffer.HTTP_URI_RAW: "http.uri.raw",
    Buffer.HTTP_HOST: "http.host",
    Buffer.HTTP_USER_AGENT: "http.user_agent",
    Buffer.HTTP_METHOD: "http.method",
    Buffer.TLS_SNI: "tls.sni",
    Buffer.DNS_QUERY: "dns.query",
    Buffer.HTTP_HEADER: "http.header",
}
HTTP_BUFFERS = frozenset(buffer for buffer in Buffer if buffer.keyword.startswith("http."))


class L4(IntEnum):
    """Transport protocols of a rule, by their numbers in the IP header."""

    ANY = 0
    ICMP = 1
    """ICMP and ICMPv6."""
    TCP = 6
    UDP = 17


class App(IntEnum):
    """Application protocols. Numbers up to QUIC are those of native/engine.h; the others are ours."""

    ANY = 0
    HTTP = 1
    TLS = 2
    DNS = 3
    SSH = 4
    SMTP = 5
    FTP = 6
    QUIC = 7
    SIP = 8
    SMB = 9
    IMAP = 10
    POP3 = 11
    MQTT = 12
    NTP = 13
    SNMP = 14
    TFTP = 15
    TELNET = 16
    RDP = 17
    DHCP = 18
    KRB5 = 19


class Flow(IntFlag):
    """Conditions on flow and direction. The numbers are those of native/engine.h."""

    NONE = 0
    BOTH_WAYS = 1
    """The header says <>: source and destination may be swapped."""
    TO_SERVER = 2
    TO_CLIENT = 4
    ESTABLISHED = 8
    NOT_ESTABLISHED = 16

    @property
    def directions(self) -> int:
        """Bits of the ways that are looked at: 1 to the server, 2 to the client."""
        return {Flow.TO_SERVER: 1, Flow.TO_CLIENT: 2}.get(self & (Flow.TO_SERVER | Flow.TO_CLIENT), 3)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the options. ``both_ways``: source and destination may also be swapped ("<>").

    ``per_packet`` is tcp-pkt.
    """

    l4: L4
    app: App
    source: Ranges
    source_ports: Ranges
    destination: Ranges
    destination_ports: Ranges
    both_ways: bool
    per_packet: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """A byte string and where it may stand; all distances in bytes, None where the rule says nothing.

    ``offset`` and ``depth`` count from the start of the buffer, ``distance`` and ``within`` from the end of the last
    match that is not negated. ``ends``: the buffer ends with it.
    """

    data: bytes
    buffer: Buffer = Buffer.STREAM
    negated: bool = False
    nocase: bool = False
    offset: int | None = None
    depth: int | None = None
    distance: int | None = None
    within: int | None = None
    ends: bool = False
    column: int = 0

    @property
    def relative(self) -> bool:
        """Whether its place is counted from the match before it."""
        return self.distance is not None or self.within is not None


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression in Perl's syntax. ``relative``: it begins to look where the last match ended."""

    expression: str
    buffer: Buffer = Buffer.STREAM
    negated: bool = False
    caseless: bool = False
    dot_all: bool = False
    multiline: bool = False
    extended: bool = False
    anchored: bool = False
    relative: bool = False
    column: int = 0


Match = Content | Regex


@dataclass(frozen=True, slots=True)
class Signature:
    """A whole rule. ``payload_length`` is dsize, bytes of one packet's payload, closed range."""

    header: Header
    sid: int
    matches: tuple[Match, ...] = ()
    gid: int = 1
    rev: int = 0
    message: str = ""
    classtype: str = ""
    priority: int = 3
    flow: Flow = Flow.NONE
    per_packet: bool = False
    """Each packet's payload for itself, not the stream."""
    payload_length: tuple[int, int] | None = None
    references: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was changed on loading, in words."""
