"""Which rules match which flows, found without the engine: Python on the whole replay, streams put together."""

from __future__ import annotations

from sluicegate_bench.dpi.mix import Mix, frames_of
from sluicegate_bench.dpi.reference import in_request, query_name, requests, server_name
from sluicegate_bench.dpi.rules import Matcher, Place
from sluicegate_bench.dpi.sending import FlowKey
from sluicegate_bench.dpi.traffic import TCP, UDP

REACH = 16_384
"""Bytes of a flow's payload, both directions together, within which a match must end."""

_HEAD = 14
_DNS = 53


class _Flow:
    def __init__(self) -> None:
        self.streams = (bytearray(), bytearray())
        self.datagrams: list[tuple[bool, bytes]] = []
        self.room = REACH


def matches(mix: Mix) -> set[tuple[FlowKey, int]]:
    """All of them. The replay has no segment twice or out of order, so streams are simply put together."""
    flows: dict[FlowKey, _Flow] = {}
    for _, frame in frames_of(mix.path):
        protocol = frame[_HEAD + 9]
        transport = _HEAD + (frame[_HEAD] & 15) * 4
        source = frame[_HEAD + 12 : _HEAD + 16], int.from_bytes(frame[transport : transport + 2])
        destination = frame[_HEAD + 16 : _HEAD + 20], int.from_bytes(frame[transport + 2 : transport + 4])
        key, back = FlowKey(*source, *destination, protocol), FlowKey(*destination, *source, protocol)
        to_server = back not in flows
        flow = flows.setdefault(key if to_server else back, _Flow())
        start = transport + ((frame[transport + 12] >> 4) * 4 if protocol == TCP else 8)
        payload = frame[start : start + flow.room]
        flow.room -= len(payload)
        if protocol == UDP:
            flow.datagrams.append((to_server, payload))
        else:
            flow.streams[0 if to_server else 1].extend(payload)
    matcher = Matcher()
    return {(key, sid) for key, flow in flows.items() for sid in _of(key, flow, matcher)}


def _of(key: FlowKey, flow: _Flow, matcher: Matcher) -> set[int]:
    found: set[int] = set()
    for to_server, data in flow.datagrams:
        found.update(matcher.matches(Place.DATAGRAM, data, to_server=to_server))
        if key.server_port == _DNS:
            found.update(matcher.matches(Place.QUERY, query_name(data), to_server=to_server))
    asked, answered = (bytes(stream) for stream in flow.streams)
    if name := server_name(asked):
        found.update(matcher.matches(Place.SNI, name, to_server=True))
        return found
    found.update(matcher.matches(Place.STREAM, asked, to_server=True))
    found.update(matcher.matches(Place.STREAM, answered, to_server=False))
    for request in requests(asked):
        found.update(in_request(matcher, *request))
    return found
