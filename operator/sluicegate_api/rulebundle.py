"""Texts of rules on their way to the nodes: immutable, named by what they hold, in parts that fit into an object."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from sluicegate_api.cel import cel, validations
from sluicegate_api.common import ApiModel, ObjectMeta

LARGEST_PART = 512 * 1024
"""Characters of a part: what etcd takes of an object is about three times that."""
LARGEST_TEXT = 64 * 1024 * 1024
"""Bytes of a text when unpacked: a small bundle cannot fill a node's memory."""
MAX_PARTS = 64
BUNDLE_DIGITS = 32
BUNDLE_PATTERN = r"^[0-9a-f]{32}$"

BundleDigest = Annotated[str, StringConstraints(max_length=BUNDLE_DIGITS, pattern=BUNDLE_PATTERN)]
PartCount = Annotated[int, Field(strict=True, ge=1, le=MAX_PARTS)]


class BundleError(Exception):
    """Parts that do not make the text that their name promises. The message says why."""


class RuleBundleSpec(ApiModel):
    """One part of a text of rules."""

    model_config = ConfigDict(json_schema_extra=validations(cel("self == oldSelf", "a bundle never changes")))

    digest: BundleDigest
    """First digits of the SHA-256 of the whole text."""
    part: Annotated[int, Field(strict=True, ge=0, le=MAX_PARTS - 1)]
    """Number of this part, from 0."""
    parts: PartCount
    """How many there are."""
    data: Annotated[str, StringConstraints(max_length=LARGEST_PART)]
    """A piece of the text after zlib and base64."""


class RuleBundle(ApiModel):
    """Part of a text of signatures. Written by the operator, never changed."""

    api_version: Literal["sluicegate.io/v1alpha1"] = "sluicegate.io/v1alpha1"
    kind: Literal["RuleBundle"] = "RuleBundle"
    metadata: ObjectMeta
    spec: RuleBundleSpec
    """The part."""


def bundle_digest(text: str) -> str:
    """What a text's bundles are named by."""
    return hashlib.sha256(text.encode()).hexdigest()[:BUNDLE_DIGITS]


def bundle_name(digest: str, part: int) -> str:
    """Name of the object that holds a part."""
    return f"{digest}-{part}"


def pack(text: str) -> tuple[RuleBundleSpec, ...]:
    """All parts of a text. Raises BundleError for one that takes more than MAX_PARTS of them."""
    digest = bundle_digest(text)
    # Level and wrapping are fixed: the same text must give the same parts on every replica.
    data = base64.b64encode(zlib.compress(text.encode(), 6)).decode("ascii")
    pieces = [data[start : start + LARGEST_PART] for start in range(0, len(data), LARGEST_PART)]
    if len(pieces) > MAX_PARTS:
        raise BundleError(f"is {len(data)} characters long when packed, at most {MAX_PARTS * LARGEST_PART} are allowed")
    return tuple(
        RuleBundleSpec(digest=digest, part=number, parts=len(pieces), data=piece) for number, piece in enumerate(pieces)
    )


def unpack(parts: Sequence[RuleBundleSpec]) -> str:
    """The text of all its parts, in any order. Raises BundleError when one is missing or something does not fit."""
    ordered = sorted(parts, key=lambda each: each.part)
    if not ordered or [each.part for each in ordered] != list(range(ordered[0].parts)):
        raise BundleError("not all parts are there")
    try:
        packed = base64.b64decode("".join(each.data for each in ordered), validate=True)
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(packed, LARGEST_TEXT)
    except (binascii.Error, zlib.error) as error:
        raise BundleError(f"cannot be unpacked: {error}") from error
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise BundleError(f"is cut, or longer than {LARGEST_TEXT} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BundleError(f"is not UTF-8 at byte {error.start}") from error
    if bundle_digest(text) != ordered[0].digest:
        raise BundleError("its text is not the one it is named by")
    return text
