"""Durations as people write them: 30s, 10m, 2h, 1h30m."""

from __future__ import annotations

import re

LEAST_DRAIN = 1
MOST_DRAIN = 7 * 86_400
"""Seconds for which an operator drains a backend. What is meant for longer belongs where others see it: into the
configuration."""

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PARTS = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", re.ASCII)


class DurationError(ValueError):
    """Words that are no duration, or one out of bounds. The message says which are taken."""


def parse_duration(text: str, *, least: int, most: int) -> int:
    """Seconds, from ``least`` to ``most``. Raises DurationError."""
    match = _PARTS.fullmatch(text)
    if match is None or not text:
        raise DurationError(f"{text!r} is no duration: write 30s, 10m, 2h or 1h30m")
    seconds = sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNITS.values(), strict=True))
    if not least <= seconds <= most:
        raise DurationError(f"{text!r} is out of bounds: write {duration_text(least)} to {duration_text(most)}")
    return seconds


def parse_ttl(text: str) -> int:
    """Seconds for which a backend is drained. Raises DurationError."""
    try:
        return parse_duration(text, least=LEAST_DRAIN, most=MOST_DRAIN)
    except DurationError as error:
        raise DurationError(f"--ttl: {error}") from None


def duration_text(seconds: float) -> str:
    """The inverse, rounded to whole seconds: "1h30m"."""
    rest = round(seconds)
    parts = []
    for name, unit in _UNITS.items():
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"
