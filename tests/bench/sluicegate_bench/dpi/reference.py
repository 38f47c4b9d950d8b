"""The same work in plain Python: what somebody would write without a native engine, and as fast as it goes.

Records of the same ring are taken apart with `struct`, flows are a dict, signatures are `in` and `re` on each packet's
payload and on the heads of HTTP, TLS and DNS, events are `json.dumps`. Classification is nDPI through cffi, a call for
each packet until it knows, as nfstream does; it can be left out.
"""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from sluicegate_bench.dpi.rules import Matcher, Place
from sluicegate_bench.dpi.traffic import TCP, UDP

_ENTRY = struct.Struct("<II")
_RECORD = struct.Struct("<Q8xIIIHHHHBBBBIHH")
_U16 = struct.Struct("!H").unpack_from
_PORTS = struct.Struct("!HH").unpack_from
_U32 = struct.Struct("<I").unpack_from
_DNS = 53
_HTTP = ("url", "hostname", "http_user_agent")
REQUEST = re.compile(rb"(?:GET|POST|PUT|HEAD) (\S+) HTTP/1\.[01]\r\n(.*?)\r\n\r\n", re.DOTALL)
_HEADERS = re.compile(rb"^([!-9;-~]+):[ \t]*(.*?)[ \t]*\r?$", re.MULTILINE)

Addresses = tuple[bytes, int]


class _Flow:
    """What is remembered; ``native`` is nDPI's part while it is asked."""

    __slots__ = ("client", "encrypted", "first", "label", "last", "matched", "native", "octets", "packets", "server")

    def __init__(self, client: Addresses, server: Addresses, now: int) -> None:
        self.client, self.server = client, server
        self.first = self.last = now
        self.packets, self.octets = [0, 0], [0, 0]
        self.matched: set[int] = set()
        self.encrypted = False
        self.label = ""
        self.native: Any = None


class Reference:
    """Eats ring contents. ``classify``: with nDPI."""

    def __init__(self, out: IO[str], *, classify: bool) -> None:
        self._out = out
        self._matcher = Matcher()
        self._flows: dict[tuple[Addresses, Addresses, int], _Flow] = {}
        self._classifier = _Classifier() if classify else None
        self.alerts: set[tuple[Addresses, Addresses, int, int]] = set()

    def take(self, content: bytes) -> None:
        """All entries of a ring."""
        at, view = 0, memoryview(content)
        while at < len(content):
            length, _ = _ENTRY.unpack_from(content, at)
            now, _, wire, *_ = _RECORD.unpack_from(content, at + 8)
            self._packet(bytes(view[at + 8 + _RECORD.size : at + 8 + length]), now, wire)
            at = (at + 8 + length + 7) & ~7

    def finish(self) -> None:
        """A line for each flow."""
        for (_, _, protocol), flow in self._flows.items():
            if self._classifier is not None and flow.native is not None:
                flow.label = self._classifier.give_up(flow.native)
            fields = {
                "pkts_toserver": flow.packets[0],
                "pkts_toclient": flow.packets[1],
                "bytes_toserver": flow.octets[0],
                "bytes_toclient": flow.octets[1],
                "start": flow.first,
                "end": flow.last,
                "alerted": bool(flow.matched),
            }
            self._event("flow", flow, protocol, flow.last, {"flow": fields, "ndpi": {"proto": flow.label}})
        self._flows.clear()

    def _packet(self, packet: bytes, now: int, wire: int) -> None:
        transport = (packet[0] & 15) * 4
        protocol = packet[9]
        if protocol not in {TCP, UDP}:
            return
        source_port, destination_port = _PORTS(packet, transport)
        source, destination = (packet[12:16], source_port), (packet[16:20], destination_port)
        key = (source, destination, protocol) if source <= destination else (destination, source, protocol)
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _Flow(source, destination, now)
        to_server = source == flow.client
        direction = 0 if to_server else 1
        flow.packets[direction] += 1
        flow.octets[direction] += wire
        flow.last = now
        start = transport + ((packet[transport + 12] >> 4) * 4 if protocol == TCP else 8)
        payload = packet[start:]
        if self._classifier is not None and not flow.label:
            flow.label = self._classifier.ask(flow, packet, transport, start, now, direction, protocol)
        if payload and not flow.encrypted:
            self._look(flow, protocol, payload, now, to_server=to_server)

    def _look(self, flow: _Flow, protocol: int, payload: bytes, now: int, *, to_server: bool) -> None:
        found: list[int] = []
        matches = self._matcher.matches
        if protocol == UDP:
            if flow.server[1] == _DNS:
                name = query_name(payload)
                self._event("dns", flow, protocol, now, {"dns": {"rrname": name.decode("latin-1")}})
                found += matches(Place.QUERY, name, to_server=to_server)
            found += matches(Place.DATAGRAM, payload, to_server=to_server)
        elif to_server and (name := server_name(payload)):
            flow.encrypted = True
            self._event("tls", flow, protocol, now, {"tls": {"sni": name.decode("latin-1")}})
            found += matches(Place.SNI, name, to_server=True)
        else:
            found += matches(Place.STREAM, payload, to_server=to_server)
            for request in requests(payload) if to_server else ():
                fields = dict(zip(_HTTP, (value.decode("latin-1") for value in request), strict=True))
                self._event("http", flow, protocol, now, {"http": fields})
                found += in_request(self._matcher, *request)
        for sid in found:
            if sid not in flow.matched:
                flow.matched.add(sid)
                self.alerts.add((flow.client, flow.server, protocol, sid))
                self._event("alert", flow, protocol, now, {"alert": {"signature_id": sid, "action": "allowed"}})

    def _event(self, kind: str, flow: _Flow, protocol: int, now: int, fields: dict[str, object]) -> None:
        line = {
            "timestamp": now,
            "event_type": kind,
            "src_ip": ".".join(map(str, flow.client[0])),
            "src_port": flow.client[1],
            "dest_ip": ".".join(map(str, flow.server[0])),
            "dest_port": flow.server[1],
            "proto": "TCP" if protocol == TCP else "UDP",
            **fields,
        }
        self._out.write(json.dumps(line) + "\n")


