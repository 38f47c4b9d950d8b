"""Consistent hashing after Maglev (Eisenbud et al., NSDI 2016, section 3.4), with weights.

Every backend has its own permutation of the table's slots, made from a hash of its address and port. In turn, each
takes the next slot of its permutation that is still free. When a backend leaves, nearly all others keep their slots,
and every node that knows the same backends and weights has the same table, whatever its own numbering.

The paper's permutations are linear (offset + k * step). Two of them with steps that are alike run beside each other
for long, and when one backend leaves, the other moves with it: of pools of eight, one in a few hundred then moves 6 to
13 % of its slots without need. Here k is first scattered by a power that permutes the residues, the same for all
backends; the worst of such pools moves less than 2 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from math import gcd, isqrt

from sluicegate_api.shares import turns

SMALL_TABLE = 4093
LARGE_TABLE = 16381
"""Primes just below powers of two: multiplying by any step from 1 to size - 1 permutes the slots."""


def table_size(backends: int) -> int:
    """Slots of the table for a number of backends: at least 40 per backend up to 100, at least 32 up to 512."""
    return SMALL_TABLE if backends <= 100 else LARGE_TABLE


def maglev_table(weights: Mapping[str, int], size: int) -> tuple[str, ...]:
    """Slot → backend, keyed by ``address:port``; empty when no backend has a weight.

    The size must be prime. Raises ValueError when it is not, or smaller than the number of backends.
    """
    if size < 2 or any(size % divisor == 0 for divisor in range(2, isqrt(size) + 1)):
        raise ValueError(f"a table's size must be prime, {size} is not")
    scattered = _scattered(size)
    table: list[str | None] = [None] * size
    permutations: dict[str, tuple[int, int]] = {}
    indices: dict[str, int] = {}
    for name in turns(weights, size):
        if name not in permutations:
            offset, step, indices[name] = _draw(name, size)
            permutations[name] = (offset, step)
        offset, step = permutations[name]
        index = indices[name]
        slot = (offset + scattered[index] * step) % size
        while table[slot] is not None:
            index = (index + 1) % size
            slot = (offset + scattered[index] * step) % size
        table[slot] = name
        indices[name] = index
    return tuple(name for name in table if name is not None)


def _draw(name: str, size: int) -> tuple[int, int, int]:
    """Offset and step of a backend's permutation, and the index at which it starts."""
    digest = blake2b(name.encode(), digest_size=24).digest()
    offset, step, index = (int.from_bytes(digest[start : start + 8], "big") for start in (0, 8, 16))
    return offset % size, step % (size - 1) + 1, index % size


@lru_cache(maxsize=4)
def _scattered(size: int) -> tuple[int, ...]:
    """A permutation of the residues of a prime that is far from linear: x^e with e prime to size - 1."""
    exponent = next(e for e in count(5, 2) if gcd(e, size - 1) == 1)
    return tuple(pow(residue, exponent, size) for residue in range(size))
