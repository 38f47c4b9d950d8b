"""The real programs, a real ring and a real worker: what goes up comes back as a verdict, and as lines."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR

from bench import Hook
from sluicegate_agent.datapath.model import Protocol
from sluicegate_agent.dpi.engine import available
from sluicegate_agent.dpi.live.pool import RunState, WorkerConfig, WorkerPolicy, WorkerPool
from sluicegate_agent.kernel.libbpf import BpfMap, MapType
from sluicegate_agent.sniffing.model import EndedFlow, SniffState, SniffWhy
from sluicegate_api.dpisniffer import DpiSnifferSpec
from sniff_bench import NUMBER, PLAN, RING_BYTES, SniffBench, back, there

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(available() is not None, reason=str(available()))]

PATIENCE = 30.0
SPEC = {"actions": [{"name": "no-dns", "match": {"protocols": ["DNS"]}, "action": "Drop", "forSeconds": 77}]}


def question(port: int, name: str = "www.example.com") -> bytes:
    return there(4, Protocol.UDP, payload=bytes(DNS(rd=1, qd=DNSQR(qname=name))), port=port, server_port=53)


def answer(port: int, name: str = "www.example.com") -> bytes:
    payload = DNS(qr=1, qd=DNSQR(qname=name), an=DNSRR(rrname=name, rdata="192.0.2.99"))
    return back(4, Protocol.UDP, payload=bytes(payload), port=port, server_port=53)


class Live:
    """A pool of one worker on the bench's ring."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.events: list[dict[str, Any]] = []

    async def until(self, condition: Any) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, (self.pool.states(), self.events)
            await asyncio.sleep(0.005)

    def of(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event_type"] == event_type]


@asynccontextmanager
async def live(sniffer: SniffBench, folder: Path, spec: dict[str, Any]) -> AsyncIterator[Live]:
    """The sniffer of the bench, with a worker that knows it."""
    policy = WorkerPolicy("edge", "tests", DpiSnifferSpec.model_validate(spec))
    config = WorkerConfig({NUMBER: policy}, "node-1", {sniffer.bench.ifindex["c0"]: "c0"})
    found: list[Live] = []
    with BpfMap.create(MapType.RINGBUF, "ring_live", 0, 0, RING_BYTES) as ring:
        verdicts = sniffer.tables["sniff_verdicts"].map.fd
        pool = WorkerPool(
            *([ring.fd], RING_BYTES, verdicts, folder),
            lambda _, __, lines: found[0].events.extend(map(json.loads, lines)),
        )
        async with pool:
            found.append(Live(pool))
            await pool.configure(config)
            await found[0].until(lambda: pool.states()[0].config == pool.version)
            sniffer.tap(PLAN)
            sniffer.tables["sniff_rings"].map.update(bytes(4), ring.fd.to_bytes(4, "little"))
            yield found[0]
            sniffer.untap()


def test_a_label_stops_its_flow(sniffer: SniffBench, tmp_path: Path) -> None:
    async def play() -> None:
        async with live(sniffer, tmp_path, {}) as on:
            sniffer.send(Hook.XDP, question(5000), answer(5000))
            await on.until(lambda: on.of("dns"))
            (dns,) = on.of("dns")
            assert dns["dns"]["rrname"] == "www.example.com"
            assert (dns["in_iface"], dns["vnf"], dns["src_port"], dns["dest_port"]) == ("c0", "tests/edge", 5000, 53)
            assert sniffer.fates(Hook.XDP, question(5000), answer(5000)) == ["stopped", "stopped"]
            assert sniffer.flow(4, 5000).why is SniffWhy.VERDICT

    asyncio.run(play())


def test_an_action_drops_its_flow_and_no_other(sniffer: SniffBench, tmp_path: Path) -> None:
    async def play() -> None:
        async with live(sniffer, tmp_path, SPEC) as on:
            sniffer.send(Hook.XDP, question(5000), answer(5000))
            await on.until(lambda: on.of("alert"))
            assert sniffer.fates(Hook.XDP, question(5000), answer(5000)) == ["dropped", "dropped"]
            assert sniffer.fate(Hook.XDP, there(4, Protocol.UDP, port=5001, server_port=4000)) == "sent"
            sniffer.pass_time(4, 78)
            assert sniffer.fate(Hook.XDP, question(5000)) != "dropped"

    asyncio.run(play())


def test_a_flow_that_ended_is_told_with_the_kernels_counts(sniffer: SniffBench, tmp_path: Path) -> None:
    async def play() -> None:
        async with live(sniffer, tmp_path, {}) as on:
            sniffer.send(Hook.XDP, question(5000), answer(5000))
            await on.until(lambda: on.of("dns"))
            sniffer.send(Hook.XDP, *[question(5000)] * 20)
            seen = sniffer.flow(4, 5000)
            on.pool.end_flows(0, [ended(seen)])
            await on.until(lambda: on.of("flow"))
            (flow,) = on.of("flow")
            assert (flow["flow"]["pkts_toserver"], flow["flow"]["pkts_toclient"]) == (21, 1)
            assert flow["sniffing"]["records"] == seen.sent
            assert flow["ndpi"]["proto"] == "DNS"

    asyncio.run(play())


def test_records_wait_for_the_worker_that_comes_after_a_crash(sniffer: SniffBench, tmp_path: Path) -> None:
    async def play() -> None:
        async with live(sniffer, tmp_path, {}) as on:
            pid = on.pool.states()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            for port in range(5000, 5020):
                sniffer.send(Hook.XDP, question(port), answer(port))
            await on.until(lambda: len(on.of("dns")) == 20)
            await on.until(lambda: on.pool.states()[0].state is RunState.RUNNING)
            assert on.pool.states()[0].restarts == 1
            assert sniffer.count().lost == 0
            assert sniffer.fate(Hook.XDP, question(5019)) == "stopped"

    asyncio.run(play())


def ended(flow: Any) -> EndedFlow:
    """As a sweep would tell it."""
    return EndedFlow(
        flow_id=flow.id,
        family=4,
        client=bytes(4),
        server=bytes(4),
        ports=(flow.opener[1], flow.other[1]),
        protocol=flow.protocol,
        ifindex=flow.ifindex,
        packets=flow.packets,
        octets=flow.octets,
        first_ns=flow.first_ns,
        last_ns=flow.first_ns,
        state=SniffState(flow.state),
        why=flow.why,
        sent=flow.sent,
        closing=False,
        sniffer=flow.sniffer,
        rule=None,
    )
