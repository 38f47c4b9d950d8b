"""What the pool and a worker say to each other: frames on a socket.

To the worker: objects, pickled, because it trusts the pool; and ended flows as plain rows, because there are many. From
the worker: lines and JSON only, every part of it checked, because what reads hostile packets may come to say anything.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, NamedTuple

from sluicegate_agent.dpi.actions import FlowAction
from sluicegate_agent.dpi.engine_model import Limits, Policy
from sluicegate_agent.dpi.rules.tables import RuleTables

HEADER: Final = struct.Struct("<II")
"""Of a frame: length of what follows, and what it is."""
MAX_FROM_WORKER: Final = 1 << 20
"""Bytes of one frame."""
LINES_PER_FRAME: Final = 256 << 10
"""Bytes of lines after which a worker begins another frame."""
EVENT_TYPES: Final = frozenset({"flow", "alert", "tls", "http", "dns", "anomaly"})
MAX_SNIFFER: Final = 255

_MAX_TEXT = 512
_MAX_COUNTERS = 256
_LINES = struct.Struct("<B15s")  # number of the sniffer, event type


class ToWorker(IntEnum):
    """Frames of the pool."""

    START = 1
    CONFIGURE = 2
    ENDED = 3
    STOP = 4


class FromWorker(IntEnum):
    """Frames of a worker."""

    REPORT = 1
    LINES = 2


class NonsenseError(Exception):
    """A worker sent what no worker sends."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker must know before it gives up its rights. ``settings`` are nDPI's, which is used if ``classify``."""

    parent: int
    ring_bytes: int
    limits: Limits
    classify: bool
    settings: tuple[tuple[str | None, str, str], ...] = ()


class SignatureName(NamedTuple):
    """What an alert says of its rule."""

    sid: int
    gid: int
    rev: int
    message: str
    classtype: str
    priority: int


@dataclass(frozen=True, slots=True)
class Orders:
    """One sniffer. ``rules``: see `packed_rules`; ``digest`` tells them apart.

    A worker that has rules of that digest keeps them, so that they need not be sent again.
    """

    vnf: str
    engine: Policy
    actions: tuple[FlowAction, ...] = ()
    digest: bytes = b""
    rules: bytes | None = None


@dataclass(frozen=True, slots=True)
class Configure:
    """All orders, by number of the sniffer; those that are missing are gone. ``interfaces``: names by index."""

    version: int
    node: str
    orders: Mapping[int, Orders]
    interfaces: Mapping[int, str]


def without_rules(message: Configure, known: Collection[bytes]) -> Configure:
    """The same for a worker that has the rules of these digests."""
    orders = {
        number: replace(each, rules=None) if each.digest in known else each for number, each in message.orders.items()
    }
    return replace(message, orders=orders)


class Ended(NamedTuple):
    """A flow that is over in the kernel; as `model.EndedFlow`. ``end`` is a place in ENDS."""

    flow_id: int
    packets_to_server: int
    packets_to_client: int
    octets_to_server: int
    octets_to_client: int
    first_ns: int
    last_ns: int
    client: bytes
    server: bytes
    client_port: int
    server_port: int
    ifindex: int
    tunnel: int
    sent: int
    family: int
    protocol: int
    state: int
    why: int
    closing: bool
    sniffer: int
    end: int


ENDS: Final = ("timeout", "reused", "evicted", "shutdown")
"""Why a flow ended, in EVE's words."""
_ENDED: Final = struct.Struct("<QQQQQQQ16s16sHHIIIBBBBBBB")


def packed_rules(tables: RuleTables, drop_seconds: Mapping[int, int], signatures: Mapping[int, SignatureName]) -> bytes:
    """Rules, for how long they drop, and what alerts say of them, both by sid."""
    return pickle.dumps((tables, dict(drop_seconds), dict(signatures)), pickle.HIGHEST_PROTOCOL)


def rules_of(packed: bytes) -> tuple[RuleTables, dict[int, int], dict[int, SignatureName]]:
    """What `packed_rules` packed: trusted, it comes from the pool."""
    tables, drop_seconds, signatures = pickle.loads(packed)  # noqa: S301  # see `opened`
    return tables, drop_seconds, signatures


def frame(kind: ToWorker | FromWorker, body: bytes = b"") -> bytes:
    """One message."""
    return HEADER.pack(len(body), kind) + body


