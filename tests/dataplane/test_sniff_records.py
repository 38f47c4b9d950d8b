"""What the engine gets of a packet: every field of its record, and the bytes that follow it."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import replace
from ipaddress import ip_address

import pytest

from bench import CLIENT, EGRESS, VIP, Hook
from frames import locate
from marks import ALL_HOOKS, FAMILIES, PROTOCOLS
from pieces import icmp, link, with_header_checksum
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.records import EGRESS as OUT
from sluicegate_agent.dpi.records import IPV6, RECORD, REVERSE, TRUNCATED
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.sniffing.model import SniffState
from sniff_bench import NUMBER, PLAN, Record, SniffBench, back, there

pytestmark = pytest.mark.kernel

CLASSES = (128, 320, 704, 1600, 4352, 16640)
"""RECORD_CLASSES of bpf/sniff_record.h."""
HEAD = RECORD.size
DATA_MAX = CLASSES[-1] - HEAD
MANY = Budget(1000, 1 << 24, 1000)
SCTP = 132


def only(records: list[Record]) -> Record:
    (record,) = records
    return record


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
def test_every_field(sniffer: SniffBench, hook: str, family: int, protocol: Protocol) -> None:
    sniffer.tap(hook=hook)
    offset = 10**18
    row = sniffer.tables["sniff_settings"].map.lookup(bytes(4)) or b""
    sniffer.tables["sniff_settings"].map.update(bytes(4), offset.to_bytes(8, "little") + row[8:])
    first, second = there(family, protocol, "PA", b"request"), back(family, protocol, "A", b"response")
    before = time.monotonic_ns() + offset
    sniffer.send(hook, first, second)
    after = time.monotonic_ns() + offset
    flow = sniffer.flow(family)
    records = sniffer.records()
    assert before <= flow.first_ns <= records[0].ts_ns <= records[1].ts_ns <= after
    for index, (record, frame) in enumerate(zip(records, (first, second), strict=True), start=1):
        place = locate(frame)
        header = 20 if protocol is Protocol.TCP else 8
        data = frame[place.network : place.end]
        assert record == Record(
            ts_ns=record.ts_ns,
            flow_id=flow.id,
            ifindex=sniffer.bench.ifindex["c0"],
            wire_len=len(frame),
            index=index,
            cap_len=len(data),
            l4_off=place.transport - place.network,
            pl_off=place.transport - place.network + header,
            pl_len=7 if index == 1 else 8,
            l4_proto=protocol,
            tcp_flags={1: 0x18, 2: 0x10}[index] if protocol is Protocol.TCP else 0,
            flags=(REVERSE if index == 2 else 0) | (IPV6 if family == 6 else 0) | (OUT if hook == EGRESS else 0),
            policy=NUMBER,
            tunnel=0,
            vlan=0,
            drops=0,
            data=data,
            size=record.size,
        )
    assert sniffer.count().sent_octets == sum(record.cap_len for record in records)


@ALL_HOOKS
@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("payload", [b"", b"x", b"more than one byte"])
def test_payload_begins_behind_options(
    sniffer: SniffBench, hook: str, family: int, protocol: Protocol, payload: bytes
) -> None:
    sniffer.tap(hook=hook)
    frame = there(family, protocol, payload=payload)
    header = 8
    if protocol is Protocol.TCP:
        frame, header = with_options(frame, bytes([1] * 12)), 32
    sniffer.send(hook, frame)
    record = only(sniffer.records())
    at = record.l4_off + header
    assert (record.pl_off, record.pl_len) == (at if payload else record.cap_len, len(payload))
    assert record.data[record.pl_off :] == payload


def with_options(frame: bytes, options: bytes) -> bytes:
    """A TCP segment with 20 bytes of header and then these; its checksum is left alone."""
    place = locate(frame)
    at = place.transport
    words = bytes([(20 + len(options)) // 4 << 4])
    out = bytearray(frame[: at + 12] + words + frame[at + 13 : at + 20] + options + frame[at + 20 :])
    length = place.network + (2 if place.family == 4 else 4)
    out[length : length + 2] = struct.pack("!H", int.from_bytes(out[length : length + 2]) + len(options))
    return bytes(out)


@ALL_HOOKS
@FAMILIES
def test_what_the_link_padded_is_no_part_of_it(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    frame = there(family, Protocol.UDP, payload=b"x") + bytes(17)
    sniffer.send(hook, frame)
    record = only(sniffer.records())
    assert (record.wire_len, record.data) == (len(frame), frame[14:-17])
    assert record.pl_len == 1


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("entry", CLASSES[:4])
@pytest.mark.parametrize("over", [0, 1])
def test_an_entry_is_of_the_smallest_size_that_holds_the_packet(
    sniffer: SniffBench, hook: str, family: int, entry: int, over: int
) -> None:
    headers = 28 if family == 4 else 48
    size = entry - HEAD + over
    sniffer.tap(hook=hook)
    frame = there(family, Protocol.UDP, payload=bytes(index % 251 for index in range(size - headers)))
    sniffer.send(hook, frame)
    record = only(sniffer.records())
    assert record.size == (entry if not over else CLASSES[CLASSES.index(entry) + 1])
    assert (record.cap_len, record.data, record.flags & TRUNCATED) == (size, frame[14:], 0)


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("size", [4304, 4305, 9000, DATA_MAX, DATA_MAX + 1, 40000, 65000])
def test_a_packet_in_several_buffers(sniffer: SniffBench, family: int, protocol: Protocol, size: int) -> None:
    """XDP's and tc's largest: what is beyond the largest entry is left out, and said."""
    sniffer.read_by(1, 1 << 20)
    sniffer.tap(replace(PLAN, budget=MANY))
    frame = large(family, protocol, size)
    run = sniffer.bench.programs[Hook.XDP].test_run(
        frame, ctx=struct.pack("<6I", 0, 300, 0, sniffer.bench.ifindex["c0"], 0, 0)
    )
    assert run.data == frame
    record = only(sniffer.records())
    kept = min(size, DATA_MAX)
    assert record.size == min(entry for entry in CLASSES if entry - HEAD >= kept)
    assert (record.wire_len, record.cap_len, record.data) == (len(frame), kept, frame[14 : 14 + kept])
    assert record.flags & TRUNCATED == (TRUNCATED if size > kept else 0)
    headers = locate(frame).transport - 14 + (20 if protocol is Protocol.TCP else 8)
    assert (record.pl_off, record.pl_len) == (headers, kept - headers)
    assert sniffer.flow(family).payload_bytes == kept - headers


def large(family: int, protocol: Protocol, size: int) -> bytes:
    """A frame whose packet has ``size`` bytes."""
    empty = there(family, protocol, payload=b"")
    return there(family, protocol, payload=bytes(index * 7 % 251 for index in range(size - len(empty) + 14)))


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize(
    ("tags", "vlan"),
    [
        ([(0x8100, 0x0000)], 0),
        ([(0x8100, 0x6123)], 0x123),
        ([(0x88A8, 0xEFFE)], 0xFFE),
        ([(0x88A8, 0x0007), (0x8100, 0x0123)], 7),
    ],
)
def test_the_tag_of_the_link(
    sniffer: SniffBench, hook: str, family: int, tags: list[tuple[int, int]], vlan: int
) -> None:
    """The outer one of two."""
    sniffer.tap(hook=hook)
    plain = there(family)
    words = b"".join(struct.pack("!HH", kind, tag) for kind, tag in tags)
    frame = plain[:12] + words + plain[12:]
    sniffer.send(hook, frame)
    record = only(sniffer.records())
    assert (record.vlan, record.wire_len, record.data) == (vlan, len(frame), plain[14:])


@ALL_HOOKS
@FAMILIES
def test_other_protocols_have_no_ports_and_no_payload(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(hook=hook)
    head, answer = ((8, 0), (0, 0)) if family == 4 else ((128, 0), (129, 0))
    mac = ("02:00:00:00:01:02", "02:00:00:00:01:01")
    ping = link(*mac, family) + icmp(family, CLIENT[family], VIP[family], head, b"\0\1\0\1", b"ping")
    pong = link(*mac, family) + icmp(family, VIP[family], CLIENT[family], answer, b"\0\1\0\1", b"ping")
    ospf = raw(family, 89, b"hello, neighbour")
    sniffer.send(hook, ping, pong, ospf)
    records = sniffer.records()
    protocol = 1 if family == 4 else 58
    assert [(record.l4_proto, record.pl_off, record.pl_len) for record in records] == [
        (protocol, len(ping) - 14, 0),
        (protocol, len(pong) - 14, 0),
        (89, len(ospf) - 14, 0),
    ]
    assert [record.flags & REVERSE for record in records] == [0, REVERSE, 0]
    assert records[0].l4_off == (20 if family == 4 else 40)
    assert sorted((flow.protocol, flow.opener[1], flow.other[1]) for flow in sniffer.flows(family)) == [
        (protocol, 0, 0),
        (89, 0, 0),
    ]


def raw(family: int, protocol: int, body: bytes) -> bytes:
    """A client's packet of any protocol."""
    source, destination = (ip_address(text[family]).packed for text in (CLIENT, VIP))
    if family == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0) + source + destination
        header = with_header_checksum(header)
    else:
        header = struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + source + destination
    return link("02:00:00:00:01:02", "02:00:00:00:01:01", family) + header + body


