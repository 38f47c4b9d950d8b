"""The life of a backend, state by state."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.datapath.model import BackendState, Endpoint, Protocol, ServiceId
from sluicegate_agent.health.model import HealthState
from sluicegate_agent.planning.ids import Member
from sluicegate_agent.planning.lifecycle import Configured, Lifecycle, Panic, advance

SERVICE = ServiceId(1)
ONE = Member(SERVICE, Endpoint(ip_address("10.0.0.1"), Protocol.TCP, 80))
ACTIVE, DRAINING, DOWN = BackendState.ACTIVE, BackendState.DRAINING, BackendState.DOWN


TWO = Member(SERVICE, Endpoint(ip_address("10.0.0.2"), Protocol.TCP, 80))


def state(backend: Configured, present: BackendState | None = None) -> BackendState | None:
    """Beside another backend that is healthy, so there is no panic."""
    rows = {} if present is None else {ONE: present}
    return advance({ONE: backend, TWO: Configured(1, None)}, rows, {}, 0.0, drain_seconds={}).states.get(ONE)


HEALTH = st.sampled_from([None, *HealthState])
CONFIGURED = st.builds(Configured, st.sampled_from([0, 1, 100]), HEALTH, st.booleans())


def pool(*backends: Configured, service: ServiceId = SERVICE) -> dict[Member, Configured]:
    ports = range(1000, 1000 + len(backends))
    endpoints = (Endpoint(ip_address("10.0.1.1"), Protocol.TCP, port) for port in ports)
    return {Member(service, endpoint): backend for endpoint, backend in zip(endpoints, backends, strict=True)}


def health(*states: HealthState) -> dict[Member, Configured]:
    return pool(*(Configured(100, each) for each in states))


def together(configured: dict[Member, Configured]) -> Lifecycle:
    return advance(configured, {}, {}, 0.0, drain_seconds={})


UP, FAILED = HealthState.UP, HealthState.DOWN


@pytest.mark.parametrize(
    ("states", "panic"),
    [
        ([FAILED], Panic(0, 1)),
        ([UP, FAILED], None),
        ([UP, UP, FAILED], None),
        ([UP, FAILED, FAILED], Panic(1, 3)),
        ([UP, UP, FAILED, FAILED], None),
        ([FAILED, FAILED, FAILED], Panic(0, 3)),
        ([HealthState.UNKNOWN, FAILED], None),
    ],
)
def test_all_backends_are_used_once_fewer_than_half_are_healthy(states: list[HealthState], panic: Panic | None) -> None:
    life = together(health(*states))
    assert life.panics.get(SERVICE) == panic
    failed = {member for member, each in health(*states).items() if each.health is FAILED}
    assert life.distrusted == (failed if panic else set())
    assert {member for member, each in life.states.items() if each is DOWN} == (set() if panic else failed)


def test_panic_uses_neither_what_has_no_weight_nor_what_has_no_way() -> None:
    configured = pool(Configured(0, FAILED), Configured(100, FAILED, reachable=False), Configured(100, FAILED))
    weightless, lost, failed = configured
    life = advance(configured, dict.fromkeys(configured, ACTIVE), {}, 0.0, drain_seconds={})
    assert life.states == {weightless: DOWN, lost: DOWN, failed: ACTIVE}
    assert life.panics == {SERVICE: Panic(0, 1)}


def test_one_service_in_panic_leaves_the_others_as_they_are() -> None:
    calm = pool(Configured(100, UP), Configured(100, FAILED), service=ServiceId(2))
    life = together(health(FAILED) | calm)
    assert life.panics.keys() == {SERVICE}
    assert [life.states[member] for member in calm] == [ACTIVE, DOWN]


@given(st.lists(CONFIGURED, min_size=1, max_size=8), st.data())
def test_the_share_of_backends_in_use_is_never_below_half_of_those_that_could_be(
    backends: list[Configured], data: st.DataObject
) -> None:
    configured = pool(*backends)
    present = data.draw(st.dictionaries(st.sampled_from(list(configured)), st.sampled_from([ACTIVE, DRAINING, DOWN])))
    life = advance(configured, present, {}, 0.0, drain_seconds={})
    could = {member for member, each in configured.items() if each.weight and each.reachable}
    used = {member for member, each in life.states.items() if each is ACTIVE}
    assert used <= could
    assert 2 * len(used) >= len(could)
    assert (SERVICE in life.panics) == bool(life.distrusted)
    again = advance(configured, dict(life.states), life.drains, 1.0, drain_seconds={})
    settled = all(each.health is not HealthState.UNKNOWN for each in backends)
    assert again.states == life.states or not settled


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
    life = advance({}, {ONE: DRAINING, TWO: DRAINING}, {ONE: 9.0, TWO: 7.0}, 8.0, drain_seconds={})
    assert (life.states, life.wake_at) == ({ONE: DRAINING}, 9.0)