def objects(message: Start | Configure) -> bytes:
    """A frame with an object for the worker."""
    kind = ToWorker.START if isinstance(message, Start) else ToWorker.CONFIGURE
    return frame(kind, pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def opened(body: bytes) -> object:
    """The object in a frame of the pool: trusted, unlike what a worker sends."""
    found: object = pickle.loads(body)  # noqa: S301  # from the parent process, over a socket of its own
    return found


def ended(flows: Iterable[Ended]) -> bytes:
    """A frame of ended flows."""
    return frame(ToWorker.ENDED, b"".join([_ENDED.pack(*flow) for flow in flows]))


def ended_flows(body: bytes) -> list[Ended]:
    """What `ended` packed."""
    return list(map(Ended._make, _ENDED.iter_unpack(body)))


class Frames:
    """Cuts what comes from the pool into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and body of each frame that is whole now."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= HEADER.size:
            length, kind = HEADER.unpack_from(buffer, at)
            if len(buffer) - at - HEADER.size < length:
                break
            start = at + HEADER.size
            at = start + length
            yield kind, bytes(buffer[start:at])
        del buffer[:at]


def lines(sniffer: int, event_type: str, found: Sequence[bytes]) -> Iterator[bytes]:
    """Frames with lines."""
    head = _LINES.pack(sniffer, event_type.encode())
    part: list[bytes] = []
    size = 0
    for line in found:
        if part and size + len(line) > LINES_PER_FRAME:
            yield frame(FromWorker.LINES, head + b"".join(part))
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield frame(FromWorker.LINES, head + b"".join(part))


def lines_of(body: bytes) -> tuple[int, str, list[bytes]]:
    """Sniffer, event type and whole lines of a frame; raises NonsenseError."""
    if len(body) < _LINES.size or not body.endswith(b"}\n"):
        msg = "lines that do not end"
        raise NonsenseError(msg)
    sniffer, name = _LINES.unpack_from(body)
    event_type = name.rstrip(b"\0").decode("latin-1")
    if event_type not in EVENT_TYPES:
        msg = f"events of type {event_type!r}"
        raise NonsenseError(msg)
    found = body[_LINES.size :].split(b"\n")
    del found[-1]
    if not all(line.startswith(b"{") and line.endswith(b"}") for line in found):
        msg = "lines that are no objects"
        raise NonsenseError(msg)
    return sniffer, event_type, [line + b"\n" for line in found]


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself, each second.

    ``lines`` were made, of which ``dropped`` were not handed over; ``ends`` of flows were taken; ``failed`` events made
    no line, the last because of ``failure``.
    """

    config: int = 0
    classification: str = ""
    no_classification: str = ""
    sandbox: str = ""
    lines: int = 0
    dropped: int = 0
    ends: int = 0
    failed: int = 0
    failure: str = ""
    problems: Mapping[int, str] = field(default_factory=dict)
    engine: Mapping[str, int] = field(default_factory=dict)

    def packed(self) -> bytes:
        """As a frame."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return frame(FromWorker.REPORT, json.dumps(found, separators=(",", ":")).encode())


def report_of(body: bytes) -> Report:
    """What `Report.packed` made; raises NonsenseError for anything else."""
    try:
        found = json.loads(body)
        return Report(
            config=_number(found["config"]),
            classification=_text(found["classification"]),
            no_classification=_text(found["no_classification"]),
            sandbox=_text(found["sandbox"]),
            lines=_number(found["lines"]),
            dropped=_number(found["dropped"]),
            ends=_number(found["ends"]),
            failed=_number(found["failed"]),
            failure=_text(found["failure"]),
            problems={_number(int(name)): _text(text) for name, text in _few(found["problems"])},
            engine={_text(name): _number(value) for name, value in _few(found["engine"])},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"a report that is none ({error})"
        raise NonsenseError(msg) from error


def _few(found: Mapping[str, object]) -> Iterable[tuple[str, object]]:
    if len(found) > _MAX_COUNTERS:
        msg = f"{len(found)} entries"
        raise ValueError(msg)
    return found.items()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return "".join(sign if sign.isprintable() else " " for sign in value[:_MAX_TEXT])


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        msg = "no counter"
        raise ValueError(msg)
    return value
