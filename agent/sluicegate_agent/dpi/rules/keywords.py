"""Every keyword that the parser knows: what docs/reference/signatures.md says, and what options.py does with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sluicegate_agent.dpi.rules.model import App, Buffer


class Kind(StrEnum):
    """What a keyword is about; the sections of the reference page, in their order."""

    NAME = "What an alert says"
    FLOW = "Flow and packet"
    BUFFER = "Where to look"
    PAYLOAD = "What to look for"
    PLACE = "Where a content may stand"
    NO_EFFECT = "Read, without effect"


@dataclass(frozen=True, slots=True)
class Keyword:
    """``form`` is how it is written, ``meaning`` what it does here, in the words of the reference page."""

    kind: Kind
    form: str
    meaning: str
    buffer: Buffer | None = None
    modifies: bool = False
    """An old-style buffer keyword: it moves the content before it."""


def _sticky(buffer: Buffer, form: str, meaning: str) -> Keyword:
    return Keyword(Kind.BUFFER, form, meaning, buffer)


def _old(buffer: Buffer, form: str) -> Keyword:
    return Keyword(
        Kind.BUFFER, form, f"Old spelling: the content or pcre before it looks in `{buffer.keyword}`.", buffer, True
    )


KEYWORDS: Mapping[str, Keyword] = {
    "msg": Keyword(
        Kind.NAME, 'msg:"text";', "The alert's text. A semicolon, quote or backslash in it is written `\\;`."
    ),
    "sid": Keyword(
        Kind.NAME, "sid:1000001;", "The rule's number, 1 to 4294967295; required, and used once in all rules."
    ),
    "rev": Keyword(Kind.NAME, "rev:3;", "The rule's revision; default 0."),
    "gid": Keyword(Kind.NAME, "gid:1;", "The group of the number; default 1."),
    "classtype": Keyword(
        Kind.NAME,
        "classtype:web-application-attack;",
        "The kind of event; gives the priority when the rule names none.",
    ),
    "priority": Keyword(
        Kind.NAME, "priority:1;", "1 to 255, 1 is the most urgent; default 3, or that of the classtype."
    ),
    "reference": Keyword(Kind.NAME, "reference:url,example.com/1;", "Kept for people; not looked up."),
    "metadata": Keyword(Kind.NAME, "metadata:key value, key value;", "Kept for people; decides nothing."),
    "flow": Keyword(
        Kind.FLOW,
        "flow:established,to_server;",
        "`to_server` or `from_client`, `to_client` or `from_server`: the direction that is searched. `established`: "
        "both sides have spoken; `not_established`: not yet; `stateless`: either. `only_stream` and `no_stream`: "
        "search the stream, or each packet for itself.",
    ),
    "dsize": Keyword(
        Kind.FLOW,
        "dsize:>100;",
        "Bytes of the packet's payload: `n`, `!n`, `<n`, `>n`, `<=n`, `>=n`, or `a<>b` for more than a and less than "
        "b. Everything else in the rule must then be in that one packet. `!n` only as `!0`.",
    ),
    "http.uri": _sticky(Buffer.HTTP_URI, "http.uri;", "The target of a request, `%XX` decoded once."),
    "http.uri.raw": _sticky(Buffer.HTTP_URI_RAW, "http.uri.raw;", "The target of a request as it was sent."),
    "http.host": _sticky(
        Buffer.HTTP_HOST,
        "http.host;",
        "The `Host` of a request, in lower case and without a port; so contents need lower case.",
    ),
    "http.user_agent": _sticky(Buffer.HTTP_USER_AGENT, "http.user_agent;", "The `User-Agent` of a request."),
    "http.method": _sticky(Buffer.HTTP_METHOD, "http.method;", "The method of a request."),
    "http.header": _sticky(
        Buffer.HTTP_HEADER,
        "http.header;",
        "All header lines of a request as they were sent, each with its line end; so `|0d 0a|` ends a value. Not those "
        "of an answer.",
    ),
    "http.header.raw": _sticky(Buffer.HTTP_HEADER, "http.header.raw;", "The same."),
    "tls.sni": _sticky(Buffer.TLS_SNI, "tls.sni;", "The server name that a TLS client asks for, over TCP."),
    "dns.query": _sticky(
        Buffer.DNS_QUERY,
        "dns.query;",
        "The name in the first question, over UDP, with dots and in lower case; so contents need lower case.",
    ),
    "pkt_data": _sticky(Buffer.STREAM, "pkt_data;", "Back to the payload."),
    "http_uri": _old(Buffer.HTTP_URI, "http_uri;"),
    "http_raw_uri": _old(Buffer.HTTP_URI_RAW, "http_raw_uri;"),
    "http_host": _old(Buffer.HTTP_HOST, "http_host;"),
    "http_user_agent": _old(Buffer.HTTP_USER_AGENT, "http_user_agent;"),
    "http_method": _old(Buffer.HTTP_METHOD, "http_method;"),
    "http_header": _old(Buffer.HTTP_HEADER, "http_header;"),
    "http_raw_header": _old(Buffer.HTTP_HEADER, "http_raw_header;"),
    "tls_sni": _sticky(Buffer.TLS_SNI, "tls_sni;", "Old spelling of `tls.sni`."),
    "dns_query": _sticky(Buffer.DNS_QUERY, "dns_query;", "Old spelling of `dns.query`."),
    "content": Keyword(
        Kind.PAYLOAD,
        'content:"GET |2f|";',
        'Bytes that must be there; with `content:!"..."` must not. Between bars are hexadecimal bytes; `\\;`, '
        '`\\"`, `\\\\` and `\\:` are the characters themselves. A negated content in the payload means: not in what '
        "was seen so far. Relative to the match before it, it is the last that is, has `within`, and is one byte or as "
        "long as `within`; it then holds when other bytes came, or the connection ended.",
    ),
    "pcre": Keyword(
        Kind.PAYLOAD,
        'pcre:"/id=\\d+/Ri";',
        "A regular expression; `pcre:!` negates. Flags: `i` either case, `s` a dot is any byte, `m` `^` and `$` at "
        "lines, `x` blanks are ignored, `A` only at the start, `E` and `G` and `O` read without effect, `R` from the "
        "end of the match before; `U` `I` `W` `V` `M` look in http.uri, http.uri.raw, http.host, "
        "http.user_agent, http.method, `H` and `D` in http.header. Not possible, and refused: looking ahead or "
        "behind, references to groups, possessive and atomic parts, conditions.",
    ),
    "nocase": Keyword(Kind.PLACE, "nocase;", "Letters of either case."),
    "offset": Keyword(Kind.PLACE, "offset:4;", "Begins at this byte of the buffer or later, counted from 0."),
    "depth": Keyword(Kind.PLACE, "depth:20;", "Lies within this many bytes, counted from the offset."),
    "distance": Keyword(
        Kind.PLACE, "distance:2;", "Begins at least this many bytes after the end of the match before."
    ),
    "within": Keyword(
        Kind.PLACE, "within:10;", "Lies within this many bytes after the end of the match before (and its distance)."
    ),
    "startswith": Keyword(Kind.PLACE, "startswith;", "The buffer begins with it."),
    "endswith": Keyword(
        Kind.PLACE,
        "endswith;",
        "The buffer ends with it. The payload of a TCP connection ends when the connection does.",
    ),
    "fast_pattern": Keyword(
        Kind.NO_EFFECT, "fast_pattern;", "All patterns are searched at once; none needs to be first."
    ),
    "rawbytes": Keyword(Kind.NO_EFFECT, "rawbytes;", "Payload is always raw."),
    "target": Keyword(Kind.NO_EFFECT, "target:src_ip;", "Both ends stand in the alert."),
    "threshold": Keyword(
        Kind.NO_EFFECT,
        "threshold:type limit,...;",
        "A rule alerts once per flow anyway; the types `threshold` and `both` are refused.",
    ),
}

PROTOCOLS: Mapping[str, tuple[int, App]] = {
    "ip": (0, App.ANY),
    "tcp": (6, App.ANY),
    "tcp-pkt": (6, App.ANY),
    "tcp-stream": (6, App.ANY),
    "udp": (17, App.ANY),
    "icmp": (1, App.ANY),
    "http": (6, App.HTTP),
    "http1": (6, App.HTTP),
    "tls": (6, App.TLS),
    "ssl": (6, App.TLS),
    "ssh": (6, App.SSH),
    "smtp": (6, App.SMTP),
    "ftp": (6, App.FTP),
    "smb": (6, App.SMB),
    "imap": (6, App.IMAP),
    "pop3": (6, App.POP3),
    "mqtt": (6, App.MQTT),
    "telnet": (6, App.TELNET),
    "rdp": (6, App.RDP),
    "dns": (0, App.DNS),
    "sip": (0, App.SIP),
    "krb5": (0, App.KRB5),
    "quic": (17, App.QUIC),
    "ntp": (17, App.NTP),
    "snmp": (17, App.SNMP),
    "tftp": (17, App.TFTP),
    "dhcp": (17, App.DHCP),
}
"""Words for the protocol in a rule's header: transport (0: any) and application."""

CLASS_PRIORITIES: Mapping[str, int] = dict(
    [
        *((name, 1) for name in (
            "attempted-admin", "attempted-user", "command-and-control", "coin-mining", "credential-theft",
            "domain-c2", "exploit-kit", "inappropriate-content", "policy-violation",
            "shellcode-detect", "social-engineering", "successful-admin", "successful-user", "targeted-activity",
            "trojan-activity", "unsuccessful-user", "web-application-attack",
        )),
        *((name, 2) for name in (
            "attempted-dos", "attempted-recon", "bad-unknown", "default-login-attempt", "denial-of-service",
            "misc-attack", "non-standard-protocol", "pup-activity", "rpc-portmap-decode", "successful-dos",
            "successful-recon-largescale", "successful-recon-limited", "suspicious-filename-detect",
            "suspicious-login", "system-call-detect", "unusual-client-port-connection", "web-application-activity",
            "external-ip-check",
        )),
        *((name, 3) for name in (
            "icmp-event", "misc-activity", "network-scan", "not-suspicious", "protocol-command-decode",
            "string-detect", "unknown",
        )),
        ("tcp-connection", 4),
    ]
)  # fmt: skip
"""Priorities that Suricata's own classification gives; a class that is not here has 3."""
