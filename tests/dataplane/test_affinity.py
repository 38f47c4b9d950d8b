"""Client-IP affinity: all flows of one client go to one backend, while the client keeps coming back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import BACKENDS, CLIENT, Bench, Hook
from flood import open_flows
from frames import request
from marks import FAMILIES, HOOKS, PROTOCOLS, TRANSLATING
from probes import rewind
from services import set_state, set_table, setup_service
from sluicegate_agent.datapath.model import (
    Algorithm,
    BackendId,
    BackendState,
    ForwardingMode,
    Frontend,
    Protocol,
    Put,
    Table,
)

pytestmark = pytest.mark.kernel

TIMEOUT = 60.0
STRANGERS = {4: [f"10.1.0.{host}" for host in range(10, 40)], 6: [f"fd01::{host}" for host in range(10, 40)]}


def sticky(row: Frontend) -> Frontend:
    return replace(row, affinity_seconds=TIMEOUT)


def backend_of(bench: Bench, hook: Hook, family: int, port: int, client: str | None = None) -> int:
    """Index of the backend that a client's new flow goes to."""
    outcome = bench.send(hook, request(family, port=port, client=client))
    assert outcome.reason == "forwarded_request"
    return BACKENDS[family].index(outcome.destination)


def setup(bench: Bench, family: int, mode: ForwardingMode = ForwardingMode.FULL_NAT, first: int = 0) -> list[BackendId]:
    """Three backends; the client has a flow at the one with the index ``first``, and the table speaks for all."""
    ids = setup_service(bench, family=family, mode=mode, backends=3, frontend=sticky)
    set_table(bench, (ids[first],))
    assert backend_of(bench, Hook.XDP, family, 40000) == first
    set_table(bench, tuple(ids) * 7)
    return ids


@HOOKS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("algorithm", Algorithm)
@PROTOCOLS
def test_all_ports_of_a_client_meet_one_backend(
    bench: Bench, hook: Hook, family: int, mode: ForwardingMode, algorithm: Algorithm, protocol: Protocol
) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=mode, algorithm=algorithm, backends=3, frontend=sticky)

    opened = open_flows(bench, hook, family, protocol, range(10000, 10100))

    assert len({flow.backend for flow in opened}) == 1


@HOOKS
@FAMILIES
def test_other_clients_have_backends_of_their_own(bench: Bench, hook: Hook, family: int) -> None:
    setup_service(bench, family=family, backends=3, frontend=sticky)

    first = {client: backend_of(bench, hook, family, 40000, client) for client in STRANGERS[family]}

    assert set(first.values()) == {0, 1, 2}
    for client, backend in first.items():
        assert backend_of(bench, hook, family, 40001, client) == backend


@FAMILIES
@TRANSLATING
def test_both_hooks_know_the_client(bench: Bench, family: int, mode: ForwardingMode) -> None:
    for turn, first in enumerate((0, 1, 2)):
        setup(bench, family, mode, first)
        ports = range(41000 + 10 * turn, 41006 + 10 * turn)
        assert {backend_of(bench, hook, family, port) for port in ports for hook in (Hook.TC,)} == {first}
        rewind(bench, "affinity", family, "last_used", TIMEOUT + 1)
        bench.evict_flows(family)


@HOOKS
@FAMILIES
def test_a_client_that_stays_away_is_forgotten(bench: Bench, hook: Hook, family: int) -> None:
    ids = setup(bench, family)
    set_table(bench, (ids[1],))
    rewind(bench, "affinity", family, "last_used", TIMEOUT - 1)
    assert backend_of(bench, hook, family, 40001) == 0

    rewind(bench, "affinity", family, "last_used", TIMEOUT - 1)
    assert backend_of(bench, hook, family, 40002) == 0, "the last flow began the time anew"
    rewind(bench, "affinity", family, "last_used", TIMEOUT + 1)

    assert backend_of(bench, hook, family, 40003) == 1
    set_table(bench, (ids[2],))
    assert backend_of(bench, hook, family, 40004) == 1


@HOOKS
@FAMILIES
@pytest.mark.parametrize("state", [BackendState.DOWN, BackendState.DRAINING, BackendState.FREE])
def test_a_client_moves_when_its_backend_takes_no_flows(
    bench: Bench, hook: Hook, family: int, state: BackendState
) -> None:
    ids = setup(bench, family)
    row = bench.datapath.observe().backends[ids[0]]
    set_state(bench, ids[0], state)

    moved = backend_of(bench, hook, family, 40001)

    assert moved != 0
    bench.apply(Put(Table.BACKENDS, ids[0], row))
    assert {backend_of(bench, hook, family, port) for port in range(41000, 41010)} == {moved}


@HOOKS
@FAMILIES
def test_a_client_does_not_follow_an_id_to_another_backend(bench: Bench, hook: Hook, family: int) -> None:
    ids = setup(bench, family)
    set_table(bench, (ids[1],))
    row = bench.datapath.observe().backends[ids[0]]
    set_state(bench, ids[0], BackendState.FREE)
    bench.apply(Put(Table.BACKENDS, ids[0], replace(row, generation=row.generation + 1)))

    assert backend_of(bench, hook, family, 40001) == 1


@HOOKS
@FAMILIES
def test_a_flow_that_is_open_stays_where_it_is(bench: Bench, hook: Hook, family: int) -> None:
    """Affinity is for new flows: one that expired moves no flow."""
    ids = setup(bench, family)
    rewind(bench, "affinity", family, "last_used", TIMEOUT + 1)
    set_table(bench, (ids[1],))
    assert backend_of(bench, hook, family, 40001) == 1

    outcome = bench.send(hook, request(family, flags="A", port=40000))

    assert outcome.destination == BACKENDS[family][0]


@HOOKS
@FAMILIES
def test_services_do_not_share_their_clients(bench: Bench, hook: Hook, family: int) -> None:
    from_other = {4: "203.0.113.20", 6: "2001:db8::20"}[family]
    setup(bench, family, first=0)
    ids = setup_service(bench, family=family, backends=3, service=2, vip=from_other, frontend=sticky)
    set_table(bench, (ids[2],), service=2)

    outcome = bench.send(hook, request(family, port=40001, vip=from_other))

    assert outcome.destination == BACKENDS[family][2]
    assert backend_of(bench, hook, family, 40002) == 0


@HOOKS
def test_without_affinity_nothing_is_remembered(bench: Bench, hook: Hook) -> None:
    setup_service(bench, family=4, backends=3)
    bench.send(hook, request(4, client=CLIENT[4]))

    assert len(bench.rows("affinity", 4)[0]) == 0
