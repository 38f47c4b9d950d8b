"""A connection through the programs, packet by packet: every byte of what comes out, every counter."""

from __future__ import annotations

from itertools import product

import pytest

from bench import (
    B0_MAC,
    BACKEND_MAC,
    BACKEND_PORT,
    BACKENDS,
    C0_MAC,
    CLIENT,
    CLIENT_MAC,
    REDIRECT,
    SOURCE,
    VIP,
    VIP_PORT,
    Bench,
    Hook,
)
from frames import reply, request, rewritten
from services import TRANSLATING_MODES, setup_service
from sluicegate_agent.datapath.model import ForwardingMode, FrontendId, Protocol

pytestmark = pytest.mark.kernel

CASES = list(product(Hook, (4, 6), Protocol, TRANSLATING_MODES))
CLIENT_SIDE, BACKEND_SIDE = "client", "backend"
SCRIPT = [
    (CLIENT_SIDE, "S", b""),
    (BACKEND_SIDE, "SA", b""),
    (CLIENT_SIDE, "A", b""),
    (CLIENT_SIDE, "PA", b"question"),
    (BACKEND_SIDE, "PA", b"answer" * 100),
    (CLIENT_SIDE, "FA", b""),
    (BACKEND_SIDE, "FA", b""),
]


@pytest.mark.parametrize(("hook", "family", "protocol", "mode"), CASES)
def test_a_connection_is_translated_both_ways(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    (backend,) = setup_service(bench, family=family, protocol=protocol, mode=mode)
    full_nat = mode is ForwardingMode.FULL_NAT
    seen_address = SOURCE[family] if full_nat else CLIENT[family]
    seen_port = 0
    sizes = {CLIENT_SIDE: 0, BACKEND_SIDE: 0}

    for step, (side, flags, payload) in enumerate(SCRIPT):
        if side == BACKEND_SIDE:
            frame = reply(family, protocol, flags, to_port=seen_port, payload=payload, to=seen_address)
            outcome = bench.send(hook, frame, "b0")
            assert outcome.reason == "forwarded_reply"
            expected = rewritten(
                frame,
                source=VIP[family],
                destination=CLIENT[family],
                sport=VIP_PORT,
                dport=40000,
                eth=(C0_MAC, CLIENT_MAC),
            )
        else:
            frame = request(family, protocol, flags, payload=payload)
            outcome = bench.send(hook, frame)
            assert outcome.reason == "forwarded_request"
            seen_port = seen_port or outcome.source_port
            expected = rewritten(
                frame,
                source=seen_address,
                destination=BACKENDS[family][0],
                sport=seen_port,
                dport=BACKEND_PORT,
                eth=(B0_MAC, BACKEND_MAC) if hook is Hook.XDP else None,
            )
        sizes[side] += len(frame) - 14
        assert outcome.action == REDIRECT[hook], f"step {step}"
        assert outcome.frame == expected, f"step {step}"

    assert 1024 <= seen_port <= 29999 if full_nat else seen_port == 40000
    counters = bench.datapath.counters()
    for traffic in (counters.backends[backend], counters.frontends[FrontendId(1)]):
        assert (traffic.request_packets, traffic.reply_packets, traffic.opened, traffic.dropped) == (4, 3, 1, 0)
        assert (traffic.request_bytes, traffic.reply_bytes) == (sizes[CLIENT_SIDE], sizes[BACKEND_SIDE])
    assert bench.load(backend) == (1, 1 if protocol is Protocol.TCP else 0)
