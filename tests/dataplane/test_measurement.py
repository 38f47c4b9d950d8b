"""Passive measurement: what each conversation counts for its backend, and which times are taken of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether

from bench import CLIENT, Bench, Hook
from frames import reply, request
from marks import FAMILIES, HOOKS, TRANSLATING
from services import IDLE_SECONDS, set_state, setup_service
from sluicegate_agent.datapath.model import BackendId, BackendState, ForwardingMode, Protocol

pytestmark = pytest.mark.kernel


COUNTS = ("requests", "responses", "resets", "unanswered", "empty_closes", "abandoned", "closed")
ONE_IN = 8
MAX_BUCKET = 23


class Step(NamedTuple):
    """A packet of one side: TCP flags, whether it carries data, and how far it acknowledges the other side."""

    side: str
    flags: str
    data: bool = False
    ack: int = 0


SYN, SYN_ACK, ACK = Step("client", "S"), Step("backend", "SA", ack=1), Step("client", "A", ack=501)
HANDSHAKE = (SYN, SYN_ACK, ACK)
ASK, ANSWER = Step("client", "PA", data=True, ack=501), Step("backend", "PA", data=True, ack=101)
ASK_AGAIN, ANSWER_AGAIN = Step("client", "PA", data=True, ack=601), Step("backend", "PA", data=True, ack=201)
CLIENT_FIN, BACKEND_FIN = Step("client", "FA", ack=701), Step("backend", "FA", ack=301)

TALKS: dict[str, tuple[tuple[Step, ...], dict[str, int]]] = {
    "a handshake alone": (HANDSHAKE, {}),
    "one request": ((*HANDSHAKE, ASK, ANSWER), {"requests": 1, "responses": 1}),
    "a request under way": ((*HANDSHAKE, ASK), {"requests": 1}),
    "a request in pieces": ((*HANDSHAKE, ASK, ASK, ASK, ANSWER), {"requests": 1, "responses": 1}),
    "an answer in pieces": ((*HANDSHAKE, ASK, ANSWER, ANSWER, ANSWER), {"requests": 1, "responses": 1}),
    "acknowledged before it is answered": (
        (*HANDSHAKE, ASK, Step("backend", "A", ack=101), ANSWER),
        {"requests": 1, "responses": 1},
    ),
    "a request sent again after its answer": (
        (*HANDSHAKE, ASK, ANSWER, ASK),
        {"requests": 1, "responses": 1},
    ),
    "two requests": (
        (*HANDSHAKE, ASK, ANSWER, ASK_AGAIN, ANSWER_AGAIN),
        {"requests": 2, "responses": 2},
    ),
    "the backend greets first": (
        (*HANDSHAKE, Step("backend", "PA", data=True, ack=1), ASK_AGAIN, ANSWER),
        {"requests": 1, "responses": 1},
    ),
    "closed by the client": (
        (*HANDSHAKE, ASK, ANSWER, CLIENT_FIN, BACKEND_FIN),
        {"requests": 1, "responses": 1, "closed": 1},
    ),
    "the client closes its side and waits": (
        (*HANDSHAKE, ASK, Step("client", "FA", ack=501), ANSWER, BACKEND_FIN),
        {"requests": 1, "responses": 1, "closed": 1},
    ),
    "the last data comes with the backend's FIN": (
        (*HANDSHAKE, ASK, Step("backend", "FPA", data=True, ack=101)),
        {"requests": 1, "responses": 1, "closed": 1},
    ),
    "refused": ((SYN, Step("backend", "RA")), {"resets": 1, "closed": 1}),
    "reset before any data": ((*HANDSHAKE, Step("backend", "R")), {"resets": 1, "closed": 1}),
    "reset instead of an answer": (
        (*HANDSHAKE, ASK, Step("backend", "R")),
        {"requests": 1, "resets": 1, "abandoned": 1, "closed": 1},
    ),
    "reset after an answer": (
        (*HANDSHAKE, ASK, ANSWER, Step("backend", "R")),
        {"requests": 1, "responses": 1, "closed": 1},
    ),
    "reset by the client": (
        (*HANDSHAKE, ASK, Step("client", "R")),
        {"requests": 1, "abandoned": 1, "closed": 1},
    ),
    "closed without a byte": ((*HANDSHAKE, BACKEND_FIN), {"empty_closes": 1, "closed": 1}),
    "closed instead of an answer": (
        (*HANDSHAKE, ASK, BACKEND_FIN),
        {"requests": 1, "abandoned": 1, "empty_closes": 1, "closed": 1},
    ),
    "the client only looks whether someone is there": ((*HANDSHAKE, CLIENT_FIN, BACKEND_FIN), {"closed": 1}),
    "no answer to the SYN": ((SYN, SYN, SYN), {"unanswered": 1}),
    "a late answer to the SYN": (
        (SYN, SYN, SYN_ACK, ACK, ASK, ANSWER),
        {"unanswered": 1, "requests": 1, "responses": 1},
    ),
    "every packet twice": (
        tuple(step for step in (*HANDSHAKE, ASK, ANSWER) for _ in range(2)),
        {"unanswered": 1, "requests": 1, "responses": 1},
    ),
}


def shaped(frame: bytes, step: Step) -> bytes:
    packet = Ether(frame)
    packet[TCP].ack = step.ack
    del packet[TCP].chksum
    return bytes(packet)


class Talk:
    """One connection to the VIP, packet by packet; every packet must be forwarded."""

    def __init__(self, bench: Bench, hook: Hook, family: int, mode: ForwardingMode, port: int = 40000) -> None:
        self.bench, self.hook, self.family, self.mode, self.port = bench, hook, family, mode, port
        self.reply_port = port

    def play(self, steps: Iterable[Step]) -> None:
        for step in steps:
            payload = b"x" * 100 if step.data else b""
            if step.side == "client":
                frame = request(self.family, flags=step.flags, port=self.port, payload=payload)
                outcome = self.bench.send(self.hook, shaped(frame, step))
                assert outcome.reason == "forwarded_request", step
                if self.mode is ForwardingMode.FULL_NAT:
                    self.reply_port = outcome.source_port
            else:
                to = CLIENT[self.family] if self.mode is ForwardingMode.DNAT else None
                frame = reply(self.family, flags=step.flags, to_port=self.reply_port, payload=payload, to=to)
                assert self.bench.send(self.hook, shaped(frame, step), "b0").reason == "forwarded_reply", step


def counted(bench: Bench, backend: BackendId) -> dict[str, int]:
    """What is not zero of the backend's load, but for the flows opened."""
    row = bench.tables["backend_load"].get(backend)
    assert row is not None
    return {name: int(row[name]) for name in COUNTS if row[name]}


