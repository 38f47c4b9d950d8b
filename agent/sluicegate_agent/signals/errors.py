"""What a signal that cannot be had is told as."""

from __future__ import annotations

from typing import Final

_SHOWN: Final = 60
"""Characters of a foreign text that are shown."""


class SignalError(Exception):
    """There is no report; the message says in one line what failed, for people."""


def quoted(text: str | bytes) -> str:
    """A foreign text in quotes, in printable ASCII and cut: safe in a log, a terminal and a status."""
    return f'"{printable(text)}"'


def printable(text: str | bytes, most: int = _SHOWN) -> str:
    """The beginning of a foreign text with all but printable ASCII, quotes and backslashes escaped."""
    start = text[: most + 1]
    characters = start.decode("latin-1") if isinstance(start, bytes) else start
    shown = "".join(
        character if " " <= character <= "~" and character not in '"\\' else _escaped(character)
        for character in characters[:most]
    )
    return f"{shown}..." if len(characters) > most else shown


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii") if character != '"' else '\\"'
