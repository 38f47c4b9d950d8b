"""Rows of the kernel's tables as user space sees them.

The binary layouts are in ``bpf/types.h``; the names here are the same. Seconds stay seconds in this module, the
kernel implementation turns them into jiffies. A row is a value: two equal rows mean the same kernel memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NewType

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
InterfaceIndex = NewType("InterfaceIndex", int)
NexthopId = NewType("NexthopId", int)
BackendId = NewType("BackendId", int)
ServiceId = NewType("ServiceId", int)
FrontendId = NewType("FrontendId", int)


class Protocol(IntEnum):
    """Transport protocol by its IANA number."""

    TCP = 6
    UDP = 17


class ForwardingMode(IntEnum):
    """``enum forwarding_mode``."""

    FULL_NAT = 1
    DNAT = 2
    DIRECT_RETURN = 3


class Algorithm(IntEnum):
    """``enum algorithm``: how the slot of a new flow is chosen."""

    MAGLEV = 1
    ROUND_ROBIN = 2
    LEAST_LOAD = 3


class BackendState(IntEnum):
    """``enum backend_state``."""

    FREE = 0
    ACTIVE = 1
    DRAINING = 2
    DOWN = 3


class InterfaceFlag(IntFlag):
    """``enum interface_flag``."""

    TAKES_REDIRECT = 1
    PARTIAL_CHECKSUMS = 2
    L3 = 4


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An address with protocol and port: a VIP's port or a backend's."""

    address: IPAddress
    protocol: Protocol
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}/{self.protocol.name}"


@dataclass(frozen=True, slots=True)
class Settings:
    """``struct settings``; times in seconds. Above ``half_open_limit`` of a service, half-open flows get no entry."""

    nat_port_min: int = 1024
    nat_port_count: int = 28976
    hop_generation: int = 0
    half_open_seconds: float = 30.0
    closed_rest_seconds: float = 60.0
    sync_seconds: float = 1.0
    seed: int = 0x5106CE
    half_open_limit: int = 16384


@dataclass(frozen=True, slots=True)
class Interface:
    """``struct interface``; mac is six bytes, empty for devices without Ethernet."""

    flags: InterfaceFlag
    mtu: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Nexthop:
    """``struct nexthop``: the neighbour that leads to one or more backends.

    ``destination_mac`` is None while the neighbour is unresolved; ``xdp``: its device takes redirected frames.
    ``local``: the node itself, whose stack takes the packets.
    """

    ifindex: InterfaceIndex
    gateway: IPAddress
    mtu: int
    source_mac: bytes
    destination_mac: bytes | None
    xdp: bool
    local: bool = False


@dataclass(frozen=True, slots=True)
class Backend:
    """``struct backend``: one backend endpoint of one service.

    ``source`` is None in DNAT. A ``local`` backend is an address of this node: it is reached in DNAT, whatever its
    service's mode. A row with state FREE keeps nothing but its generation.
    """

    service: ServiceId
    endpoint: Endpoint | None
    source: IPAddress | None
    nexthop: NexthopId
    state: BackendState
    generation: int
    weight: int = 1000
    local: bool = False


@dataclass(frozen=True, slots=True)
class Frontend:
    """``struct frontend``: one VIP, protocol and port.

    ``affinity_seconds``: how long a client sticks to its backend, 0 for not at all. ``rate``: new flows per second
    of the service on this node, 0 for any number. ``restricted``: only clients in ``sources`` may open flows.
    """

    endpoint: Endpoint
    service: ServiceId
    slots: int
    algorithm: Algorithm
    mode: ForwardingMode
    idle_seconds: float
    affinity_seconds: float = 0
    rate: int = 0
    restricted: bool = False


Slots = tuple[BackendId, ...]
"""A service's selection table: slot → backend id. Empty means that no backend is usable."""


@dataclass(frozen=True, slots=True)
class AddressFilter:
    """Addresses whose bits are set in ``address_filter``, as bit positions of :func:`address_hash`."""

    vips: frozenset[int] = frozenset()
    nat_backends: frozenset[int] = frozenset()
    dnat_backends: frozenset[int] = frozenset()

    def union(self, other: AddressFilter) -> AddressFilter:
        """Bits of both: what the filter must hold while moving from one to the other."""
        return AddressFilter(
            self.vips | other.vips,
            self.nat_backends | other.nat_backends,
            self.dnat_backends | other.dnat_backends,
        )


def address_hash(address: IPAddress) -> int:
    """Bit position of an address in the filter, 0..65535; the same as ``address_hash()`` in ``bpf/filter.h``.

    Multiplicative hashing with the golden ratio (Knuth, TAOCP 6.4) over the address's words read little-endian.
    """
    packed = address.packed
    mixed = 0
    for offset in range(0, len(packed), 4):
        word = int.from_bytes(packed[offset : offset + 4], "little")
        mixed = ((mixed * 31) + word) & 0xFFFFFFFF
    return ((mixed * 0x9E3779B1) & 0xFFFFFFFF) >> 16


@dataclass(slots=True)
class KernelState:
    """All tables that user space writes. ``vips`` binds an endpoint to its frontend: without it no packet matches."""

    settings: Settings = field(default_factory=Settings)
    interfaces: dict[InterfaceIndex, Interface] = field(default_factory=dict)
    nexthops: dict[NexthopId, Nexthop] = field(default_factory=dict)
    backends: dict[BackendId, Backend] = field(default_factory=dict)
    slots: dict[ServiceId, Slots] = field(default_factory=dict)
    frontends: dict[FrontendId, Frontend] = field(default_factory=dict)
    vips: dict[Endpoint, FrontendId] = field(default_factory=dict)
    reverse: dict[Endpoint, tuple[FrontendId, ...]] = field(default_factory=dict)
    sources: dict[ServiceId, frozenset[IPNetwork]] = field(default_factory=dict)
    filter: AddressFilter = field(default_factory=AddressFilter)


class Table(StrEnum):
    """Names of the tables in :class:`KernelState`, for operations and messages."""

    SETTINGS = "settings"
    INTERFACES = "interfaces"
    NEXTHOPS = "nexthops"
    BACKENDS = "backends"
    SLOTS = "slots"
    FRONTENDS = "frontends"
    VIPS = "vips"
    REVERSE = "reverse"
    SOURCES = "sources"
    FILTER = "filter"


Key = int | Endpoint | None
Row = (
    Settings
    | Interface
    | Nexthop
    | Backend
    | Slots
    | Frontend
    | FrontendId
    | tuple[FrontendId, ...]
    | frozenset[IPNetwork]
    | AddressFilter
)


@dataclass(frozen=True, slots=True)
class Put:
    """Write one row; key is None for the single rows ``settings`` and ``filter``.

    Putting a backend under an id that was free also clears that id's counters.
    """

    table: Table
    key: Key
    row: Row


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one row. Deleting a frontend also forgets its flows. Backends are never deleted but put as FREE."""

    table: Table
    key: Key


Operation = Put | Delete
