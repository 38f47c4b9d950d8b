"""Rows survive the way into the kernel's bytes and back, in the layouts that the compiler really chose."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate_agent.datapath import codec
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
    Nexthop,
    NexthopId,
    Protocol,
    ServiceId,
    Settings,
)
from sluicegate_agent.loader.manifest import Manifest, MapLayout

pytestmark = pytest.mark.kernel

HERTZ = 250
IDS = st.integers(1, 0xFFFFFFFF)
PORTS = st.integers(1, 0xFFFF)
WORDS = st.integers(0, 0xFFFFFFFF)
MACS = st.binary(min_size=6, max_size=6)
BITS = st.frozensets(st.integers(0, 0xFFFF), max_size=50)
SECONDS = st.integers(0, 10**9).map(lambda ticks: ticks / HERTZ)


def addresses(family: int) -> st.SearchStrategy[IPAddress]:
    """Any address but 0.0.0.0 and ::, which no row holds."""
    return st.ip_addresses(v=family).filter(lambda address: int(address) != 0)


ENDPOINTS = st.one_of(*(st.builds(Endpoint, addresses(family), st.sampled_from(Protocol), PORTS) for family in (4, 6)))
SETTINGS = st.builds(Settings, PORTS, WORDS, WORDS, SECONDS, SECONDS, SECONDS, WORDS)
FRONTENDS = st.builds(
    Frontend,
    ENDPOINTS,
    IDS.map(ServiceId),
    WORDS,
    st.sampled_from(Algorithm),
    st.sampled_from(ForwardingMode),
    SECONDS,
)
ETHERNET_FLAGS = st.sampled_from(
    [InterfaceFlag(0), InterfaceFlag.TAKES_REDIRECT, InterfaceFlag.TAKES_REDIRECT | InterfaceFlag.PARTIAL_CHECKSUMS]
)
INTERFACES = st.one_of(
    st.builds(Interface, ETHERNET_FLAGS, WORDS, MACS),
    st.builds(Interface, st.just(InterfaceFlag.L3), WORDS, st.just(b"")),
)
NEXTHOPS = st.builds(
    Nexthop,
    IDS.map(InterfaceIndex),
    st.one_of(addresses(4), addresses(6)),
    st.integers(68, 0xFFFF),
    MACS,
    st.none() | MACS,
    st.booleans(),
)


@st.composite
def backends(draw: st.DrawFn) -> Backend:
    generation = draw(PORTS)
    state = draw(st.sampled_from(BackendState))
    if state is BackendState.FREE:
        return Backend(ServiceId(0), None, None, NexthopId(0), state, generation, 0)
    endpoint = draw(ENDPOINTS)
    source = draw(st.none() | addresses(endpoint.address.version))
    service, nexthop, weight = draw(IDS), draw(WORDS), draw(WORDS)
    return Backend(ServiceId(service), endpoint, source, NexthopId(nexthop), state, generation, weight)


def value(layout: MapLayout, raw: bytes) -> np.void:
    """The one row in these bytes, which must be exactly as long as the kernel has it."""
    assert len(raw) == layout.value_dtype.itemsize
    row: np.void = np.frombuffer(raw, dtype=layout.value_dtype)[0]
    return row


Encode = Callable[[codec.Layout, object], bytes]
Decode = Callable[[np.void], object]


@pytest.mark.parametrize(
    ("table", "rows", "encode", "decode"),
    [
        ("interfaces", INTERFACES, codec.encode_interface, codec.decode_interface),
        ("nexthops", NEXTHOPS, codec.encode_nexthop, codec.decode_nexthop),
        ("backends", backends(), codec.encode_backend, codec.decode_backend),
        (
            "settings",
            SETTINGS,
            lambda layout, row: codec.encode_settings(layout, row, HERTZ),
            lambda row: codec.decode_settings(row, HERTZ),
        ),
        (
            "frontends",
            FRONTENDS,
            lambda layout, row: codec.encode_frontend(layout, row, HERTZ),
            lambda row: codec.decode_frontend(row, HERTZ),
        ),
        (
            "reverse4",
            st.lists(IDS.map(FrontendId), max_size=8).map(tuple),
            codec.encode_reverse,
            codec.decode_reverse,
        ),
    ],
    ids=["interfaces", "nexthops", "backends", "settings", "frontends", "reverse"],
)
def test_a_row_is_read_back_as_it_was_written(
    manifest: Manifest, table: str, rows: st.SearchStrategy[object], encode: Encode, decode: Decode
) -> None:
    layout = manifest.maps[table]

    @settings(deadline=None)
    @given(rows)
    def check(row: object) -> None:
        assert decode(value(layout, encode(layout.value_dtype, row))) == row

    check()


@pytest.mark.parametrize("name", ["vips", "reverse"])
def test_an_endpoint_is_read_back_from_its_key(manifest: Manifest, name: str) -> None:
    @settings(deadline=None)
    @given(ENDPOINTS)
    def check(endpoint: Endpoint) -> None:
        family = endpoint.address.version
        layout = manifest.maps[f"{name}{family}"].key_dtype
        raw = codec.endpoint_key(layout, endpoint)
        assert len(raw) == layout.itemsize
        assert codec.endpoint_of(np.frombuffer(raw, dtype=layout)[0], family) == endpoint

    check()


def test_filter_bits_are_read_back(manifest: Manifest) -> None:
    layout = manifest.maps["address_filter"]

    @settings(deadline=None)
    @given(st.builds(AddressFilter, BITS, BITS, BITS))
    def check(bits: AddressFilter) -> None:
        assert codec.decode_filter(codec.encode_filter(layout.value_dtype, layout.max_entries, bits)) == bits

    check()


@settings(deadline=None)
@given(st.lists(IDS.map(BackendId), max_size=50).map(tuple))
def test_slots_are_read_back(slots: tuple[BackendId, ...]) -> None:
    assert codec.slots_of(codec.backend_ids(slots)) == slots


def test_more_dnat_frontends_than_fit_are_refused(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="9 DNAT frontends share one backend endpoint; 8 can"):
        codec.encode_reverse(manifest.maps["reverse4"].value_dtype, (FrontendId(1),) * 9)


def test_an_address_lies_as_in_a_packet() -> None:
    assert codec.address_words(IPv4Address("1.2.3.4")).tobytes() == bytes([1, 2, 3, 4]) + bytes(12)
    assert codec.address_words(IPv6Address("2001:db8::1")).tobytes() == IPv6Address("2001:db8::1").packed
