"""Rules as the engine takes them: the structs of native/engine.h, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NO_OFFSET: Final = 2**64 - 1
"""Value of max_offset without one."""

CASELESS, DOT_ALL, MULTILINE, SINGLE_MATCH = 1, 2, 4, 8
"""HS_FLAG_* of hs_compile.h."""

MAX_TERMS: Final = 32
MAX_DSIZE: Final = 65535
APPS: Final = 256


@dataclass(frozen=True, slots=True)
class Pattern:
    """struct sg_pattern: one expression on one buffer. Offsets are of the match's end, in bytes of the buffer."""

    expression: bytes
    flags: int
    buffer: int
    directions: int
    min_offset: int = 0
    max_offset: int = NO_OFFSET


@dataclass(frozen=True, slots=True)
class Rule:
    """struct sg_rule. Sources and destinations are indices of sets; 0 is any."""

    sid: int
    need: int = 0
    forbid: int = 0
    request_bits: int = 0
    source: int = 0
    destination: int = 0
    source_port: int = 0
    destination_port: int = 0
    dsize_low: int = 0
    dsize_high: int = MAX_DSIZE
    l4: int = 0
    app: int = 0
    flags: int = 0
    action: int = 0


@dataclass(frozen=True, slots=True)
class RuleTables:
    """struct sg_ruleset.

    The terms of pattern i are terms[first_term[i]:first_term[i + 1]], each a rule's index and the bits that it gets.
    Address sets hold closed ranges of 16 bytes, IPv4 as ::ffff:a.b.c.d; entry 0 of both kinds of sets stands for any.
    """

    patterns: tuple[Pattern, ...] = ()
    first_term: tuple[int, ...] = (0,)
    terms: tuple[tuple[int, int], ...] = ()
    rules: tuple[Rule, ...] = ()
    bare: tuple[int, ...] = ()
    address_sets: tuple[tuple[tuple[bytes, bytes], ...], ...] = ((),)
    port_sets: tuple[tuple[tuple[int, int], ...], ...] = ((),)
    reach: tuple[int, int] = (0, 0)
    keep_for_app: tuple[int, ...] = (0,) * APPS
