"""The text of rules: lines to rules, a rule to its header's words and its options, each with its place.

Nothing here knows what an option means. Every function is one pass over its text, so bad text costs no more than good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.places import shortened

MAX_RULE_LENGTH = 8192
"""Characters, as in Suricata (DETECT_MAX_RULE_SIZE)."""

_HEADER_WORDS = ("action", "protocol", "source", "source port", "direction", "destination", "destination port")


@dataclass(frozen=True, slots=True)
class RuleText:
    """One rule of a file. ``line`` counts from 1 and is where the rule begins."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Option:
    """``keyword: value;`` as it stands; ``value`` is None for a keyword alone. ``column`` counts from 1."""

    keyword: str
    value: str | None
    column: int


@dataclass(frozen=True, slots=True)
class RuleWords:
    """A rule taken apart: seven words of header, with their columns, and the options."""

    header: tuple[str, ...]
    columns: tuple[int, ...]
    options: tuple[Option, ...]


def rules_of(text: str) -> Iterator[RuleText]:
    """The rules of a text, one per line; a line that ends in a backslash goes on in the next. Comments are left out."""
    parts: list[str] = []
    start = 1
    for number, line in enumerate(text.split("\n"), start=1):
        if not parts:
            start = number
            if line.lstrip().startswith("#"):
                continue
        stripped = line.rstrip()
        if stripped.endswith("\\"):
            parts.append(stripped[:-1])
            continue
        parts.append(stripped)
        whole = " ".join(parts).strip()
        parts.clear()
        if whole:
            yield RuleText(start, whole)
    whole = " ".join(parts).strip()
    if whole:
        yield RuleText(start, whole)


def taken_apart(text: str) -> RuleWords:
    """Header words and options of one rule. Raises RuleError."""
    if len(text) > MAX_RULE_LENGTH:
        raise RuleError(f"the rule has {len(text)} characters, more than {MAX_RULE_LENGTH}")
    opening = text.find("(")
    if opening < 0:
        raise RuleError("the rule has no options: no opening bracket", keyword="header", column=len(text))
    if not text.endswith(")"):
        raise RuleError("the rule does not end with a closing bracket", column=len(text))
    header, columns = _header(text[:opening])
    return RuleWords(header, columns, tuple(_options(text[opening + 1 : -1], opening + 2)))


def _header(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    words: list[str] = []
    columns: list[int] = []
    depth = 0
    start = -1
    for at, character in enumerate(text + " "):
        if character.isspace() and (depth == 0 or at == len(text)):
            if start >= 0:
                words.append(text[start:at])
                columns.append(start + 1)
            start = -1
            continue
        start = at if start < 0 else start
        depth = max(depth + (character == "[") - (character == "]"), 0)
    if len(words) != len(_HEADER_WORDS):
        missing = _HEADER_WORDS[len(words)] if len(words) < len(_HEADER_WORDS) else ""
        what = f"{missing} is missing" if missing else f"{shortened(words[7])} is one word too many"
        raise RuleError(
            f"{what}: write action protocol source port -> destination port (options)",
            keyword="header",
            column=columns[7] if not missing else len(text),
        )
    return tuple(words), tuple(columns)


def _options(text: str, first_column: int) -> Iterator[Option]:
    start = at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == ";":
            yield _option(text[start:at], first_column + start)
            start = at + 1
        at += 1
    rest = text[start:].strip()
    if rest:
        raise RuleError(
            f"option {shortened(rest)} does not end with a semicolon",
            keyword=shortened(rest.split(":")[0].strip(), 30),
            column=first_column + start + (len(text[start:]) - len(text[start:].lstrip())),
        )


def _option(text: str, column: int) -> Option:
    column += len(text) - len(text.lstrip())
    keyword, colon, value = text.partition(":")
    keyword = keyword.strip()
    if not keyword:
        raise RuleError("an option has no keyword", column=column)
    return Option(keyword, value.strip() if colon else None, column)
