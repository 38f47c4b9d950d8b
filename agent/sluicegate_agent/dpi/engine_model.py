"""What goes into the engine and what comes out, in Python's types; the C side is native/engine.h."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

APPS: Final = 1024
RISKS: Final = 64
MAX_DROP_SECONDS: Final = (1 << 24) - 1
EVENT: Final = struct.Struct("<QQHHHHIIII16s16sHHBBBBII")
DETAIL: Final = struct.Struct("<QQQQQIIIIIHHBBBBBBHII")


class Kind(IntEnum):
    """What an event says; enum sg_kind."""

    CLASSIFIED = 1
    ALERT = 2
    GAVE_UP = 3
    END = 4
    STOPPED = 5


class Action(IntEnum):
    """A verdict; enum sg_action."""

    NONE = 0
    STOP = 1
    DROP = 2
    WIDEN = 3


class Reason(IntEnum):
    """Why a flow got its verdict; enum sg_reason."""

    NOTHING = 0
    LABEL = 1
    ENCRYPTION = 2
    BUDGET = 3
    MEMORY = 4
    RULE = 5
    RISK = 6
    PROTOCOL = 7
    REACH = 8


class End(IntEnum):
    """Why a flow ended; enum sg_end."""

    NONE = 0
    IDLE = 1
    CLOSED = 2
    TOLD = 3
    EVICTED = 4
    FLUSHED = 5


class Event(NamedTuple):
    """One event, field by field struct sg_event; addresses are 16 bytes, IPv4 in the first four."""

    flow_id: int
    ts_ns: int
    kind: int
    action: int
    master: int
    app: int
    rule: int
    packets: int
    blob_off: int
    blob_len: int
    client: bytes
    server: bytes
    client_port: int
    server_port: int
    l4_proto: int
    flags: int
    confidence: int
    state: int
    ifindex: int
    direction: int


class Detail(NamedTuple):
    """What an event's flow looked like by then, field by field struct sg_detail; index 0 or `to_server` first."""

    first_ns: int
    last_ns: int
    bytes_to_server: int
    bytes_to_client: int
    risk: int
    packets_to_server: int
    packets_to_client: int
    payload_to_server: int
    payload_to_client: int
    tunnel: int
    vlan: int
    score: int
    tcp_flags_to_server: int
    tcp_flags_to_client: int
    reason: int
    end: int
    policy: int
    layer: int
    reserved: int
    match_end: int
    start_index: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of some calls, copied out of the engine."""

    taken: int  # records taken from the ring, or flows ended
    events: bytes
    blob: bytes

    def __iter__(self) -> Iterator[Event]:
        """Each event in order."""
        return map(Event._make, EVENT.iter_unpack(self.events))

    def __len__(self) -> int:
        """How many events."""
        return len(self.events) // EVENT.size

    def detail(self, event: Event) -> Detail:
        """Counts, times and reasons that belong to the event."""
        return Detail._make(DETAIL.unpack_from(self.blob, event.blob_off))

    def text(self, event: Event) -> bytes:
        """nDPI's JSON object for the event's flow; empty when there is none or the table did not ask for it."""
        return self.blob[event.blob_off + DETAIL.size : event.blob_off + event.blob_len]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of memory and time; struct sg_limits."""

    max_flows: int = 65_536
    max_undecided: int = 16_384
    max_events: int = 8_192
    blob_bytes: int = 4 << 20
    max_held_bytes: int = 32 << 20
    held_bytes: int = 16_384
    tcp_new_seconds: int = 30
    tcp_open_seconds: int = 300
    datagram_seconds: int = 60
    decided_seconds: int = 15


@dataclass(frozen=True, slots=True)
class Policy:
    """What one sniffer wants; struct sg_policy. A limit of 0 is none."""

    max_packets: int = 24
    payload_packets: int = 16
    payload_bytes: int = 16_384
    min_risk: int = 0
    risk_action: Action = Action.NONE
    drop_seconds: int = 0  # how long that and on_app drop, below 2^24; 0 leaves it to who reads the word
    classify: bool = True
    on_app: Mapping[int, Action] = field(default_factory=dict)  # nDPI id -> action when the label is final


@dataclass(frozen=True, slots=True)
class Tables:
    """What is the same for all sniffers; struct sg_tables, by nDPI id. Ids that are not named count as 0."""

    # (kind, id) -> wanted; (kind, None) is the default for that kind. 1 event, 3 event with nDPI's text, 0 neither.
    want: Mapping[tuple[Kind, int | None], int] = field(default_factory=dict)
    encrypted: frozenset[int] = frozenset()
    app: Mapping[int, int] = field(default_factory=dict)
    risk_score: Sequence[int] = ()  # by bit; empty: nDPI's own
