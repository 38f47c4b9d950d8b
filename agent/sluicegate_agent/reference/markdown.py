"""The few forms of Markdown that the pages need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKS = re.compile(r"[*<\\]|(?<!\w)_|_(?!\w)|\](?=\()")
"""What would be markup; an underline inside a word is none."""
_NOTICE = "<!-- Made from the code by `make docs`. Change the code, not this page. -->"


def page(title: str, *parts: str) -> str:
    """A whole page: title, notice, and parts apart by empty lines. Empty parts are left out."""
    return "\n\n".join([f"# {title}", _NOTICE, *(part.strip() for part in parts if part.strip())]) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already, but for bars and line breaks. No rows give no table."""
    lines = [[_cell(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *lines))


def code(text: str) -> str:
    """Text as it is typed; empty stays empty."""
    return f"`{text}`" if text else ""


def codes(texts: Iterable[str]) -> str:
    """Several of them."""
    return ", ".join(map(code, texts))


def literally(text: str) -> str:
    """Prose in which nothing but code is markup."""
    return _MARKS.sub(r"\\\g<0>", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
