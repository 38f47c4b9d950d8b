"""A FullNAT flow's life: when it closes, when it expires, who may take its port, what survives an eviction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import Bench, Hook
from frames import reply, request
from marks import FAMILIES, HOOKS, PROTOCOLS
from services import IDLE_SECONDS, SETTINGS, setup_service
from sluicegate_agent.datapath.model import Protocol

pytestmark = pytest.mark.kernel

ONE_PORT = replace(SETTINGS, nat_port_min=5000, nat_port_count=1)
TWO_PORTS = replace(SETTINGS, nat_port_min=5000, nat_port_count=2)

Step = tuple[str, str]
ESTABLISHED: list[Step] = [("client", "S"), ("backend", "SA"), ("client", "A")]
ENDINGS: dict[str, list[Step]] = {
    "the client closes first": [("client", "FA"), ("backend", "FA"), ("client", "A")],
    "the backend closes first": [("backend", "FA"), ("client", "FA"), ("backend", "A")],
    "the client resets": [("client", "R")],
    "the backend resets": [("backend", "RA")],
    "the client resets after its end": [("client", "FA"), ("client", "R")],
    "everything comes twice": [("client", "FA")] * 2 + [("backend", "FA")] * 2 + [("client", "R")] * 2,
}


class Connection:
    """One client's flow, played step by step; every step must be forwarded."""

    def __init__(self, bench: Bench, hook: Hook, family: int, protocol: Protocol, port: int = 40000) -> None:
        self.bench, self.hook, self.family, self.protocol, self.port = bench, hook, family, protocol, port
        self.nat_port = 0

    def play(self, steps: list[Step]) -> None:
        for side, flags in steps:
            reason = self.ask(flags) if side == "client" else self.answer(flags)
            assert reason == ("forwarded_request" if side == "client" else "forwarded_reply"), (side, flags)

    def ask(self, flags: str = "A") -> str:
        """Send from the client; the reason. Remembers the port that the backend sees."""
        outcome = self.bench.send(self.hook, request(self.family, self.protocol, flags, port=self.port))
        if outcome.reason == "forwarded_request":
            self.nat_port = outcome.source_port
        return outcome.reason

    def answer(self, flags: str = "A", backend: int = 0) -> str:
        """Send from the backend; the reason."""
        frame = reply(self.family, self.protocol, flags, to_port=self.nat_port, backend=backend)
        return self.bench.send(self.hook, frame, "b0").reason


@HOOKS
@FAMILIES
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_is_counted_as_closed_once(bench: Bench, hook: Hook, family: int, ending: str) -> None:
    (backend,) = setup_service(bench, family=family)
    connection = Connection(bench, hook, family, Protocol.TCP)
    connection.play(ESTABLISHED)
    assert bench.load(backend) == (1, 0)

    connection.play(ENDINGS[ending])

    assert bench.load(backend) == (1, 1)


@HOOKS
@FAMILIES
@pytest.mark.parametrize("ending", ["the client closes first", "the client resets", "the backend resets"])
def test_a_new_connection_never_uses_the_port_of_a_closed_one(
    bench: Bench, hook: Hook, family: int, ending: str
) -> None:
    (backend,) = setup_service(bench, family=family)
    connection = Connection(bench, hook, family, Protocol.TCP)
    connection.play([*ESTABLISHED, *ENDINGS[ending]])
    before = connection.nat_port

    connection.play(ESTABLISHED)

    assert connection.nat_port != before
    assert bench.load(backend) == (2, 1)


