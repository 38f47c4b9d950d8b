"""The conntrack dump: which rows are flows, which of them match, and how many rows are made."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from flow_tables import Tables

from sluicegate_agent.datapath.flowdump import dump_flows
from sluicegate_agent.datapath.flowquery import FlowDump, FlowFilter, FlowState
from sluicegate_agent.datapath.flows import FlowRules
from sluicegate_agent.datapath.model import (
    Algorithm,
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    KernelState,
    NexthopId,
    Protocol,
    ServiceId,
    Settings,
)

HERTZ, NOW = 100, 1_000_000
ESTABLISHED, CLIENT_FIN, BACKEND_FIN, RESET = 1, 4, 8, 16
NAT, NAT6, DNAT, UDP = (FrontendId(each) for each in (1, 2, 3, 4))
FAMILIES = {4: ("203.0.113.10", "10.0.0.1"), 6: ("2001:db8::10", "fd00::1")}


def state() -> KernelState:
    kernel = KernelState(settings=Settings(half_open_seconds=30, closed_rest_seconds=60))
    for identity, family, protocol, mode in (
        (NAT, 4, Protocol.TCP, ForwardingMode.FULL_NAT),
        (NAT6, 6, Protocol.TCP, ForwardingMode.FULL_NAT),
        (DNAT, 4, Protocol.TCP, ForwardingMode.DNAT),
        (UDP, 4, Protocol.UDP, ForwardingMode.DNAT),
    ):
        vip, backend = FAMILIES[family]
        endpoint = Endpoint(ip_address(vip), protocol, 80 + identity)
        kernel.frontends[identity] = Frontend(endpoint, ServiceId(identity), 1, Algorithm.MAGLEV, mode, 300)
        kernel.backends[BackendId(identity)] = Backend(
            ServiceId(identity),
            Endpoint(ip_address(backend), protocol, 8080),
            None,
            NexthopId(1),
            BackendState.ACTIVE,
            1,
        )
    return kernel


def seconds_ago(seconds: float) -> int:
    return NOW - round(seconds * HERTZ)


@pytest.fixture
def tables() -> Tables:
    """Five active flows (one half-open, one closing), a closed one, an expired one, and a cached FullNAT flow."""
    found = Tables()
    backend = (1, "10.0.0.1", 8080)
    ours = ("10.0.0.254", 2000)
    found.add_translated("198.51.100.1", 40000, NAT, backend, source=ours, state=ESTABLISHED, last_seen=seconds_ago(10))
    found.add_kept("198.51.100.1", 40000, NAT, 1, state=ESTABLISHED, last_seen=seconds_ago(0))
    found.add_translated("198.51.100.2", 40001, NAT, backend, source=ours, state=0, last_seen=seconds_ago(5))
    found.add_translated(
        "198.51.100.3",
        40002,
        NAT,
        backend,
        source=ours,
        state=ESTABLISHED | CLIENT_FIN | BACKEND_FIN,
        last_seen=seconds_ago(59),
    )
    found.add_translated("198.51.100.4", 1, NAT, backend, source=ours, state=0, last_seen=seconds_ago(31))
    found.add_translated(
        "fd01::2",
        40000,
        NAT6,
        (2, "fd00::1", 8080),
        source=("fd00::fe", 3000),
        state=ESTABLISHED | CLIENT_FIN,
        last_seen=NOW + 3,
    )
    found.add_kept("198.51.100.1", 40000, DNAT, 3, state=ESTABLISHED, last_seen=seconds_ago(299))
    found.add_kept("198.51.100.1", 53, UDP, 4, state=0, last_seen=seconds_ago(1))
    return found


def dump(tables: Tables, wanted: FlowFilter | None = None, kernel: KernelState | None = None) -> FlowDump:
    kernel = kernel or state()
    rules = FlowRules.of(kernel.frontends, 16, kernel.settings, NOW, HERTZ)
    return dump_flows(tables, kernel, rules, wanted or FlowFilter(limit=100), HERTZ)


def matched(tables: Tables, **wanted: object) -> list[tuple[str, int]]:
    found = dump(tables, FlowFilter(limit=100, **wanted))  # type: ignore[arg-type]
    assert found.matched == len(found.rows)
    return sorted((str(row.client), row.frontend) for row in found.rows)


def test_every_active_flow_is_one_row_whatever_the_tables_hold_of_it(tables: Tables) -> None:
    assert matched(tables) == [
        ("198.51.100.1", NAT),
        ("198.51.100.1", DNAT),
        ("198.51.100.1", UDP),
        ("198.51.100.2", NAT),
        ("fd01::2", NAT6),
    ]


def test_a_full_nat_flow_tells_backend_source_state_and_times(tables: Tables) -> None:
    (row,) = dump(tables, FlowFilter(limit=9, client=ip_network("198.51.100.1"), frontends=frozenset({NAT}))).rows
    assert str(row.vip) == "203.0.113.10:81/TCP"
    assert (row.client_port, str(row.backend), row.backend_id) == (40000, "10.0.0.1:8080/TCP", 1)
    assert (str(row.source), row.source_port, row.mode) == ("10.0.0.254", 2000, ForwardingMode.FULL_NAT)
    assert (row.state, row.idle_seconds, row.expires_in_seconds) == (FlowState.ESTABLISHED, 10, 290)


def test_an_ipv6_flow_and_one_seen_after_the_clock_was_read_are_told_right(tables: Tables) -> None:
    (row,) = dump(tables, FlowFilter(limit=9, frontends=frozenset({NAT6}))).rows
    assert (str(row.client), str(row.backend), str(row.source)) == ("fd01::2", "[fd00::1]:8080/TCP", "fd00::fe")
    assert (row.state, row.idle_seconds) == (FlowState.CLOSING, 0)


def test_a_flow_that_keeps_its_client_has_no_source_and_finds_its_backend_by_id(tables: Tables) -> None:
    (row,) = dump(tables, FlowFilter(limit=9, frontends=frozenset({DNAT}))).rows
    assert (str(row.backend), row.source, row.source_port) == ("10.0.0.1:8080/TCP", None, None)


def test_a_backend_whose_id_went_to_another_is_gone(tables: Tables) -> None:
    kernel = state()
    kernel.backends[BackendId(3)] = replace(kernel.backends[BackendId(3)], generation=2)
    (row,) = dump(tables, FlowFilter(limit=9, frontends=frozenset({DNAT})), kernel).rows
    assert row.backend is None


@pytest.mark.parametrize(
    ("wanted", "clients"),
    [
        ({"client": ip_network("198.51.100.2/31")}, [("198.51.100.2", NAT)]),
        ({"client": ip_network("198.51.100.2"), "client_port": 40001}, [("198.51.100.2", NAT)]),
        ({"client_port": 53}, [("198.51.100.1", UDP)]),
        ({"client": ip_network("fd01::/64")}, [("fd01::2", NAT6)]),
        ({"client": ip_network("fd02::/64")}, []),
        ({"backend": (ip_address("fd00::1"), None)}, [("fd01::2", NAT6)]),
        ({"backend": (ip_address("10.0.0.1"), 8081)}, []),
        ({"backend": (ip_address("10.0.0.9"), None)}, []),
        ({"frontends": frozenset({UDP})}, [("198.51.100.1", UDP)]),
        ({"frontends": frozenset({FrontendId(15)})}, []),
        ({"states": frozenset({FlowState.HALF_OPEN})}, [("198.51.100.2", NAT)]),
        ({"states": frozenset({FlowState.CLOSED})}, [("198.51.100.3", NAT)]),
        ({"states": frozenset({FlowState.CLOSING})}, [("fd01::2", NAT6)]),
    ],
)  # fmt: skip
def test_filters_leave_what_matches(tables: Tables, wanted: dict[str, object], clients: list[tuple[str, int]]) -> None:
    assert matched(tables, **wanted) == clients


def test_a_backend_is_found_in_every_mode(tables: Tables) -> None:
    assert len(matched(tables, backend=(ip_address("10.0.0.1"), 8080))) == 4


def test_a_limit_bounds_the_rows_and_not_the_count(tables: Tables) -> None:
    found = dump(tables, FlowFilter(limit=2))
    assert (len(found.rows), found.matched) == (2, 5)


def test_states_are_counted_whichever_was_asked_for(tables: Tables) -> None:
    found = dump(tables, FlowFilter(limit=9, states=frozenset({FlowState.CLOSED})))
    assert found.matched == 1
    assert found.states == {
        FlowState.HALF_OPEN: 1,
        FlowState.ESTABLISHED: 3,
        FlowState.CLOSING: 1,
        FlowState.CLOSED: 1,
    }


def test_a_reset_connection_is_closed() -> None:
    found = Tables()
    found.add_kept("198.51.100.1", 1, DNAT, 3, state=ESTABLISHED | RESET, last_seen=NOW)
    assert dump(found).matched == 0
    assert dump(found).states[FlowState.CLOSED] == 1


def test_rows_of_a_frontend_that_is_gone_are_left_out() -> None:
    found = Tables()
    found.add_kept("198.51.100.1", 1, FrontendId(9), 3, state=ESTABLISHED, last_seen=NOW)
    assert dump(found).matched == 0
