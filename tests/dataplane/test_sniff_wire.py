"""Frames that a device delivers, as no test-run can: tags that the kernel took out, data in pages, what we send."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from bench import BACKENDS, CLIENT, EGRESS, Hook, ip
from frames import locate, request
from marks import FAMILIES, HOOKS, PROTOCOLS
from services import setup_service
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.records import EGRESS as OUT
from sluicegate_agent.dpi.records import RECORD, TRUNCATED
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sluicegate_agent.kernel.libbpf import AttachType, Link
from sniff_bench import PLAN, SniffBench, there

pytestmark = pytest.mark.kernel

DATA_MAX = 16640 - RECORD.size
MANY = Budget(1000, 1 << 24, 1000)
ATTACH = {Hook.XDP: AttachType.XDP, Hook.TC: AttachType.TCX_INGRESS, EGRESS: AttachType.TCX_EGRESS}
SECONDS = 10.0
"""What a frame may take from one end of a cable to the other."""

Attach = Callable[[str, str], None]


@pytest.fixture
def attach(sniffer: SniffBench) -> Iterator[Attach]:
    """Attaches a hook's program to a device, for as long as the test runs."""
    with ExitStack() as links:

        def attach(hook: str, device: str) -> None:
            program, index = sniffer.bench.programs[hook], sniffer.bench.ifindex[device]
            link = links.enter_context(Link.create(program, index, ATTACH[hook]))
            links.callback(link.detach)

        yield attach


@pytest.fixture
def large_frames(own_network: None) -> Iterator[None]:
    """The devices take them."""
    names = ("c0", "c1")
    ip(*(f"link set {name} mtu 65535" for name in names))
    try:
        yield
    finally:
        ip(*(f"link set {name} mtu 1500" for name in names))


def port_of(device: str) -> socket.socket:
    """The far end of a cable: a socket that sends and takes whole frames."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.bind((device, 0))
    port.settimeout(SECONDS)
    return port


@HOOKS
@FAMILIES
@pytest.mark.parametrize(
    ("tags", "vlan"),
    [([(0x8100, 0x6123)], 0x123), ([(0x88A8, 0x0007), (0x8100, 0x0123)], 7), ([(0x8100, 0x0009), (0x8100, 0x0003)], 9)],
)
def test_the_tag_is_the_same_wherever_the_kernel_keeps_it(
    sniffer: SniffBench, attach: Attach, hook: Hook, family: int, tags: list[tuple[int, int]], vlan: int
) -> None:
    """Before tc sees a frame, the kernel has taken its outer tag out."""
    sniffer.tap(hook=hook)
    attach(hook, "c0")
    plain = there(family)
    words = b"".join(struct.pack("!HH", kind, tag) for kind, tag in tags)
    with port_of("c1") as client:
        client.send(plain[:12] + words + plain[12:])
        record = sniffer.wait(Protocol.TCP)
    assert (record.vlan, record.data) == (vlan, plain[14:])


@HOOKS
@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("size", [9000, DATA_MAX, DATA_MAX + 1, 40000])
def test_a_large_frame_goes_up_as_far_as_there_is_room(
    sniffer: SniffBench,
    large_frames: None,
    attach: Attach,
    hook: Hook,
    family: int,
    protocol: Protocol,
    size: int,
) -> None:
    sniffer.read_by(1, 1 << 20)
    sniffer.tap(hook=hook)
    attach(hook, "c0")
    rest = size - len(there(family, protocol, payload=b"")) + 14
    frame = there(family, protocol, payload=bytes(index * 7 % 251 for index in range(rest)))
    with port_of("c1") as client:
        client.send(frame)
        record = sniffer.wait(protocol)
    kept = min(size, DATA_MAX)
    assert (record.wire_len, record.data) == (len(frame), frame[14 : 14 + kept])
    assert bool(record.flags & TRUNCATED) == (kept < size)


@FAMILIES
def test_what_the_node_sends_is_seen_at_egress(sniffer: SniffBench, attach: Attach, family: int) -> None:
    sniffer.tap(PLAN)
    attach(EGRESS, "c0")
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_DGRAM) as client:
        client.sendto(b"from the node itself", (CLIENT[family], 9))
        record = sniffer.wait(Protocol.UDP)
    assert record.flags & OUT
    assert record.data[record.pl_off :] == b"from the node itself"
    (flow,) = (flow for flow in sniffer.flows(family) if flow.protocol == Protocol.UDP)
    assert flow.packets == (1, 0)


@FAMILIES
def test_what_we_send_is_seen_once(sniffer: SniffBench, attach: Attach, family: int) -> None:
    """tc redirects it through the egress of a device that is sniffed there too."""
    setup_service(sniffer.bench, family=family)
    sniffer.tap(replace(PLAN, budget=MANY), "c0", "b0", hook=Hook.TC)
    attach(Hook.TC, "c0")
    attach(EGRESS, "b0")
    with port_of("c1") as client, port_of("b1") as backend:
        client.send(request(family, payload=b"data"))
        arrived = taken(backend, BACKENDS[family][0])
    flows = {flow.ifindex: flow.packets for flow in sniffer.flows(family) if flow.protocol == Protocol.TCP}
    assert flows == dict.fromkeys(sniffer.bench.ifindex.values(), (1, 0))
    first, second = (record for record in sniffer.records() if record.l4_proto == Protocol.TCP)
    assert (first.flags & OUT, second.flags & OUT) == (0, OUT)
    assert second.data == arrived[14:]


def taken(port: socket.socket, to: str) -> bytes:
    """The first frame to that address."""
    wanted = socket.inet_pton(socket.AF_INET6 if ":" in to else socket.AF_INET, to)
    while True:
        frame = port.recv(1 << 16)
        if frame[12:14] in {b"\x08\x00", b"\x86\xdd"}:
            at = locate(frame).network + (16 if len(wanted) == 4 else 24)
            if frame[at : at + len(wanted)] == wanted:
                return frame