def times(bench: Bench, backend: BackendId) -> dict[str, int]:
    row = bench.tables["backend_latency"].get(backend)
    assert row is not None
    return {name: int(row[name].sum()) for name in ("handshake", "first_response")}


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("name", TALKS)
def test_a_conversation_counts_for_its_backend(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode, name: str
) -> None:
    steps, expected = TALKS[name]
    (backend,) = setup_service(bench, family=family, mode=mode)
    Talk(bench, hook, family, mode).play(steps)
    assert counted(bench, backend) == expected


@HOOKS
@TRANSLATING
def test_one_flow_in_eight_is_timed(bench: Bench, hook: Hook, mode: ForwardingMode) -> None:
    (backend,) = setup_service(bench, family=4, mode=mode)
    flows = 400
    for port in range(20000, 20000 + flows):
        Talk(bench, hook, 4, mode, port).play((*HANDSHAKE, ASK, ANSWER, ASK_AGAIN, ANSWER_AGAIN))
    seen = times(bench, backend)
    assert flows / ONE_IN / 2 < seen["handshake"] < flows / ONE_IN * 2
    assert seen["first_response"] == 2 * seen["handshake"]


@HOOKS
@TRANSLATING
def test_a_time_is_counted_under_its_power_of_two(bench: Bench, hook: Hook, mode: ForwardingMode) -> None:
    """The start is put back by hand: no test waits for seconds."""
    (backend,) = setup_service(bench, family=4, mode=mode)
    table = bench.tables["nat4" if mode is ForwardingMode.FULL_NAT else "flows4"]
    cases = {200_000: 17, 1_500_000: 20, 9_000_000: MAX_BUCKET, 4_000_000_000: MAX_BUCKET}
    ports = itertools.count(20000)
    for passed, bucket in cases.items():
        before = counted_buckets(bench, backend)
        while (counted_buckets(bench, backend) == before).all():
            port = next(ports)
            talk = Talk(bench, hook, 4, mode, port)
            talk.play((*HANDSHAKE, ASK))
            handshakes = times(bench, backend)["handshake"]
            for keys, values in table.batches():
                for key, row in zip(keys, values, strict=True):
                    value = row.copy()
                    value["timer"] = (int(value["timer"]) - passed) % 2**32
                    table.map.update(key.tobytes(), value.tobytes())
            talk.play((ANSWER, Step("backend", "R")))
            assert times(bench, backend)["handshake"] == handshakes
        added = counted_buckets(bench, backend) - before
        assert added[bucket] == 1
        assert added.sum() == 1


