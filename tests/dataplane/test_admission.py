"""Who may open flows: allowed sources, and the rate of new flows."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from bench import BACKENDS, CLIENT, OTHER_VIP, SOURCE, Bench, Hook
from flood import open_flows, open_on_two_cpus
from frames import reply, request
from marks import FAMILIES, HOOKS, MODES, PROTOCOLS
from probes import allow, bucket, drops, edit_frontend, set_bucket
from services import setup_service
from sluicegate_agent.datapath.model import Delete, ForwardingMode, Frontend, Protocol, ServiceId, Table
from sluicegate_agent.kernel.clock import hertz, jiffies

pytestmark = pytest.mark.kernel

BITS = {4: 32, 6: 128}


def restricted(row: Frontend) -> Frontend:
    return replace(row, restricted=True)


def rated(rate: int):
    return lambda row: replace(row, rate=rate)


def setup_restricted(bench: Bench, family: int, mode: ForwardingMode = ForwardingMode.FULL_NAT) -> None:
    setup_service(bench, family=family, mode=mode, frontend=restricted)


@HOOKS
@FAMILIES
@MODES
def test_without_a_source_nobody_is_let_in(bench: Bench, hook: Hook, family: int, mode: ForwardingMode) -> None:
    setup_restricted(bench, family, mode)
    allow(bench)

    assert bench.send(hook, request(family)).reason == "source_denied"
    assert drops(bench) == 1
    assert len(bench.rows("flows", family)[0]) == 0


@HOOKS
@FAMILIES
def test_a_prefix_of_any_length_lets_in_whom_it_covers(bench: Bench, hook: Hook, family: int) -> None:
    setup_restricted(bench, family)
    client = ip_address(CLIENT[family])

    def reason(flipped: int) -> str:
        """For the client's address with one bit, counted from the left, turned over."""
        address = type(client)(int(client) ^ 1 << (BITS[family] - 1 - flipped))
        bench.evict_flows(family)
        return bench.send(hook, request(family, client=str(address))).reason

    for length in range(BITS[family] + 1):
        allow(bench, ip_network((CLIENT[family], length), strict=False))
        bench.evict_flows(family)
        assert bench.send(hook, request(family)).reason == "forwarded_request", length
        if length:
            assert reason(length - 1) == "source_denied", length
        if length < BITS[family]:
            assert reason(length) == "forwarded_request", length


@HOOKS
@FAMILIES
@MODES
def test_established_flows_go_on_when_their_source_is_removed(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode
) -> None:
    setup_restricted(bench, family, mode)
    allow(bench, ip_network(CLIENT[family]))
    first = bench.send(hook, request(family))

    allow(bench)

    assert bench.send(hook, request(family, flags="A")).reason == "forwarded_request"
    assert bench.send(hook, request(family, port=40001)).reason == "source_denied"
    if mode is not ForwardingMode.DIRECT_RETURN:
        to = SOURCE[family] if mode is ForwardingMode.FULL_NAT else CLIENT[family]
        answer = reply(family, to_port=first.source_port, to=to)
        assert bench.send(hook, answer, "b0").reason == "forwarded_reply"


@HOOKS
@FAMILIES
def test_an_edit_adds_and_removes(bench: Bench, hook: Hook, family: int) -> None:
    near, far = {4: ("10.1.0.0/24", "198.51.100.0/24"), 6: ("fd01::/64", "2001:db8:1::/48")}[family]
    setup_restricted(bench, family)
    allow(bench, ip_network(far))
    assert bench.send(hook, request(family)).reason == "source_denied"

    allow(bench, ip_network(far), ip_network(near))
    assert bench.send(hook, request(family)).reason == "forwarded_request"
    assert bench.datapath.observe().sources == {ServiceId(1): frozenset({ip_network(near), ip_network(far)})}

    bench.apply(Delete(Table.SOURCES, ServiceId(1)))
    assert bench.send(hook, request(family, port=40001)).reason == "source_denied"
    edit_frontend(bench, restricted=False)
    assert bench.send(hook, request(family, port=40001)).reason == "forwarded_request"
    assert bench.datapath.observe().sources == {}


@HOOKS
@FAMILIES
def test_sources_are_a_services_own(bench: Bench, hook: Hook, family: int) -> None:
    setup_restricted(bench, family)
    setup_service(bench, family=family, service=2, vip=OTHER_VIP[family], frontend=restricted)
    allow(bench, ip_network(CLIENT[family]), service=2)

    assert bench.send(hook, request(family)).reason == "source_denied"
    assert bench.send(hook, request(family, vip=OTHER_VIP[family])).reason == "forwarded_request"


@HOOKS
def test_a_packet_of_no_flow_is_no_question_of_sources(bench: Bench, hook: Hook) -> None:
    setup_restricted(bench, 4)
    allow(bench)

    assert bench.send(hook, request(4, flags="A")).reason == "no_flow"


