"""Whatever comes by: each packet has one fate, goes where it would have gone, and records say what the packet says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from bench import ACTIONS, EGRESS, OTHER_VIP, VIP, Bench, Hook, shortest
from frames import locate, without_rewritten_fields
from fuzzing import Fuzzer, valid_frames
from marks import ALL_HOOKS
from services import setup_service
from sluicegate_agent.datapath.model import ForwardingMode, Protocol
from sluicegate_agent.dpi.capture.headers import Headers, parse
from sluicegate_agent.dpi.records import EGRESS as OUT
from sluicegate_agent.dpi.records import IPV6, TRUNCATED, TUNNEL
from sluicegate_agent.dpi.sniffing.sniffer import Budget
from sniff_bench import FATES, PLAN, Record, SniffBench

pytestmark = pytest.mark.kernel

FRAMES = int(os.environ.get("SLUICEGATE_FUZZ_FRAMES", "100000")) // 20
SEED = int(os.environ.get("SLUICEGATE_FUZZ_SEED", "20240229"))
UDP = 17


def serve(bench: Bench) -> None:
    """Services in both translating modes."""
    services = product((4, 6), Protocol, ((VIP, ForwardingMode.FULL_NAT), (OTHER_VIP, ForwardingMode.DNAT)))
    for service, (family, protocol, (vip, mode)) in enumerate(services, start=1):
        vips = vip[family]
        setup_service(bench, family=family, protocol=protocol, mode=mode, backends=2, service=service, vip=vips)


def frames_for(hook: str, seed: int) -> Iterator[tuple[bytes, str]]:
    """What the kernel takes for a test-run at this hook, from either side in turn."""
    like = Hook.TC if hook == EGRESS else Hook(hook)
    for index, frame in enumerate(Fuzzer(seed, valid_frames()).frames(FRAMES)):
        if len(frame) >= shortest(like, frame):
            yield frame, ("c0", "b0")[index % 2]


def check(record: Record, frame: bytes) -> None:
    """One record against the frame that it is of, as it came in or as it left."""
    assert record.wire_len == len(frame)
    assert record.cap_len == len(record.data)
    if record.flags & TUNNEL:
        assert record.data in frame
        return
    network = locate(frame).network
    found = parse(frame, network)
    assert isinstance(found, Headers), f"{found}, but it was sent up: {frame.hex()}"
    assert not found.fragment
    assert record.data == frame[network : network + record.cap_len]
    assert (record.l4_proto, record.l4_off, record.tcp_flags) == (
        found.protocol,
        found.transport - network,
        found.tcp_flags,
    ), frame.hex()
    assert bool(record.flags & IPV6) == (found.family == 6)
    assert not record.flags & TRUNCATED
    if found.protocol != UDP:  # what is behind a datagram that is shorter than its packet goes up too
        assert record.cap_len == found.end - found.start
        payload = found.end - found.payload if found.payload != found.transport else 0
        assert (record.pl_len, record.pl_off) == (payload, record.cap_len - payload), frame.hex()


@pytest.mark.timeout(60 + FRAMES // 50)
@ALL_HOOKS
def test_records_say_what_packets_say(sniffer: SniffBench, hook: str) -> None:
    serve(sniffer.bench)
    sniffer.read_by(1, 1 << 20)
    budget = Budget(4096, 1 << 24, 65535)
    sniffer.tap(replace(PLAN, budget=budget, send_empty=True), "c0", "b0", hook=hook)
    sent: Counter[bool] = Counter()
    for frame, device in frames_for(hook, SEED):
        run = sniffer.bench.run(hook, frame, device)
        for record in sniffer.records():
            leaving = bool(record.flags & OUT)
            check(record, run.data if leaving else frame)
            sent[leaving] += 1
    count = sniffer.count()
    assert count.packets == sum(getattr(count, name) for name in FATES)
    assert count.sent == sum(sent.values())
    assert (count.lost, count.no_worker, count.no_room, count.dropped) == (0, 0, 0, 0)
    assert min(count.sent, count.fragments, count.unreadable) > FRAMES // 50
    assert sent[True] > FRAMES // 50


@pytest.mark.timeout(60 + FRAMES // 50)
@ALL_HOOKS
def test_no_frame_is_changed_or_sent_elsewhere_for_being_seen(sniffer: SniffBench, hook: str) -> None:
    """The same frames twice, with the same tables: once unseen, once with a small budget, so that flows stop."""
    serve(sniffer.bench)
    unseen = fates(sniffer, hook)
    for family, table in product((4, 6), ("flows", "nat", "fragments")):
        rows = sniffer.tables.by_family(table, family).map
        for key in list(rows.keys()):
            rows.delete(key)
    sniffer.read_by(1, 1 << 20)
    sniffer.tap(replace(PLAN, budget=Budget(2, 1 << 20, 3)), "c0", "b0", hook=hook)
    for index, (one, other) in enumerate(zip(unseen, fates(sniffer, hook), strict=True)):
        assert one == other, index
    assert min(sniffer.count().sent, sniffer.count().stopped) > FRAMES // 50


def fates(sniffer: SniffBench, hook: str) -> list[tuple[int, bytes]]:
    """Actions and frames afterwards; of forwarded ones what translation does not write, for ports are drawn."""
    found = []
    for frame, device in frames_for(hook, SEED + 1):
        run = sniffer.bench.run(hook, frame, device)
        sniffer.skip()
        forwarded = run.retval in ACTIONS[hook]["forward"] or run.data != frame
        found.append((run.retval, without_rewritten_fields(run.data) if forwarded else run.data))
    return found