class _Classifier:
    """nDPI, by the functions that nfstream has for one packet."""

    def __init__(self) -> None:
        from _lib_engine import ffi, lib  # noqa: PLC0415  # of nfstream, which is there where nDPI is

        self._ffi, self._lib = ffi, lib
        check = ffi.new("struct dissector_checker *")
        check.flow_size = ffi.sizeof("struct ndpi_flow_struct")
        check.flow_tcp_size = ffi.sizeof("struct ndpi_flow_tcp_struct")
        check.flow_udp_size = ffi.sizeof("struct ndpi_flow_udp_struct")
        self._module = lib.dissector_init(check)
        lib.dissector_configure(self._module)
        self._packet = ffi.new("struct nf_packet *")
        self._budget = 24

    def ask(
        self,
        flow: _Flow,
        packet: bytes,
        transport: int,
        start: int,
        now: int,
        direction: int,
        protocol: int,
    ) -> str:
        """The label once it is known; empty before."""
        one = self._packet
        one.time, one.ip_version, one.protocol, one.direction = now // 1_000_000, 4, protocol, direction
        sides = (flow.client, flow.server) if direction == 0 else (flow.server, flow.client)
        (one.src_ip[0],), (one.dst_ip[0],) = _U32(sides[0][0]), _U32(sides[1][0])
        one.src_port, one.dst_port = sides[0][1], sides[1][1]
        one.raw_size, one.ip_size = len(packet) + 14, len(packet)
        one.transport_size, one.payload_size = len(packet) - transport, max(0, len(packet) - start)
        content = self._ffi.from_buffer("uint8_t[]", packet)
        one.ip_content, one.ip_content_len = content, len(packet)
        flags = packet[transport + 13] if protocol == TCP else 0
        one.fin, one.syn, one.rst, one.ack = flags & 1, flags >> 1 & 1, flags >> 2 & 1, flags >> 4 & 1
        if flow.native is None:
            flow.native = self._lib.meter_initialize_flow(one, 0, 0, 0, self._budget, self._module, 0)
        else:
            self._lib.meter_update_flow(flow.native, one, 1 << 40, 1 << 40, 0, 0, 0, self._budget, self._module, 0)
        if not flow.native.detection_completed:
            return ""
        return self._named(flow)

    def give_up(self, native: Any) -> str:
        """Its best guess."""
        self._lib.meter_expire_flow(native, self._budget, self._module)
        name = self._ffi.string(native.application_name).decode()
        self._lib.meter_free_flow(native, self._budget, 0, 0)
        return str(name)

    def _named(self, flow: _Flow) -> str:
        name = self.give_up(flow.native)
        flow.native = None
        return name


def seconds(rings: tuple[bytes, ...], path: Path, *, classify: bool) -> float:
    """CPU time for these records, events written to ``path``."""
    with path.open("w", encoding="utf-8") as out:
        reference = Reference(out, classify=classify)
        started = time.process_time()
        for content in rings:
            reference.take(content)
        reference.finish()
        return time.process_time() - started


def requests(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Target, host and agent of each request of HTTP whose head is whole in these bytes."""
    for found in REQUEST.finditer(data):
        headers = {name.lower(): value for name, value in _HEADERS.findall(found[2])}
        yield found[1], headers.get(b"host", b""), headers.get(b"user-agent", b"")


def in_request(matcher: Matcher, uri: bytes, host: bytes, agent: bytes) -> Iterator[int]:
    """Rules that match a request."""
    for place, value in ((Place.URI, unquote_to_bytes(uri)), (Place.HOST, host.lower()), (Place.AGENT, agent)):
        yield from matcher.matches(place, value, to_server=True)


def query_name(message: bytes) -> bytes:
    """Name of the first question; empty when there is none."""
    labels, at = [], 12
    while at < len(message) and (length := message[at]):
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
    return b".".join(labels).lower()


def server_name(record: bytes) -> bytes:
    """SNI of a ClientHello in one record of TLS; empty when it is no such thing or names none."""
    if len(record) < 44 or record[0] != 0x16 or record[5] != 1:
        return b""
    at = 44 + record[43]
    try:
        at += 2 + _U16(record, at)[0]
        at += 1 + record[at]
        end = at + 2 + _U16(record, at)[0]
        at += 2
        while at < end:
            kind, length = _PORTS(record, at)
            if kind == 0:
                return record[at + 9 : at + 4 + length]
            at += 4 + length
    except (IndexError, struct.error):
        pass
    return b""
