"""Sets of addresses and ports as sorted, disjoint, closed ranges: negation and lists are resolved here, once.

Addresses of both families share one line of numbers: IPv4 stands at ::ffff:0:0/96 (RFC 4291, 2.5.5.2), as the engine's
16-byte addresses do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

V4_FIRST = 0xFFFF << 32
V4_LAST = V4_FIRST | 0xFFFFFFFF
LAST_ADDRESS = (1 << 128) - 1
LAST_PORT = 65535


def address_number(address: IPv4Address | IPv6Address) -> int:
    """Where an address stands."""
    return V4_FIRST | int(address) if isinstance(address, IPv4Address) else int(address)


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of whole numbers from 0 to ``last``."""

    pairs: tuple[tuple[int, int], ...]
    last: int

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]], last: int) -> Ranges:
        """The union of closed ranges, in any order."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted(pairs):
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        return cls(tuple(merged), last)

    @classmethod
    def everything(cls, last: int) -> Ranges:
        """All numbers."""
        return cls(((0, last),), last)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self.pairs == ((0, self.last),)

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __contains__(self, number: int) -> bool:
        return any(low <= number <= high for low, high in self.pairs)

    def __or__(self, other: Ranges) -> Ranges:
        return Ranges.of((*self.pairs, *other.pairs), self.last)

    def __invert__(self) -> Ranges:
        gaps = []
        start = 0
        for low, high in self.pairs:
            if start < low:
                gaps.append((start, low - 1))
            start = high + 1
        if start <= self.last:
            gaps.append((start, self.last))
        return Ranges(tuple(gaps), self.last)

    def __sub__(self, other: Ranges) -> Ranges:
        return ~(~self | other)
