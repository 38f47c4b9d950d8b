"""Between typed rows and the kernel's bytes. Layouts come from the manifest; names are those of ``bpf/types.h``."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.model import (
    AddressFilter,
    Algorithm,
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    Interface,
    InterfaceFlag,
    InterfaceIndex,
    IPAddress,
    IPNetwork,
    Nexthop,
    NexthopId,
    Protocol,
    ServiceId,
    Settings,
)

Layout: TypeAlias = np.dtype[np.void]
Record: TypeAlias = np.void

HOP_RESOLVED = 1
HOP_XDP = 2
HOP_LOCAL = 4

# enum backend_flag
BACKEND_LOCAL = 1
# enum frontend_flag
RESTRICTED = 1
AFFINITY = 2

_SERVICE_PREFIX_BITS = 32  # a source's prefix begins with its service
_FILTER_WORD_BITS = 64
_ICMP = {4: 1, 6: 58}


def record(layout: Layout) -> Record:
    """An empty row."""
    row: Record = np.zeros(1, dtype=layout)[0]
    return row


def address_words(address: IPAddress) -> npt.NDArray[np.uint32]:
    """16 bytes as they lie in a packet; IPv4 in word 0."""
    return np.frombuffer(address.packed.ljust(16, b"\0"), dtype="<u4")


def address_of(words: npt.NDArray[np.uint32], family: int) -> IPAddress:
    """The inverse of :func:`address_words`."""
    packed = np.asarray(words, dtype="<u4").tobytes()
    return IPv4Address(packed[:4]) if family == 4 else IPv6Address(packed)


def port_of(value: int) -> int:
    """A port between network and host order; its own inverse."""
    return int.from_bytes(int(value).to_bytes(2, "little"), "big")


def endpoint_key(layout: Layout, endpoint: Endpoint) -> bytes:
    """Key of ``vips4``, ``vips6``, ``reverse4`` and ``reverse6``."""
    row = record(layout)
    words = address_words(endpoint.address)
    row["address"] = words[0] if endpoint.address.version == 4 else words
    row["port"] = port_of(endpoint.port)
    row["protocol"] = endpoint.protocol
    return row.tobytes()


def endpoint_of(row: Record, family: int) -> Endpoint:
    """The inverse of :func:`endpoint_key`."""
    words = np.atleast_1d(row["address"])
    return Endpoint(address_of(np.resize(words, 4), family), Protocol(int(row["protocol"])), port_of(int(row["port"])))


def encode_settings(layout: Layout, row: Settings, hertz: int) -> bytes:
    """``struct settings``."""
    out = record(layout)
    out["nat_port_min"] = row.nat_port_min
    out["nat_port_count"] = row.nat_port_count
    out["hop_generation"] = row.hop_generation
    out["half_open_timeout"] = round(row.half_open_seconds * hertz)
    out["closed_rest"] = round(row.closed_rest_seconds * hertz)
    out["sync_interval"] = round(row.sync_seconds * hertz)
    out["seed"] = row.seed
    out["half_open_limit"] = row.half_open_limit
    out["hertz"] = hertz
    return out.tobytes()


def decode_settings(row: Record, hertz: int) -> Settings:
    """The inverse of :func:`encode_settings`."""
    return Settings(
        nat_port_min=int(row["nat_port_min"]),
        nat_port_count=int(row["nat_port_count"]),
        hop_generation=int(row["hop_generation"]),
        half_open_seconds=int(row["half_open_timeout"]) / hertz,
        closed_rest_seconds=int(row["closed_rest"]) / hertz,
        sync_seconds=int(row["sync_interval"]) / hertz,
        seed=int(row["seed"]),
        half_open_limit=int(row["half_open_limit"]),
    )


def encode_interface(layout: Layout, row: Interface) -> bytes:
    """``struct interface``."""
    out = record(layout)
    out["flags"] = int(row.flags)
    out["mtu"] = row.mtu
    out["mac"] = _mac(row.mac)
    return out.tobytes()


def decode_interface(row: Record) -> Interface:
    """The inverse of :func:`encode_interface`."""
    flags = InterfaceFlag(int(row["flags"]))
    mac = b"" if InterfaceFlag.L3 in flags else row["mac"].tobytes()
    return Interface(flags, int(row["mtu"]), mac)


def encode_nexthop(layout: Layout, row: Nexthop) -> bytes:
    """``struct nexthop``."""
    out = record(layout)
    resolved = row.destination_mac is not None
    out["hop"]["ifindex"] = row.ifindex
    out["hop"]["mtu"] = min(row.mtu, 0xFFFF)
    out["hop"]["flags"] = (
        (HOP_RESOLVED if resolved else 0) | (HOP_XDP if row.xdp else 0) | (HOP_LOCAL if row.local else 0)
    )
    out["hop"]["source_mac"] = _mac(row.source_mac)
    out["hop"]["destination_mac"] = _mac(row.destination_mac or b"")
    out["gateway"] = address_words(row.gateway)
    out["family"] = row.gateway.version
    return out.tobytes()


def decode_nexthop(row: Record) -> Nexthop:
    """The inverse of :func:`encode_nexthop`."""
    hop = row["hop"]
    flags = int(hop["flags"])
    return Nexthop(
        ifindex=InterfaceIndex(int(hop["ifindex"])),
        gateway=address_of(row["gateway"], int(row["family"])),
        mtu=int(hop["mtu"]),
        source_mac=hop["source_mac"].tobytes(),
        destination_mac=hop["destination_mac"].tobytes() if flags & HOP_RESOLVED else None,
        xdp=bool(flags & HOP_XDP),
        local=bool(flags & HOP_LOCAL),
    )


def encode_backend(layout: Layout, row: Backend) -> bytes:
    """``struct backend``; of a free one only the generation is kept."""
    out = record(layout)
    out["generation"] = row.generation
    if row.state is BackendState.FREE or row.endpoint is None:
        return out.tobytes()
    out["address"] = address_words(row.endpoint.address)
    if row.source is not None:
        out["source"] = address_words(row.source)
    out["service"] = row.service
    out["nexthop"] = row.nexthop
    out["weight"] = row.weight
    out["port"] = port_of(row.endpoint.port)
    out["family"] = row.endpoint.address.version
    out["protocol"] = row.endpoint.protocol
    out["state"] = row.state
    out["flags"] = BACKEND_LOCAL if row.local else 0
    return out.tobytes()


def decode_backend(row: Record) -> Backend:
    """The inverse of :func:`encode_backend`."""
    state, generation = BackendState(int(row["state"])), int(row["generation"])
    if state is BackendState.FREE:
        return Backend(ServiceId(0), None, None, NexthopId(0), state, generation, 0)
    family = int(row["family"])
    endpoint = Endpoint(address_of(row["address"], family), Protocol(int(row["protocol"])), port_of(int(row["port"])))
    return Backend(
        service=ServiceId(int(row["service"])),
        endpoint=endpoint,
        source=address_of(row["source"], family) if row["source"].any() else None,
        nexthop=NexthopId(int(row["nexthop"])),
        state=state,
        generation=generation,
        weight=int(row["weight"]),
        local=bool(int(row["flags"]) & BACKEND_LOCAL),
    )


def encode_frontend(layout: Layout, row: Frontend, hertz: int) -> bytes:
    """``struct frontend``."""
    out = record(layout)
    out["address"] = address_words(row.endpoint.address)
    out["port"] = port_of(row.endpoint.port)
    out["protocol"] = row.endpoint.protocol
    out["family"] = row.endpoint.address.version
    out["service"] = row.service
    out["slots"] = row.slots
    out["idle_timeout"] = round(row.idle_seconds * hertz)
    out["algorithm"] = row.algorithm
    out["mode"] = row.mode
    out["rate"] = row.rate
    out["affinity_timeout"] = round(row.affinity_seconds * hertz)
    out["flags"] = (RESTRICTED if row.restricted else 0) | (AFFINITY if row.affinity_seconds else 0)
    return out.tobytes()


def decode_frontend(row: Record, hertz: int) -> Frontend:
    """The inverse of :func:`encode_frontend`."""
    return Frontend(
        endpoint=Endpoint(
            address_of(row["address"], int(row["family"])), Protocol(int(row["protocol"])), port_of(int(row["port"]))
        ),
        service=ServiceId(int(row["service"])),
        slots=int(row["slots"]),
        algorithm=Algorithm(int(row["algorithm"])),
        mode=ForwardingMode(int(row["mode"])),
        idle_seconds=int(row["idle_timeout"]) / hertz,
        affinity_seconds=int(row["affinity_timeout"]) / hertz,
        rate=int(row["rate"]),
        restricted=bool(int(row["flags"]) & RESTRICTED),
    )


def encode_reverse(layout: Layout, frontends: tuple[FrontendId, ...]) -> bytes:
    """``struct reverse``; raises ValueError when there are more frontends than it holds."""
    out = record(layout)
    capacity = out["frontends"].size
    if len(frontends) > capacity:
        raise ValueError(f"{len(frontends)} DNAT frontends share one backend endpoint; {capacity} can")
    out["count"] = len(frontends)
    out["frontends"][: len(frontends)] = frontends
    return out.tobytes()


def decode_reverse(row: Record) -> tuple[FrontendId, ...]:
    """The inverse of :func:`encode_reverse`."""
    return tuple(FrontendId(int(value)) for value in row["frontends"][: int(row["count"])])


def source_key(layout: Layout, service: ServiceId, network: IPNetwork) -> bytes:
    """Key of ``sources4`` and ``sources6``."""
    out = record(layout)
    words = address_words(network.network_address)
    out["prefix_length"] = _SERVICE_PREFIX_BITS + network.prefixlen
    out["service"] = service
    out["address"] = words[0] if network.version == 4 else words
    return out.tobytes()


def source_of(row: Record, family: int) -> tuple[ServiceId, IPNetwork]:
    """The inverse of :func:`source_key`."""
    address = address_of(np.resize(np.atleast_1d(row["address"]), 4), family)
    prefix = int(row["prefix_length"]) - _SERVICE_PREFIX_BITS
    return ServiceId(int(row["service"])), ip_network((address, prefix))


def vip_mark(layout: Layout, address: IPAddress) -> bytes:
    """Key under which ``vips4`` and ``vips6`` hold an address whatever the port: what pings and fragments look for."""
    out = record(layout)
    words = address_words(address)
    out["address"] = words[0] if address.version == 4 else words
    out["protocol"] = _ICMP[address.version]
    return out.tobytes()


def is_vip_mark(row: Record) -> bool:
    """Is this key one of :func:`vip_mark`?"""
    return int(row["protocol"]) in _ICMP.values()


def encode_filter(layout: Layout, words: int, row: AddressFilter) -> npt.NDArray[np.void]:
    """All words of ``address_filter``."""
    out = np.zeros(words, dtype=layout)
    for name, bits in (("vips", row.vips), ("nat_backends", row.nat_backends), ("dnat_backends", row.dnat_backends)):
        for bit in bits:
            out[name][bit // _FILTER_WORD_BITS] |= np.uint64(1 << (bit % _FILTER_WORD_BITS))
    return out


def decode_filter(rows: npt.NDArray[np.void]) -> AddressFilter:
    """The inverse of :func:`encode_filter`."""

    def bits(name: str) -> frozenset[int]:
        unpacked = np.unpackbits(np.ascontiguousarray(rows[name]).view(np.uint8), bitorder="little")
        return frozenset(np.flatnonzero(unpacked).tolist())

    return AddressFilter(bits("vips"), bits("nat_backends"), bits("dnat_backends"))


def backend_ids(slots: tuple[BackendId, ...]) -> npt.NDArray[np.uint32]:
    """Values of a selection table. An empty one is stored as one slot that names no backend."""
    return np.array(slots or (0,), dtype="<u4")


def slots_of(values: npt.NDArray[np.uint32]) -> tuple[BackendId, ...]:
    """The inverse of :func:`backend_ids`."""
    ids = values.tolist()
    return () if ids == [0] else tuple(ids)


def _mac(address: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(address.ljust(6, b"\0")[:6], dtype=np.uint8)
