"""Values of options: numbers, quoted text, bytes of a content, regular expressions."""

from __future__ import annotations

import re

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.model import Buffer, Regex
from sluicegate_agent.dpi.rules.places import shortened

_NUMBER = re.compile(r"-?[0-9]{1,10}")
_LENGTH = re.compile(r"(?P<sign>|!|<|>|<=|>=)\s*(?P<low>[0-9]{1,5})|(?P<first>[0-9]{1,5})\s*<>\s*(?P<last>[0-9]{1,5})")
_HEX = re.compile(r"[0-9A-Fa-f]{2}")

_REGEX_BUFFERS = {
    "U": Buffer.HTTP_URI,
    "I": Buffer.HTTP_URI_RAW,
    "W": Buffer.HTTP_HOST,
    "V": Buffer.HTTP_USER_AGENT,
    "M": Buffer.HTTP_METHOD,
    "H": Buffer.HTTP_HEADER,
    "D": Buffer.HTTP_HEADER,
}
_REGEX_FLAGS = "ismxAREGO"


def encoded(text: str) -> bytes:
    """Text as bytes; bytes of a file that are no UTF-8 come back as they were (PEP 383)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise RuleError("holds a character that is no text; write bytes as |41 42|") from None


def number(text: str, low: int, high: int) -> int:
    """A whole number in a closed range."""
    value = int(text) if _NUMBER.fullmatch(text) else None
    if value is None or not low <= value <= high:
        raise RuleError(f"{shortened(text)} is no number from {low} to {high}")
    return value


def quoted(text: str) -> tuple[bool, str]:
    """Whether ``!`` stands before it, and what is between the quotes, escapes and all."""
    negated = text.startswith("!")
    body = text[1:].lstrip() if negated else text
    if len(body) < 2 or body[0] != '"' or body[-1] != '"':
        raise RuleError('needs a value in double quotes; a semicolon inside is written "\\;"')
    if len(body) == 2:
        raise RuleError("is empty")
    return negated, body[1:-1]


def unescaped(text: str) -> str:
    """Text in which a backslash stood before quotes, semicolons and backslashes."""
    return re.sub(r'\\([\\";:])', r"\1", text)


def bytes_of(text: str) -> bytes:
    """The bytes of a content: text, and hexadecimal bytes between bars."""
    found = bytearray()
    for index, part in enumerate(_at_bars(text)):
        if index % 2 == 0:
            found += encoded(part)
            continue
        digits = "".join(part.split())
        if not digits or len(digits) % 2 or not re.fullmatch(r"[0-9A-Fa-f]+", digits):
            raise RuleError(f"|{shortened(part)}| are no hexadecimal bytes, such as |0d 0a|")
        found += bytes.fromhex(digits)
    return bytes(found)


def _at_bars(text: str) -> list[str]:
    parts = [""]
    at = 0
    while at < len(text):
        character = text[at]
        if character == "\\" and len(parts) % 2:
            at += 1
            if at == len(text) or text[at] not in '\\";:|':
                raise RuleError('a backslash stands only before \\, ", ; and :; write |5c| for the byte itself')
            parts[-1] += text[at]
        elif character == "|":
            parts.append("")
        elif character == '"' and len(parts) % 2:
            raise RuleError('a quote inside is written \\" or |22|')
        else:
            parts[-1] += character
        at += 1
    if len(parts) % 2 == 0:
        raise RuleError("has an odd number of bars: hexadecimal bytes stand between two")
    return parts


def length_range(text: str, last: int) -> tuple[int, int]:
    """The closed range that a dsize names."""
    parts = _LENGTH.fullmatch(text)
    if parts is None:
        raise RuleError(f"{shortened(text)} is no length: write 100, <100, >100, <=100, >=100 or 50<>100")
    if parts["first"] is not None:
        low, high = int(parts["first"]) + 1, int(parts["last"]) - 1
    else:
        at = int(parts["low"])
        if parts["sign"] == "!" and at:
            raise RuleError("only !0 can be negated; write < or >")
        low, high = {
            "": (at, at),
            "!": (1, last),
            "<": (0, at - 1),
            ">": (at + 1, last),
            "<=": (0, at),
            ">=": (at, last),
        }[parts["sign"]]
    if not 0 <= low <= high <= last:
        raise RuleError(f"{shortened(text)} allows no length from 0 to {last}")
    return low, high


def regex_of(text: str, buffer: Buffer) -> Regex:
    """A regular expression between slashes, with its flags."""
    end = text.rfind("/")
    if not text.startswith("/") or end == 0:
        raise RuleError('stands between slashes: pcre:"/expression/flags"')
    expression, flags = text[1:end], text[end + 1 :]
    if not expression:
        raise RuleError("is empty")
    for flag in flags:
        if flag in _REGEX_BUFFERS:
            if buffer not in {Buffer.STREAM, _REGEX_BUFFERS[flag]}:
                raise RuleError(f"flag {flag} contradicts {buffer.keyword}")
            buffer = _REGEX_BUFFERS[flag]
        elif flag not in _REGEX_FLAGS:
            raise RuleError(f"flag {flag} is not supported here yet; known are {_REGEX_FLAGS}{''.join(_REGEX_BUFFERS)}")
    return Regex(
        expression,
        buffer,
        caseless="i" in flags,
        dot_all="s" in flags,
        multiline="m" in flags,
        extended="x" in flags,
        anchored="A" in flags,
        relative="R" in flags,
    )
