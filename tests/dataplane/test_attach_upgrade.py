"""An upgrade to programs with other map layouts, while packets arrive."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kernel_rig import MAPS, add_veth, netns, pin_place, pins, request_for, write_sources
from sluicegate_agent.attach import Attachments
from sluicegate_agent.datapath.model import InterfaceIndex
from sluicegate_agent.kernel.libbpf import BpfMap
from sluicegate_agent.loader import client
from sluicegate_agent.loader.errors import LoaderError
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.pins import Pins

pytestmark = pytest.mark.kernel
__all__ = ["netns", "pins"]

ROWS = 65536
PROTOCOL = 0x88B5  # for experiments (IEEE 802)
OPEN = """\
static inline void open_flow(void *data, void *end) {
    struct frame { u8 macs[12]; __be16 protocol; u32 flow; } __attribute__((packed)) *frame = data;
    if ((void *)(frame + 1) > end || frame->protocol != htons(0x88b5)) return;
    u32 flow = frame->flow;
    struct row fresh = {.seen = flow + 1ull};
    rows.insert(&flow, &fresh);
}
#endif
"""
BEFORE = MAPS.removesuffix("#endif\n") + OPEN
AFTER = BEFORE.replace(
    "struct row { struct hop hop; u64 seen; };", "struct row { u32 added; u64 seen; struct hop hop; };"
)
XDP = """\
#include "maps.h"
BPF_TABLE("prog", u32, u32, tails_xdp, 1);
int xdp_open(struct xdp_md *ctx) { return XDP_PASS; }
int xdp_main(struct xdp_md *ctx) {
    open_flow((void *)(long)ctx->data, (void *)(long)ctx->data_end);
    return XDP_DROP;
}
"""
TC = """\
#include "maps.h"
int tc_ingress(struct __sk_buff *skb) {
    open_flow((void *)(long)skb->data, (void *)(long)skb->data_end);
    return -1;
}
int tc_egress(struct __sk_buff *skb) { return -1; }
"""


class Clients:
    """Sends one frame for each of ever more flows, about a thousand per second."""

    def __init__(self, interface: str) -> None:
        self.sent = 0
        self._stop = threading.Event()
        self._more = threading.Condition()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((interface, 0))
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def wait_for(self, more: int) -> None:
        """Until so many more flows have begun."""
        wanted = self.sent + more
        with self._more:
            assert self._more.wait_for(lambda: self.sent >= wanted, timeout=30)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def _send(self) -> None:
        while not self._stop.wait(0.001):  # the pace
            frame = b"\xff" * 6 + b"\x02" + bytes(5) + struct.pack("!H", PROTOCOL) + struct.pack("=I", self.sent)
            self._socket.send(frame.ljust(60, b"\0"))
            with self._more:
                self.sent += 1
                self._more.notify_all()


@contextmanager
def clients(interface: str) -> Iterator[Clients]:
    running = Clients(interface)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def load(tmp_path: Path, pins: Pins) -> Iterator[Callable[[str, Manifest | None], Manifest]]:
    with pin_place() as place:

        def load_with(maps: str, previous: Manifest | None) -> Manifest:
            sources = write_sources(tmp_path / "sources", maps=maps, xdp=XDP, tc=TC)
            return client.load(request_for(sources, place, rows=ROWS), progress=print, previous=previous)

        yield load_with


def flows(manifest: Manifest) -> dict[int, int]:
    """Flows of the set's map, each with what its row says."""
    layout = manifest.maps["rows"]
    assert layout.path is not None
    offset = layout.value_dtype.fields["seen"][1]
    found = {}
    with BpfMap.open(layout.path) as rows:
        for key in list(rows.keys()):
            value = rows.lookup(key)
            assert value is not None
            found[struct.unpack("=I", key)[0]] = struct.unpack_from("=Q", value, offset)[0]
    return found


@pytest.mark.parametrize(
    ("use_tcx", "want_xdp"), [(True, True), (True, False), (False, False)], ids=["xdp", "tcx", "clsact"]
)
def test_no_flow_is_lost_when_programs_and_map_layouts_change_under_load(
    netns: str, pins: Pins, load: Callable[[str, Manifest | None], Manifest], use_tcx: bool, want_xdp: bool
) -> None:
    ifindex = InterfaceIndex(add_veth("sgt0"))
    pins.prepare()
    before = load(BEFORE, None)
    running = Attachments(pins, before, use_tcx=use_tcx)
    running.attach(ifindex, "sgt0", want_xdp=want_xdp)
    with clients("sgt0p") as load_on:
        load_on.wait_for(100)
        after = load(AFTER, before)
        assert after.maps["rows"].path != before.maps["rows"].path
        load_on.wait_for(20)  # meanwhile the old programs write the old map
        running.close()
        following = Attachments(pins, after, use_tcx=use_tcx)  # the agent was replaced as well
        following.adopt()
        following.update_all(after)
        load_on.wait_for(100)
    assert flows(after) == {flow: flow + 1 for flow in range(load_on.sent)}
    following.close()


def test_a_version_that_would_lose_what_flows_hold_is_refused_and_the_running_one_goes_on(
    netns: str, pins: Pins, load: Callable[[str, Manifest | None], Manifest]
) -> None:
    ifindex = InterfaceIndex(add_veth("sgt0"))
    pins.prepare()
    newer = load(AFTER, None)
    running = Attachments(pins, newer)
    running.attach(ifindex, "sgt0", want_xdp=True)
    with clients("sgt0p") as load_on:
        load_on.wait_for(20)
        with pytest.raises(LoaderError, match=r"what this version does not know \(rows: added\).*newer version"):
            load(BEFORE, newer)
        load_on.wait_for(20)
    assert len(flows(newer)) == load_on.sent
    assert all(path.exists() for path in newer.pins())
    running.close()
