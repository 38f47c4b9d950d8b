"""From what a rule looks for to expressions that Vectorscan searches.

Matches that are relative to each other become one expression, so that Vectorscan itself finds every way to place them,
as Suricata does; a content with offset and depth alone keeps them as bounds of the match's end. The syntax is that of
PCRE without what Vectorscan leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.model import Buffer, Content, Match, Regex
from sluicegate_agent.dpi.rules.tables import CASELESS, DOT_ALL, MULTILINE, NO_OFFSET, SINGLE_MATCH
from sluicegate_agent.dpi.rules.values import encoded

_ANY_BYTE = rb"[\x00-\xff]"
_COMMENT_END = b"\n"
MAX_REPEAT = 32767
"""Largest bound of a repeat in Vectorscan."""


@dataclass(frozen=True, slots=True)
class Term:
    """One expression on one buffer, which must be found, or must not. Offsets are of the match's end."""

    expression: bytes
    flags: int
    buffer: Buffer
    negated: bool = False
    min_offset: int = 0
    max_offset: int = NO_OFFSET


def terms_of(matches: Sequence[Match]) -> tuple[Term, ...]:
    """The terms of a rule's matches, in their order. Raises RuleError."""
    chains: list[list[Match]] = []
    last: dict[Buffer, list[Match]] = {}
    for match in matches:
        if match.relative:
            if last[match.buffer][-1].negated:
                raise RuleError(
                    "cannot count from the match before a negated one that does so too; put the negated one last"
                ).at("content" if isinstance(match, Content) else "pcre", match.column)
            last[match.buffer].append(match)
            continue
        chain = [match]
        chains.append(chain)
        if not match.negated:
            last[match.buffer] = chain
    return tuple(_term(chain) for chain in chains)


def can_be_absent(match: Match) -> bool:
    """Whether an expression can say that this is not behind another match: one byte in a row, or bytes at one place."""
    return (
        isinstance(match, Content)
        and match.within is not None
        and len(match.data) in {1, match.within}
        and not match.ends
        and match.within + (match.distance or 0) <= MAX_REPEAT
    )


def _term(chain: Sequence[Match]) -> Term:
    first = chain[0]
    if len(chain) == 1 and isinstance(first, Content):
        return _content_term(first)
    if len(chain) == 1 and isinstance(first, Regex):
        try:
            return _regex_term(first)
        except RuleError as error:
            raise error.at("pcre", first.column) from None
    caseless = all(isinstance(each, Content) and each.nocase for each in chain)
    parts = []
    for each in chain:
        try:
            if isinstance(each, Content) and each.negated and each is not first:
                parts.append(_absent(each))
                continue
            parts += [_start(each) if each is first else _gap_before(each), _element(each, caseless=caseless)]
        except RuleError as error:
            raise error.at("content" if isinstance(each, Content) else "pcre", each.column) from None
    flags = SINGLE_MATCH | (CASELESS if caseless else 0)
    return Term(b"".join(parts), flags, first.buffer, max_offset=_last_end(chain))


def _content_term(content: Content) -> Term:
    low = (content.offset or 0) + len(content.data) if content.offset else 0
    high = NO_OFFSET if content.depth is None else (content.offset or 0) + content.depth
    expression = _literal(content.data) + (rb"\z" if content.ends else b"")
    flags = SINGLE_MATCH | DOT_ALL | (CASELESS if content.nocase else 0)
    return Term(expression, flags, content.buffer, content.negated, low, high)


def _regex_term(regex: Regex) -> Term:
    expression = _safe(regex)
    if regex.extended:
        expression = b"(?x)" + expression + _COMMENT_END
    if regex.anchored:
        expression = rb"\A(?:" + expression + b")"
    flags = SINGLE_MATCH
    flags |= CASELESS if regex.caseless else 0
    flags |= DOT_ALL if regex.dot_all else 0
    flags |= MULTILINE if regex.multiline else 0
    return Term(expression, flags, regex.buffer, regex.negated)


def _start(first: Match) -> bytes:
    """What stands before the first element of a chain."""
    if isinstance(first, Regex):
        return rb"\A" if first.anchored else b""
    if first.offset is None and first.depth is None:
        return b""
    offset = first.offset or 0
    return rb"\A" + _gap(offset, None if first.depth is None else offset + first.depth - len(first.data))


def _gap_before(match: Match) -> bytes:
    if isinstance(match, Regex):
        return b"" if _starts_at_once(match) else _gap(0, None)
    low = match.distance or 0
    return _gap(low, None if match.within is None else low + match.within - len(match.data))