@ALL_HOOKS
@FAMILIES
def test_sctp_has_ports_and_chunks(sniffer: SniffBench, hook: str, family: int) -> None:
    sniffer.tap(replace(PLAN, budget=Budget(2, 1 << 20, 1000)), hook=hook)
    frame = raw(family, SCTP, struct.pack("!HHII", 5000, 36412, 1, 2) + b"a chunk of data.")
    assert sniffer.fates(hook, frame, frame, frame) == ["sent", "sent", "stopped"]
    record = sniffer.records()[0]
    assert (record.pl_off, record.pl_len) == (record.l4_off + 12, 16)
    flow = sniffer.flow(family, 5000)
    assert (flow.opener[1], flow.other[1], flow.protocol) == (5000, 36412, SCTP)
    assert (flow.state, flow.payload_packets, flow.payload_bytes) == (SniffState.STOP, 2, 32)


@ALL_HOOKS
@FAMILIES
@pytest.mark.parametrize("length", [1, 3, 11])
def test_sctp_without_its_header_is_unreadable(sniffer: SniffBench, hook: str, family: int, length: int) -> None:
    """Whatever the link padded it with."""
    sniffer.tap(hook=hook)
    assert sniffer.fate(hook, raw(family, SCTP, bytes(length)) + bytes(40)) == "unreadable"
    assert not sniffer.flows(family)


@ALL_HOOKS
@FAMILIES
def test_a_cpus_first_flow_has_generation_one(sniffer: SniffBench, hook: str, family: int) -> None:
    """An id of 0 is nobody's."""
    sniffer.tap(hook=hook)
    sniffer.send(hook, there(family))
    assert only(sniffer.records()).flow_id == 1 << 32 | min(os.sched_getaffinity(0))