def counted_buckets(bench: Bench, backend: BackendId) -> npt.NDArray[np.uint64]:
    row = bench.tables["backend_latency"].get(backend)
    assert row is not None
    found: npt.NDArray[np.uint64] = row["first_response"].copy()
    return found


@HOOKS
def test_udp_and_direct_return_are_not_guessed_at(bench: Bench, hook: Hook) -> None:
    udp, direct = (
        setup_service(bench, family=4, protocol=Protocol.UDP)[0],
        setup_service(bench, family=4, mode=ForwardingMode.DIRECT_RETURN, service=2, vip="203.0.113.20")[0],
    )
    for _ in range(3):
        assert bench.send(hook, request(4, Protocol.UDP, payload=b"x")).reason == "forwarded_request"
        assert bench.send(hook, request(4, flags="S", vip="203.0.113.20")).reason == "forwarded_request"
        assert bench.send(hook, request(4, flags="PA", payload=b"x", vip="203.0.113.20")).reason == "forwarded_request"
    assert counted(bench, udp) == {}
    assert counted(bench, direct) == {}


def test_counts_and_times_are_cleared_with_the_id(bench: Bench) -> None:
    (backend,) = setup_service(bench, family=4)
    for port in range(20000, 20000 + 4 * ONE_IN):
        Talk(bench, Hook.XDP, 4, ForwardingMode.FULL_NAT, port).play((*HANDSHAKE, ASK, ANSWER))
    assert counted(bench, backend)["responses"] == 4 * ONE_IN
    assert times(bench, backend)["handshake"]
    set_state(bench, backend, BackendState.FREE)
    setup_service(bench, family=4)
    assert counted(bench, backend) == {}
    assert times(bench, backend) == {"handshake": 0, "first_response": 0}


@TRANSLATING
def test_requests_whose_flow_was_lost_are_forgotten_within_a_few_sweeps(bench: Bench, mode: ForwardingMode) -> None:
    (backend,) = setup_service(bench, family=4, mode=mode)
    for port in range(20000, 20008):
        Talk(bench, Hook.XDP, 4, mode, port).play((*HANDSHAKE, ASK))
    assert bench.datapath.sweep().waiting == {backend: 8}
    assert bench.datapath.loads()[backend].in_flight == 8
    bench.age_flows(4, IDLE_SECONDS + 5)
    for _ in range(5):
        assert bench.datapath.sweep().waiting == {}
    assert bench.datapath.loads()[backend].in_flight == 0
    Talk(bench, Hook.XDP, 4, mode, 30000).play((*HANDSHAKE, ASK))
    assert bench.datapath.loads()[backend].in_flight == 1
