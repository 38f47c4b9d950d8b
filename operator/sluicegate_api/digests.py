"""Digests of values: the same for the same content, whatever the order of keys, on every machine."""

from __future__ import annotations

import hashlib
import json

from pydantic import JsonValue

DIGEST_DIGITS = 16
"""Hexadecimal digits of a digest: 64 bits tell a few thousand versions of a slice apart."""
DIGEST_PATTERN = r"^[0-9a-f]{16}$"


def canonical_json(value: JsonValue) -> bytes:
    """Compact JSON with sorted keys, in UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: JsonValue) -> str:
    """The first digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:DIGEST_DIGITS]