@HOOKS
@FAMILIES
@MODES
@PROTOCOLS
def test_the_first_flow_over_the_rate_is_refused(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode, protocol: Protocol
) -> None:
    setup_service(bench, family=family, mode=mode, protocol=protocol, frontend=rated(1))
    assert bench.send(hook, request(family, protocol)).reason == "forwarded_request"
    set_bucket(bench, jiffies(), 0.0)

    assert bench.send(hook, request(family, protocol, port=40001)).reason == "rate_limited"
    assert drops(bench) == 1
    assert bench.send(hook, request(family, protocol, "A")).reason == "forwarded_request", "a known flow"


@HOOKS
@pytest.mark.parametrize(("rate", "burst"), [(1, 1), (9, 1), (20, 2), (100, 10), (1000, 100)])
def test_a_burst_is_a_tenth_of_a_second_and_at_least_one(bench: Bench, hook: Hook, rate: int, burst: int) -> None:
    setup_service(bench, family=4, mode=ForwardingMode.DNAT, frontend=rated(rate))
    begin = time.monotonic()

    opened = open_flows(bench, hook, 4, Protocol.TCP, range(10000, 10000 + 2 * burst + 5))

    accepted = [flow for flow in opened if flow.nat_port]
    seconds = time.monotonic() - begin
    assert burst <= len(accepted) <= burst + 1 + rate * (seconds + 2 / hertz())
    assert all(flow.nat_port for flow in opened[:burst])


@HOOKS
@pytest.mark.parametrize(("rate", "waited", "flows"), [(1, 1.0, 1), (1, 1000.0, 1), (50, 0.04, 2), (50, 1e6, 5)])
def test_the_bucket_fills_at_the_rate_up_to_a_burst(
    bench: Bench, hook: Hook, rate: int, waited: float, flows: int
) -> None:
    setup_service(bench, family=4, mode=ForwardingMode.DNAT, frontend=rated(rate))
    set_bucket(bench, jiffies() - round(waited * hertz()), 0.0)
    before = jiffies()
    bench.send(hook, request(4))
    passed = (jiffies() - before + 1) / hertz()

    then, left = bucket(bench)

    assert before <= then <= jiffies()
    assert flows - 1 - 1e-6 <= left <= min(flows - 1 + rate * passed + 1e-6, max(rate / 10, 1) - 1)


@HOOKS
def test_a_clock_that_is_a_tick_behind_fills_nothing(bench: Bench, hook: Hook) -> None:
    """Another CPU refilled the bucket between this one's look at the clock and at the bucket."""
    setup_service(bench, family=4, mode=ForwardingMode.DNAT, frontend=rated(1000))
    ahead = jiffies() + hertz() // 2
    set_bucket(bench, ahead, 1.0)

    assert bench.send(hook, request(4)).reason == "forwarded_request"
    assert bench.send(hook, request(4, port=40001)).reason == "rate_limited"
    assert bucket(bench) == (ahead & 0xFFFFFFFF, 0.0)


def test_the_highest_rate_fits_into_the_bucket(bench: Bench) -> None:
    setup_service(bench, family=4, mode=ForwardingMode.DNAT, frontend=rated(100_000_000))

    opened = open_flows(bench, Hook.XDP, 4, Protocol.TCP, range(10000, 10200))

    assert all(flow.nat_port for flow in opened)


@FAMILIES
@pytest.mark.parametrize("hooks", [(Hook.XDP, Hook.XDP), (Hook.XDP, Hook.TC)])
def test_two_cpus_share_one_rate(bench: Bench, family: int, hooks: tuple[Hook, Hook]) -> None:
    setup_service(bench, family=family, mode=ForwardingMode.DNAT, frontend=rated(1000))
    begin = time.monotonic()

    opened = open_on_two_cpus(bench, hooks, family, Protocol.TCP, (range(10000, 10400), range(20000, 20400)))

    accepted = sum(1 for flow in opened if flow.nat_port)
    seconds = time.monotonic() - begin
    lost_races = 5
    assert 100 <= accepted <= 101 + 1000 * (seconds + 2 / hertz()) + lost_races
    assert drops(bench) == len(opened) - accepted


@HOOKS
def test_services_have_rates_of_their_own(bench: Bench, hook: Hook) -> None:
    setup_service(bench, family=4, frontend=rated(1))
    setup_service(bench, family=4, service=2, vip=OTHER_VIP[4])
    set_bucket(bench, jiffies(), 0.0)

    assert bench.send(hook, request(4)).reason == "rate_limited"
    outcome = bench.send(hook, request(4, vip=OTHER_VIP[4]))
    assert outcome.destination == BACKENDS[4][0]
