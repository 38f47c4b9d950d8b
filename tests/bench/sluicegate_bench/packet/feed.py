"""The feeder's template (``struct feed`` of tests/bench/bpf/feed.h) and the frame that goes with it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from scapy.packet import Packet

import bench as dataplane
import frames
from sluicegate_agent.datapath.model import Protocol
from sluicegate_bench.packet.flows import ACKNOWLEDGED, LOW_BITS


@dataclass(frozen=True, slots=True)
class Feed:
    """One kind of packet: the frame of flow 0 and what changes with the flow's number.

    Steps say whether that field goes with the number: addresses with its high part, ports with the low one.
    ``new_request``: each packet acknowledges more than the one before.
    """

    frame: bytes
    device: str
    by_source: bool = True
    by_destination: bool = False
    by_source_port: bool = True
    by_destination_port: bool = False
    new_request: bool = False

    def pack(self, target: int, flows: int, first: int = 0, sent: int = 0) -> bytes:
        """The row of ``feeds``; ``flows`` is a power of two. Begins with flow ``first``.

        ``sent`` is how many packets went before: what a new request acknowledges must be new to its flow.
        """
        frame, place = self.frame, frames.locate(self.frame)
        if place.family == 4:
            source, destination = (frame[at : at + 4].rjust(16, b"\0") for at in (26, 30))
            hops, network_checksum = frame[22], frame[24:26]
        else:
            source, destination = frame[22:38], frame[38:54]
            hops, network_checksum = frame[21], bytes(2)
        ports = struct.unpack_from("!HH", frame, place.transport)
        return struct.pack(
            "<4I12s12sI12sI4I4H2s2s4B",
            target,
            first,
            flows - 1,
            LOW_BITS,
            frame[:12],
            source[:12],
            int.from_bytes(source[12:]),
            destination[:12],
            int.from_bytes(destination[12:]),
            int(self.by_source),
            int(self.by_destination),
            ACKNOWLEDGED + (sent if self.new_request else 0),
            int(self.new_request),
            *ports,
            int(self.by_source_port),
            int(self.by_destination_port),
            network_checksum,
            frame[place.checksum : place.checksum + 2],
            int(place.family == 6),
            place.protocol,
            hops,
            0,
        )


def from_client(
    family: int, protocol: Protocol, source: str, destination: str, port: int, *, flags: str, source_port: int
) -> bytes:
    """A frame of 64 bytes or a little more; a SYN and a bare ACK carry no data."""
    return _frame(frames.from_client, family, protocol, source, destination, source_port, port, flags)


def from_backend(
    family: int, protocol: Protocol, source: str, destination: str, port: int, *, flags: str, source_port: int
) -> bytes:
    """The same from the other side."""
    return _frame(frames.from_backend, family, protocol, source, destination, source_port, port, flags)


def context(hook: dataplane.Hook, frame: bytes, ifindex: int) -> bytes:
    """``struct xdp_md`` or ``struct __sk_buff`` for a test-run of this frame."""
    if hook is dataplane.Hook.XDP:
        return struct.pack("<6I", 0, len(frame), 0, ifindex, 0, 0)
    words = [0] * 48
    words[10] = ifindex
    return struct.pack("<48I", *words)


def _frame(
    link: Callable[..., Packet],
    family: int,
    protocol: Protocol,
    source: str,
    destination: str,
    source_port: int,
    port: int,
    flags: str,
) -> bytes:
    transport: Packet = frames.transport(protocol, flags, source_port, port)
    if protocol is Protocol.UDP or "P" in flags:
        transport /= b"0123456789"
    return bytes(link(frames.ip_layer(family, source, destination), transport))