def _gap(low: int, high: int | None) -> bytes:
    if max(low, high or 0) > MAX_REPEAT:
        raise RuleError(f"matches that are more than {MAX_REPEAT} bytes apart cannot be expressed here")
    if (low, high) == (0, 0):
        return b""
    return _ANY_BYTE + (b"{%d,}" % low if high is None else b"{%d,%d}" % (low, high))


def _element(match: Match, *, caseless: bool) -> bytes:
    if isinstance(match, Content):
        literal = _literal(match.data)
        if match.nocase and not caseless:
            literal = b"(?i:" + literal + b")"
        return literal + (rb"\z" if match.ends else b"")
    expression = _safe(match)
    if match.relative and _starts_at_once(match) and not match.anchored:
        expression = expression[1:] if expression.startswith(b"^") else expression[2:]
    on = "".join(
        letter
        for letter, wanted in zip("ismx", (match.caseless, match.dot_all, match.multiline, match.extended), strict=True)
        if wanted
    )
    return b"(?" + on.encode() + b":" + expression + (_COMMENT_END if match.extended else b"") + b")"


def _absent(content: Content) -> bytes:
    """That a content is not at its place: other bytes are, or the buffer ends before."""
    others = [b"[^\\x%02x]" % byte for byte in content.data]
    within = content.within or len(others)
    found = others[-1] + rb"|\z"
    if within > len(others):
        found = others[0] + b"{%d}|" % within + others[0] + rb"{0,%d}\z" % (within - 1)
    else:
        for byte, other in zip(reversed(content.data[:-1]), reversed(others[:-1]), strict=True):
            found = other + rb"|\z|\x%02x(?:" % byte + found + b")"
    found = b"(?i:" + found + b")" if content.nocase else b"(?:" + found + b")"
    if not content.distance:
        return found
    away = _gap(content.distance, content.distance)
    return b"(?:" + away + found + b"|" + _gap(0, content.distance - 1) + rb"\z)"


def _starts_at_once(regex: Regex) -> bool:
    """Whether a relative expression matches only right behind the match before it."""
    if regex.anchored:
        return True
    if regex.multiline or not regex.expression.startswith(("^", r"\A")):
        return False
    if _alternatives(regex.expression):
        raise RuleError("^ in one of several alternatives cannot be relative here: write ^(?:one|other)")
    return True


def _literal(data: bytes) -> bytes:
    return b"".join(bytes((byte,)) if chr(byte).isalnum() and byte < 128 else rb"\x%02x" % byte for byte in data)


def _safe(regex: Regex) -> bytes:
    """The expression, which must be whole by itself: it is put into groups."""
    text = regex.expression
    if "\0" in text:
        raise RuleError(r"holds a NUL character; write \x00")
    _alternatives(text)
    return encoded(text)


def _alternatives(expression: str) -> bool:
    """Whether "|" stands outside of all groups. Raises RuleError when brackets do not pair."""
    depth = at = 0
    found = False
    while at < len(expression):
        character = expression[at]
        if character == "\\":
            if expression[at + 1 : at + 2] == "Q":
                end = expression.find(r"\E", at)
                at = len(expression) if end < 0 else end
            at += 2
            continue
        if character == "[":
            at = _class_end(expression, at)
        if expression.startswith("(*", at):
            # (*UTF8) would have Vectorscan trust that payload is valid UTF-8, which nobody promised.
            raise RuleError("(*...) is not supported")
        depth += (character == "(") - (character == ")")
        if depth < 0:
            raise RuleError("closes a group that it did not open")
        found = found or (character == "|" and depth == 0)
        at += 1
    if depth or at > len(expression):
        raise RuleError("has a group or a backslash without its end")
    return found


def _class_end(expression: str, start: int) -> int:
    at = start + 1
    at += expression[at : at + 1] == "^"
    at += expression[at : at + 1] == "]"
    while at < len(expression) and expression[at] != "]":
        named = expression[at : at + 2] in {"[:", "[.", "[="}
        closing = expression.find(expression[at + 1] + "]", at + 2) if named else -1
        at = closing + 2 if closing >= 0 else at + 1 + (expression[at] == "\\")
    if at >= len(expression):
        raise RuleError("has a class [...] without its end")
    return at


def _last_end(chain: Sequence[Match]) -> int:
    """Where a chain ends at the latest, when every step has a bound."""
    end = 0
    for position, match in enumerate(chain):
        if isinstance(match, Regex):
            return NO_OFFSET
        if position == 0:
            if match.depth is None:
                return NO_OFFSET
            end = (match.offset or 0) + match.depth
        elif match.within is None:
            return NO_OFFSET
        else:
            end += (match.distance or 0) + match.within
    return end
