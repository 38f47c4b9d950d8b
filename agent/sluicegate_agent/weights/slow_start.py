"""Slow start: a backend that has just come into use gets its weight little by little."""

from __future__ import annotations

from typing import Final

LEAST: Final = 0.1
"""Where slow start begins, as in Envoy: enough to warm caches up, too little to drown it."""


def factor(age: float, window: float) -> float:
    """Part of its weight that a backend gets ``age`` seconds after it came into use; 1 without a window."""
    if window <= 0.0 or age >= window:
        return 1.0
    return max(LEAST, age / window)
