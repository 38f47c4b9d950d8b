"""As much of DNS as the lab needs: one question, and an answer with one IPv4 address (RFC 1035, section 4)."""

from __future__ import annotations

import struct
import zlib
from ipaddress import IPv4Address

_HEADER = struct.Struct("!6H")  # id, flags, questions, answers, authorities, additional records
_QUESTION = struct.Struct("!HH")  # type, class
_ANSWER = struct.Struct("!HHHIH4s")  # pointer to the name, type, class, seconds to live, length, address
_RECURSION_DESIRED = 0x0100
_RESPONSE = 0x8180  # with recursion available, and no error
_ERRORS = 0x000F
_TYPE_A, _CLASS_IN = 1, 1
_POINTER_TO_QUESTION = 0xC000 | _HEADER.size
_SECONDS_TO_LIVE = 60
_POOL = int(IPv4Address("198.51.100.0"))


def address_of(name: str) -> IPv4Address:
    """What the lab's server answers: always the same for a name, and of a network that is set aside for examples."""
    return IPv4Address(_POOL + 1 + zlib.crc32(name.lower().encode()) % 254)


def query(number: int, name: str) -> bytes:
    """A question with this id for the IPv4 address of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + labels + b"\0" + _QUESTION.pack(_TYPE_A, _CLASS_IN)


def answer(message: bytes) -> bytes:
    """The answer to a question of :func:`query`; ValueError for anything else."""
    number, _, questions, *_ = _header(message)
    name, end = _name(message)
    if questions != 1 or len(message) != end + _QUESTION.size:
        raise ValueError(f"{message!r} is not one question")
    kind, klass = _QUESTION.unpack_from(message, end)
    found = (kind, klass) == (_TYPE_A, _CLASS_IN)
    head = _HEADER.pack(number, _RESPONSE, 1, int(found), 0, 0)
    if not found:
        return head + message[_HEADER.size :]
    record = _ANSWER.pack(_POINTER_TO_QUESTION, _TYPE_A, _CLASS_IN, _SECONDS_TO_LIVE, 4, address_of(name).packed)
    return head + message[_HEADER.size :] + record


def address_in(message: bytes, number: int) -> IPv4Address:
    """The address in an answer to the question with this id; ValueError when it is none."""
    theirs, flags, _, answers, *_ = _header(message)
    if theirs != number or not flags & 0x8000 or flags & _ERRORS or answers != 1:
        raise ValueError(f"{message!r} does not answer question {number}")
    *_, address = _ANSWER.unpack_from(message, len(message) - _ANSWER.size)
    return IPv4Address(address)


def _header(message: bytes) -> tuple[int, ...]:
    if len(message) < _HEADER.size:
        raise ValueError(f"{message!r} is shorter than a header")
    return _HEADER.unpack_from(message)


def _name(message: bytes) -> tuple[str, int]:
    """The question's name, and where it ends."""
    labels, at = [], _HEADER.size
    while length := message[at] if at < len(message) else 0:
        labels.append(message[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels), at + 1
