"""FullNAT source ports: who gets which, who never shares one, and what happens when there are none left."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

import pytest

from bench import Bench, Hook
from flood import Opened, open_flows, open_on_two_cpus
from frames import reply, request
from marks import FAMILIES, HOOKS, PROTOCOLS
from services import SETTINGS, setup_service
from sluicegate_agent.datapath.codec import port_of
from sluicegate_agent.datapath.model import Protocol

pytestmark = pytest.mark.kernel


def owners(bench: Bench, family: int) -> dict[int, int]:
    """NAT port → port of the client that owns it, by the table; the test's flows go to one backend."""
    keys, values = bench.rows("nat", family)
    ports = [port_of(int(port)) for port in keys["source_port"]]
    return dict(zip(ports, (port_of(int(port)) for port in values["client_port"]), strict=True))


def assert_own_ports(bench: Bench, family: int, opened: list[Opened]) -> None:
    """Each flow that was forwarded is the one owner of its port, and no port is owned by anyone else."""
    seen = {flow.nat_port: flow.client_port for flow in opened if flow.nat_port}
    assert len(seen) == sum(1 for flow in opened if flow.nat_port), "two flows share a port"
    assert owners(bench, family) == seen


@HOOKS
@FAMILIES
@PROTOCOLS
def test_ports_are_within_range_and_each_has_one_owner(
    bench: Bench, hook: Hook, family: int, protocol: Protocol
) -> None:
    settings = replace(SETTINGS, nat_port_min=2000, nat_port_count=3000)
    setup_service(bench, family=family, protocol=protocol, settings=settings)

    opened = open_flows(bench, hook, family, protocol, range(10000, 10500))

    assert all(2000 <= flow.nat_port < 5000 for flow in opened)
    assert_own_ports(bench, family, opened)


@HOOKS
@FAMILIES
def test_a_flow_keeps_its_port(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    first = open_flows(bench, hook, family, Protocol.TCP, range(10000, 10100))

    assert open_flows(bench, hook, family, Protocol.TCP, range(10000, 10100)) == first


def test_both_hooks_see_the_same_flow(bench: Bench) -> None:
    setup_service(bench, family=4)
    first = open_flows(bench, Hook.XDP, 4, Protocol.TCP, range(10000, 10100))

    assert open_flows(bench, Hook.TC, 4, Protocol.TCP, range(10000, 10100)) == first


@HOOKS
@FAMILIES
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_when_all_ports_are_taken_new_flows_are_refused(bench: Bench, hook: Hook, family: int, count: int) -> None:
    settings = replace(SETTINGS, nat_port_min=5000, nat_port_count=count)
    (backend,) = setup_service(bench, family=family, settings=settings)

    outcomes = [bench.send(hook, request(family, port=port)) for port in range(10000, 10040)]

    assert Counter(outcome.reason for outcome in outcomes) == {"forwarded_request": count, "nat_ports": 40 - count}
    assert sorted(owners(bench, family)) == list(range(5000, 5000 + count))
    assert bench.load(backend) == (count, 0)
    assert bench.datapath.counters().frontends[1].dropped == 40 - count


@HOOKS
@FAMILIES
def test_a_port_taken_towards_one_backend_is_free_towards_another(bench: Bench, hook: Hook, family: int) -> None:
    settings = replace(SETTINGS, nat_port_min=5000, nat_port_count=1)
    setup_service(bench, family=family, settings=settings, backends=3)

    opened = open_flows(bench, hook, family, Protocol.TCP, range(10000, 10100))

    assert Counter(flow.nat_port for flow in opened) == {5000: 3, 0: 97}
    assert len({flow.backend for flow in opened if flow.nat_port}) == 3


@HOOKS
@FAMILIES
def test_a_full_table_refuses_new_flows_and_keeps_the_old(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family)
    capacity = bench.tables.by_family("nat", family).capacity
    opened = open_flows(bench, hook, family, Protocol.TCP, range(10000, 10000 + capacity))
    assert sum(1 for flow in opened if flow.nat_port) >= capacity - 1  # nearly every flow finds a port

    for port in range(30000, 30010):
        last = bench.send(hook, request(family, port=port))
    assert last.reason == "nat_full"
    survivor = next(flow for flow in opened if flow.nat_port)
    answer = reply(family, to_port=survivor.nat_port)
    assert bench.send(hook, answer, "b0").reason == "forwarded_reply"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@FAMILIES
@pytest.mark.parametrize("hooks", [(Hook.XDP, Hook.XDP), (Hook.TC, Hook.TC), (Hook.XDP, Hook.TC)])
def test_two_cpus_never_give_one_port_twice(bench: Bench, family: int, hooks: tuple[Hook, Hook]) -> None:
    """So few ports that the CPUs keep meeting at the same ones, and some flows find none."""
    settings = replace(SETTINGS, nat_port_min=5000, nat_port_count=600)
    (backend,) = setup_service(bench, family=family, settings=settings)

    opened = open_on_two_cpus(bench, hooks, family, Protocol.TCP, (range(10000, 10400), range(20000, 20400)))

    assert_own_ports(bench, family, opened)
    assert 500 < len(owners(bench, family)) <= 600
    assert bench.load(backend) == (len(owners(bench, family)), 0)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@FAMILIES
def test_two_cpus_agree_on_the_port_of_a_flow_that_both_see(bench: Bench, family: int) -> None:
    (backend,) = setup_service(bench, family=family, protocol=Protocol.UDP)
    ports = range(10000, 10400)

    opened = open_on_two_cpus(bench, (Hook.XDP, Hook.TC), family, Protocol.UDP, (ports, ports))

    assert_own_ports(bench, family, sorted(set(opened), key=lambda flow: flow.client_port))
    assert len(set(opened)) == len(ports)
    assert bench.load(backend) == (len(ports), 0)