@HOOKS
@FAMILIES
def test_last_packets_of_a_closed_connection_still_pass(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    connection = Connection(bench, hook, family, Protocol.TCP)
    connection.play([*ESTABLISHED, *ENDINGS["the client closes first"]])
    bench.evict_flows(family)

    connection.play([("client", "A"), ("backend", "FA"), ("client", "A")])


@HOOKS
@FAMILIES
@pytest.mark.parametrize(("seconds", "reason"), [(59, "nat_ports"), (61, "forwarded_request")])
def test_a_closed_port_rests_for_a_minute(bench: Bench, hook: Hook, family: int, seconds: int, reason: str) -> None:
    setup_service(bench, family=family, settings=ONE_PORT)
    Connection(bench, hook, family, Protocol.TCP).play([*ESTABLISHED, *ENDINGS["the client closes first"]])

    bench.age_flows(family, seconds)

    assert Connection(bench, hook, family, Protocol.TCP, 40001).ask("S") == reason


@HOOKS
def test_a_syn_does_not_prolong_the_rest_of_a_closed_port(bench: Bench, hook: Hook) -> None:
    setup_service(bench, family=4, settings=ONE_PORT)
    connection = Connection(bench, hook, 4, Protocol.TCP)
    connection.play([*ESTABLISHED, *ENDINGS["the client closes first"]])
    bench.age_flows(4, 50)
    (before,) = bench.rows("nat", 4)[1]["last_seen"]

    assert connection.ask("S") == "nat_ports"

    assert bench.rows("nat", 4)[1]["last_seen"] == [before]


@HOOKS
@FAMILIES
@PROTOCOLS
def test_an_expired_owner_loses_its_port_to_a_new_flow(
    bench: Bench, hook: Hook, family: int, protocol: Protocol
) -> None:
    (backend,) = setup_service(bench, family=family, protocol=protocol, settings=ONE_PORT)
    old, new = (Connection(bench, hook, family, protocol, port) for port in (40000, 40001))
    old.play(ESTABLISHED)
    assert new.ask("S") == "nat_ports"
    bench.age_flows(family, IDLE_SECONDS + 1)

    new.play(ESTABLISHED)

    assert new.nat_port == old.nat_port == 5000
    assert bench.load(backend) == (2, 1)
    assert old.ask("A") == ("no_flow" if protocol is Protocol.TCP else "nat_ports")
    assert bench.rows("nat", family)[1]["client_port"].tobytes() == (40001).to_bytes(2)


@HOOKS
@FAMILIES
@pytest.mark.parametrize(
    ("protocol", "steps", "limit"),
    [
        (Protocol.TCP, ESTABLISHED, IDLE_SECONDS),
        (Protocol.TCP, ESTABLISHED[:1], SETTINGS.half_open_seconds),
        (Protocol.TCP, ESTABLISHED[:2], SETTINGS.half_open_seconds),
        (Protocol.TCP, [*ESTABLISHED, ("client", "FA")], IDLE_SECONDS),
        (Protocol.TCP, [*ESTABLISHED, ("backend", "R")], SETTINGS.closed_rest_seconds),
        (Protocol.UDP, ESTABLISHED[:1], IDLE_SECONDS),
        (Protocol.UDP, ESTABLISHED, IDLE_SECONDS),
    ],
    ids=["tcp", "tcp asked", "tcp answered", "tcp half closed", "tcp closed", "udp asked", "udp"],
)
def test_a_silent_flow_expires(
    bench: Bench, hook: Hook, family: int, protocol: Protocol, steps: list[Step], limit: float
) -> None:
    setup_service(bench, family=family, protocol=protocol)
    connection = Connection(bench, hook, family, protocol)
    connection.play(steps)
    bench.age_flows(family, limit - 1)
    assert connection.answer() == "forwarded_reply"
    bench.age_flows(family, limit - 1)
    assert connection.ask() == "forwarded_request"
    if len(steps) < len(ESTABLISHED) and protocol is Protocol.TCP:
        limit = IDLE_SECONDS  # question and answer just now have established it

    bench.age_flows(family, limit + 1)

    assert connection.answer() == "no_translation"
    assert connection.ask() == ("no_flow" if protocol is Protocol.TCP else "forwarded_request")


@HOOKS
@FAMILIES
@PROTOCOLS
def test_a_flow_lives_on_while_only_the_backend_speaks(
    bench: Bench, hook: Hook, family: int, protocol: Protocol
) -> None:
    setup_service(bench, family=family, protocol=protocol)
    connection = Connection(bench, hook, family, protocol)
    connection.play(ESTABLISHED)
    before = connection.nat_port
    bench.age("flows", family, 10 * IDLE_SECONDS)

    connection.play([("backend", "A"), ("client", "A")])

    assert connection.nat_port == before


@HOOKS
@FAMILIES
@PROTOCOLS
def test_an_evicted_flow_is_found_again(bench: Bench, hook: Hook, family: int, protocol: Protocol) -> None:
    (backend,) = setup_service(bench, family=family, protocol=protocol, settings=TWO_PORTS)
    both = [Connection(bench, hook, family, protocol, port) for port in (40000, 40001)]
    for connection in both:
        connection.play(ESTABLISHED)
    ports = [connection.nat_port for connection in both]
    bench.evict_flows(family)

    for connection in both:
        connection.play([("client", "A"), ("backend", "A"), ("client", "A")])

    assert [connection.nat_port for connection in both] == ports
    assert bench.load(backend) == (2, 0)


@HOOKS
@FAMILIES
def test_an_evicted_connection_is_not_mistaken_for_its_closed_predecessor(
    bench: Bench, hook: Hook, family: int
) -> None:
    setup_service(bench, family=family)
    connection = Connection(bench, hook, family, Protocol.TCP)
    connection.play([*ESTABLISHED, *ENDINGS["the client closes first"]])
    connection.play(ESTABLISHED)
    before = connection.nat_port
    bench.evict_flows(family)

    assert connection.ask("A") == "forwarded_request"

    assert connection.nat_port == before


@HOOKS
@FAMILIES
@pytest.mark.parametrize("flags", ["A", "PA", "FA", "R", "SA"])
def test_only_a_syn_opens_a_connection(bench: Bench, hook: Hook, family: int, flags: str) -> None:
    (backend,) = setup_service(bench, family=family)

    assert Connection(bench, hook, family, Protocol.TCP).ask(flags) == "no_flow"

    assert bench.load(backend) == (0, 0)


@HOOKS
@FAMILIES
@pytest.mark.parametrize("to_port", [4999, 5001, 40000])
def test_a_reply_to_a_port_outside_the_range_passes(bench: Bench, hook: Hook, family: int, to_port: int) -> None:
    setup_service(bench, family=family, settings=ONE_PORT)
    connection = Connection(bench, hook, family, Protocol.TCP)
    connection.play(ESTABLISHED)
    connection.nat_port = to_port

    assert connection.answer() == "no_translation"


@HOOKS
@FAMILIES
def test_a_reply_of_another_backend_to_a_port_in_use_passes(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, backends=2, slots=(0,))
    connection = Connection(bench, hook, family, Protocol.TCP)
    connection.play(ESTABLISHED)

    assert connection.answer(backend=1) == "no_translation"
