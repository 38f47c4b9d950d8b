"""A hundred signatures of our own: as text for engines that read Suricata's language, and as what Python needs for
looking for the same by itself.

They are of the kinds that rule sets consist of. None holds for every flow of a port, so each of them keeps only those
flows interesting that it can match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

FIRST_SID = 9_000_001


class Place(Enum):
    """Where a rule looks: protocol in its header, and keyword of its buffer."""

    STREAM = ("tcp", "")
    DATAGRAM = ("udp", "")
    URI = ("http", "http.uri")
    HOST = ("http", "http.host")
    AGENT = ("http", "http.user_agent")
    SNI = ("tls", "tls.sni")
    QUERY = ("dns", "dns.query")


@dataclass(frozen=True, slots=True)
class Rule:
    """It matches where ``literal`` stands, without regard to case, and in the same buffer ``expression``, if given.

    ``to_server``: only what a client sends.
    """

    sid: int
    place: Place
    literal: str
    expression: str = ""
    to_server: bool = True

    def text(self) -> str:
        """In Suricata's language."""
        protocol, buffer = self.place.value
        options = [f'msg:"bench {self.sid - FIRST_SID + 1}: {self.place.name.lower()}"']
        if self.place in {Place.STREAM, Place.URI, Place.HOST, Place.AGENT, Place.SNI}:
            options.append(f"flow:established{',to_server' if self.to_server else ''}")
        if buffer:
            options.append(buffer)
        options.append(f'content:"{_escaped(self.literal)}"')
        if self.place is not Place.HOST:  # that buffer is in lower case already, and Suricata refuses the word there
            options.append("nocase")
        if self.expression:
            options.append(f'pcre:"/{_slashed(self.expression)}/i"')
        options += [f"sid:{self.sid}", "rev:1"]
        return f"alert {protocol} any any -> any any ({'; '.join(options)};)"


def rules() -> tuple[Rule, ...]:
    """All hundred."""
    return tuple(
        Rule(FIRST_SID + number, place, literal, expression, to_server)
        for number, (place, literal, expression, to_server) in enumerate(_all())
    )


def text() -> str:
    """The file of rules."""
    return "".join(f"{rule.text()}\n" for rule in rules())


def _all() -> Iterator[tuple[Place, str, str, bool]]:
    for literal, expression in _URIS:
        yield Place.URI, literal, expression, True
    for number in range(12):
        yield Place.URI, f"/gate{number}.php", rf"/gate{number}\.php\?id=[0-9]{{4,10}}&h=[0-9a-f]{{16}}", True
    for number in range(10):
        yield Place.HOST, f"evil{number}.badhost.example", "", True
    for literal in _AGENTS:
        yield Place.AGENT, literal, "", True
    for number in range(10):
        yield Place.SNI, f"c2-{number}.malware.example", "", True
    for number in range(10):
        yield Place.QUERY, f"drop{number}.tunnel.example", "", True
    for literal, expression, to_server in _STREAMS:
        yield Place.STREAM, literal, expression, to_server
    for number in range(10):
        yield Place.STREAM, f"bot{number}-", rf"bot{number}-(ping|pong|cmd)-[0-9a-f]{{8}}", False
    for literal in ("beacon-udp-alpha", "beacon-udp-bravo", "beacon-udp-delta", "beacon-udp-gamma", "beacon-udp-omega"):
        yield Place.DATAGRAM, literal, "", False


_URIS = (
    ("/etc/passwd", ""),
    ("../../../", ""),
    ("/wp-login.php", ""),
    ("/phpmyadmin/", ""),
    ("cmd.exe", ""),
    ("xp_cmdshell", ""),
    ("union", r"union\s+(all\s+)?select"),
    ("cmd=", r"cmd=(cat|ls|id|whoami)"),
    ("<script", r"<script[^>]{0,64}>"),
    ("/shell", r"/[a-z]+/shell[0-9]{1,3}\.php"),
    ("/.git/config", ""),
    ("/.env", ""),
    ("/actuator/env", ""),
    ("/cgi-bin/", r"/cgi-bin/[a-z]+\.(cgi|sh)\?"),
    ("/boaform/", ""),
    ("select", r"select\s+.{1,40}\s+from\s+users"),
    ("/solr/admin/", ""),
    ("passw", r"passw(or)?d=[^&\s]{1,32}"),
)
_AGENTS = (
    "sqlmap",
    "nikto",
    "masscan",
    "zgrab",
    "nmap scripting",
    "dirbuster",
    "gobuster",
    "wpscan",
    "havij",
    "jorgee",
)
_STREAMS = (
    ("${jndi:", r"\$\{jndi:(ldap|rmi|dns)://", True),
    ("eval(base64_decode", "", False),
    ("powershell -enc", "", False),
    ("mimikatz", "", False),
    ("meterpreter", "", False),
    ("/bin/bash -i", "", False),
    ("wget http://", r"wget http://[0-9.]{7,15}/", False),
    ("document.cookie", r"document\.cookie\s*\+", False),
    ("X5O!P%@AP", "", False),
    ("this program cannot be run in dos mode", "", False),
    ("-----begin rsa private key", "", False),
    ("nc -e /bin/sh", "", False),
    ("x-beacon-", r"x-beacon-[0-9]{2}: [0-9a-f]{8}", False),
    ("unsafe-deserialize", "", False),
    ("shellshock", r"\(\) \{ :;\};", True),
)


class Matcher:
    """The same rules for Python: which of them stand in some bytes."""

    def __init__(self) -> None:
        self._by_place: dict[Place, list[tuple[bytes, re.Pattern[bytes] | None, Rule]]] = {place: [] for place in Place}
        for rule in rules():
            expression = re.compile(rule.expression.encode(), re.IGNORECASE) if rule.expression else None
            self._by_place[rule.place].append((rule.literal.lower().encode(), expression, rule))

    def matches(self, place: Place, data: bytes, *, to_server: bool) -> Iterator[int]:
        """Signature ids of the rules of this place."""
        lower = data.lower()
        for literal, expression, rule in self._by_place[place]:
            found = literal in lower and (to_server or not rule.to_server)
            if found and (expression is None or expression.search(data)):
                yield rule.sid


def _escaped(literal: str) -> str:
    return "".join(char if char.isalnum() or char in "._-/ <>()*=&+" else f"|{ord(char):02x}|" for char in literal)


def _slashed(expression: str) -> str:
    return expression.replace("/", r"\/").replace(";", r"\x3b").replace('"', r"\x22")
