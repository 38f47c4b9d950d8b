"""The life of a backend, state by state."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from sluicegate_agent.datapath.model import BackendState, Endpoint, Protocol, ServiceId
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.planning.ids import Member
from sluicegate_agent.planning.lifecycle import Configured, Lifecycle, advance

SERVICE = ServiceId(1)
ONE = Member(SERVICE, Endpoint(ip_address("10.0.0.1"), Protocol.TCP, 80))
ACTIVE, DRAINING, DOWN = BackendState.ACTIVE, BackendState.DRAINING, BackendState.DOWN


def state(backend: Configured, present: BackendState | None = None) -> BackendState | None:
    rows = {} if present is None else {ONE: present}
    return advance({ONE: backend}, rows, {}, 0.0, drain_seconds={}).states.get(ONE)


def leaving(
    present: BackendState, drains: dict[Member, float], now: float, **options: frozenset[ServiceId]
) -> Lifecycle:
    return advance({}, {ONE: present}, drains, now, drain_seconds={SERVICE: 10.0}, **options)


@pytest.mark.parametrize(
    ("backend", "present", "expected"),
    [
        pytest.param(Configured(100, None), None, ACTIVE, id="unchecked: usable"),
        pytest.param(Configured(100, HealthState.UNKNOWN), None, ACTIVE, id="not checked yet: usable"),
        pytest.param(Configured(100, HealthState.UP), DOWN, ACTIVE, id="recovered: usable again"),
        pytest.param(Configured(100, HealthState.DOWN), ACTIVE, DOWN, id="failed its checks: down"),
        pytest.param(Configured(100, HealthState.UNKNOWN), DOWN, DOWN, id="found down after a restart: still down"),
        pytest.param(Configured(100, None), DOWN, ACTIVE, id="not checked any more: usable"),
        pytest.param(Configured(100, HealthState.UP), DRAINING, ACTIVE, id="back before its drain ended: usable"),
        pytest.param(Configured(0, HealthState.UP), ACTIVE, DRAINING, id="weight 0: keeps its flows"),
        pytest.param(Configured(0, HealthState.DOWN), DRAINING, DOWN, id="weight 0 and failed: down"),
        pytest.param(Configured(100, HealthState.UP, reachable=False), ACTIVE, DOWN, id="no way to it: down"),
        pytest.param(Configured(100, None, reachable=False), None, None, id="no way to a new one: no row"),
    ],
)
def test_a_configured_backend(backend: Configured, present: BackendState | None, expected: BackendState | None) -> None:
    assert state(backend, present) is expected


def test_weight_zero_drains_without_end() -> None:
    life = advance({ONE: Configured(0, None)}, {ONE: DRAINING}, {}, 1e9, drain_seconds={SERVICE: 1.0})
    assert (life.states, life.wake_at) == ({ONE: DRAINING}, None)


def test_a_backend_that_leaves_drains_for_its_time_and_is_then_free() -> None:
    start = leaving(ACTIVE, {}, 100.0)
    assert (start.states, start.wake_at) == ({ONE: DRAINING}, 110.0)
    later = leaving(DRAINING, dict(start.drains), 109.9)
    assert (later.states, later.wake_at) == ({ONE: DRAINING}, 110.0)
    end = leaving(DRAINING, dict(later.drains), 110.0)
    assert (end.states, end.wake_at) == ({}, None)


def test_a_drain_that_ended_does_not_start_again_while_the_kernel_still_shows_the_row() -> None:
    end = leaving(DRAINING, {ONE: 110.0}, 111.0)
    assert leaving(DRAINING, dict(end.drains), 112.0).states == {}


def test_a_drain_found_after_a_restart_starts_anew() -> None:
    assert leaving(DRAINING, {}, 500.0).wake_at == 510.0


def test_a_backend_that_leaves_while_down_stays_down() -> None:
    assert leaving(DOWN, {}, 0.0).states == {ONE: DOWN}


def test_no_drain_time_frees_at_once() -> None:
    assert advance({}, {ONE: ACTIVE}, {}, 5.0, drain_seconds={SERVICE: 0.0}).states == {}


def test_a_service_without_vips_leaves_nothing_to_drain() -> None:
    assert leaving(ACTIVE, {}, 0.0, abandoned=frozenset({SERVICE})).states == {}


def test_a_drain_under_way_goes_on_when_the_service_loses_its_last_vip() -> None:
    assert leaving(DRAINING, {ONE: 10.0}, 5.0, abandoned=frozenset({SERVICE})).states == {ONE: DRAINING}


def test_the_next_drain_to_end_is_when_to_look_again() -> None:
    other = Member(SERVICE, Endpoint(ip_address("10.0.0.2"), Protocol.TCP, 80))
    life = advance({}, {ONE: DRAINING, other: DRAINING}, {ONE: 9.0, other: 7.0}, 8.0, drain_seconds={})
    assert (life.states, life.wake_at) == ({ONE: DRAINING}, 9.0)
