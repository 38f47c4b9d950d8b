"""Bytes that a sender and a receiver can both make, so that a transfer is verified without a file."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

BLOCK = 65536


def blocks(size: int) -> Iterator[bytes]:
    """``size`` bytes in blocks of 64 KiB, no two alike: a lost, doubled or moved segment changes the digest."""
    for index in range((size + BLOCK - 1) // BLOCK):
        yield random.Random(index).randbytes(min(BLOCK, size - index * BLOCK))  # noqa: S311


def digest(size: int) -> str:
    """SHA-256 of :func:`blocks`, in hex."""
    total = hashlib.sha256()
    for block in blocks(size):
        total.update(block)
    return total.hexdigest()
