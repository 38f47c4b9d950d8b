"""KernelDatapath over the real tables: what was applied is what is read back, refused, counted and swept."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench import BACKENDS, CLIENT, VIP, VIP_PORT, Bench, Hook
from frames import reply, request
from marks import FAMILIES, HOOKS, TRANSLATING
from services import (
    IDLE_SECONDS,
    SETTINGS,
    backend_row,
    filter_of,
    nexthop_row,
    set_state,
    setup_node,
    setup_service,
)
from sluicegate_agent.datapath.kernel import KernelDatapath
from sluicegate_agent.datapath.model import (
    AddressFilter,
    Algorithm,
    Backend,
    BackendId,
    BackendState,
    Delete,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    Interface,
    InterfaceFlag,
    InterfaceIndex,
    IPAddress,
    Key,
    NexthopId,
    Operation,
    Protocol,
    Put,
    Row,
    ServiceId,
    Settings,
    Table,
    address_hash,
)
from sluicegate_agent.datapath.protocol import Census, DatapathError

pytestmark = pytest.mark.kernel

FRONTEND = Frontend(
    Endpoint(ip_address(VIP[4]), Protocol.TCP, 80),
    ServiceId(1),
    1,
    Algorithm.MAGLEV,
    ForwardingMode.FULL_NAT,
    60.0,
)
FREE = Backend(ServiceId(0), None, None, NexthopId(0), BackendState.FREE, 7, 0)


@FAMILIES
@TRANSLATING
def test_what_was_applied_is_what_is_observed(bench: Bench, family: int, mode: ForwardingMode) -> None:
    address = ip_address(BACKENDS[family][0])
    vip = Endpoint(ip_address(VIP[family]), Protocol.UDP, VIP_PORT)
    endpoint = Endpoint(address, Protocol.UDP, 8080)
    rows: dict[Table, dict[Key, Row]] = {
        Table.SETTINGS: {None: Settings(2000, 100, 7, 10.0, 20.0, 0.5, 99)},
        Table.INTERFACES: {
            InterfaceIndex(3): Interface(InterfaceFlag.TAKES_REDIRECT, 9000, bytes(range(6))),
            InterfaceIndex(70000): Interface(InterfaceFlag.L3, 1420, b""),
        },
        Table.NEXTHOPS: {
            NexthopId(1): nexthop_row(bench, address),
            NexthopId(2): replace(nexthop_row(bench, address), destination_mac=None, xdp=False),
        },
        Table.BACKENDS: {
            BackendId(5): backend_row(family, Protocol.UDP, mode, address, BackendId(5), generation=65535),
            BackendId(6): FREE,
        },
        Table.SLOTS: {ServiceId(1): (BackendId(5),) * 5000, ServiceId(2): ()},
        Table.FRONTENDS: {FrontendId(9): replace(FRONTEND, endpoint=vip, mode=mode)},
        Table.VIPS: {vip: FrontendId(9)},
        Table.REVERSE: {endpoint: tuple(FrontendId(index) for index in range(1, 9))},
        Table.FILTER: {None: filter_of(vip.address, [address], mode)},
    }
    bench.apply(*(Put(table, key, row) for table, content in rows.items() for key, row in content.items()))

    other = KernelDatapath(bench.manifest)
    for state in (bench.datapath.observe(), other.observe()):
        assert {table: getattr(state, table) for table in rows} == {
            table: content[None] if table in {Table.SETTINGS, Table.FILTER} else content
            for table, content in rows.items()
        }
    other.close()


def test_what_was_deleted_is_not_observed(bench: Bench) -> None:
    setup_service(bench, family=4, mode=ForwardingMode.DNAT)
    state = bench.datapath.observe()
    for table in (Table.VIPS, Table.REVERSE, Table.FRONTENDS, Table.SLOTS, Table.NEXTHOPS, Table.INTERFACES):
        bench.apply(*(Delete(table, key) for key in getattr(state, table)))
    bench.apply(Put(Table.FILTER, None, AddressFilter()), Put(Table.SETTINGS, None, SETTINGS))
    set_state(bench, BackendId(10), BackendState.FREE)

    after = bench.datapath.observe()

    assert after.backends == {BackendId(10): replace(FREE, generation=1)}
    assert not any((after.vips, after.reverse, after.frontends, after.slots, after.nexthops, after.interfaces))
    assert after.filter == AddressFilter()


@pytest.mark.parametrize(
    ("operation", "place"),
    [
        (Put(Table.BACKENDS, BackendId(128), FREE), "backends 128"),
        (Put(Table.FRONTENDS, FrontendId(64), FRONTEND), "frontends 64"),
        (Put(Table.SLOTS, ServiceId(16), ()), "slots 16"),
        (Put(Table.BACKENDS, BackendId(0), FREE), "backends"),
        (Put(Table.BACKENDS, None, FREE), "backends"),
        (Put(Table.SETTINGS, None, FREE), "settings"),
        (Delete(Table.NEXTHOPS, NexthopId(128)), "nexthops 128"),
        (Delete(Table.BACKENDS, BackendId(1)), "backends 1"),
        (Put(Table.REVERSE, FRONTEND.endpoint, (FrontendId(1),) * 9), "reverse 203.0.113.10:80/TCP"),
        (Put(Table.SETTINGS, None, Settings(half_open_seconds=1e12)), "settings"),
    ],
    ids=str,
)
def test_a_refused_row_is_named_and_changes_nothing(bench: Bench, operation: Operation, place: str) -> None:
    before = bench.datapath.observe()

    with pytest.raises(DatapathError, match=place) as caught:
        bench.apply(operation)

    assert len(str(caught.value)) > len(place) + 10
    assert bench.datapath.observe() == before


@HOOKS
@FAMILIES
@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_programs_and_agent_hash_an_address_alike(bench: Bench, hook: Hook, family: int, data: st.DataObject) -> None:
    address: IPAddress = data.draw(st.ip_addresses(v=family))
    setup_node(bench)
    for bits, reason in ((frozenset({address_hash(address)}), "other_port"), (frozenset(), "not_ours")):
        bench.apply(Put(Table.FILTER, None, AddressFilter(vips=bits)))
        assert bench.send(hook, request(family, vip=str(address))).reason == reason


def connect(bench: Bench, family: int, mode: ForwardingMode, port: int, *, established: bool = False) -> None:
    """Open a connection."""
    opened = bench.send(Hook.XDP, request(family, port=port))
    if established:
        to = None if mode is ForwardingMode.FULL_NAT else CLIENT[family]
        backend = BACKENDS[family].index(opened.destination)
        bench.send(Hook.XDP, reply(family, to_port=opened.source_port, to=to, backend=backend), "b0")
        bench.send(Hook.XDP, request(family, flags="A", port=port))


@FAMILIES
@TRANSLATING
def test_the_sweep_counts_live_flows(bench: Bench, family: int, mode: ForwardingMode) -> None:
    ids = setup_service(bench, family=family, mode=mode, backends=2)
    for port in range(40000, 40012):
        connect(bench, family, mode, port, established=port < 40004)
    bench.send(Hook.XDP, request(family, flags="R", port=40000))

    census = bench.datapath.sweep()

    assert sum(census.flows.values()) == 11
    assert set(census.flows) == set(ids)
    assert census == replace(census, frontend_flows={FrontendId(1): 11}, half_open=8, removed=0)
    table = "nat" if mode is ForwardingMode.FULL_NAT else "flows"
    assert bench.datapath.counters().map_entries[f"{table}{family}"] == 12


@FAMILIES
@pytest.mark.parametrize(
    ("established", "timeout"), [(True, IDLE_SECONDS), (False, SETTINGS.half_open_seconds)], ids=["idle", "half-open"]
)
def test_the_sweep_removes_only_what_expired_long_ago(
    bench: Bench, family: int, established: bool, timeout: float
) -> None:
    mode = ForwardingMode.FULL_NAT
    setup_service(bench, family=family, mode=mode)
    connect(bench, family, mode, 40000, established=established)
    assert bench.datapath.sweep().frontend_flows == {FrontendId(1): 1}

    for age, removed in ((timeout - 1, 0), (timeout + 1, 0), (2 * timeout - 1, 0), (2 * timeout + 1, 1)):
        bench.age_flows(family, age)
        census = bench.datapath.sweep()
        assert census.removed == removed
        assert census.frontend_flows == ({FrontendId(1): 1} if age < timeout else {})
    assert len(bench.rows("nat", family)[0]) == 0
    assert bench.datapath.sweep() == Census()


@FAMILIES
@TRANSLATING
def test_a_deleted_frontend_leaves_no_flows_behind(bench: Bench, family: int, mode: ForwardingMode) -> None:
    setup_service(bench, family=family, mode=mode)
    connect(bench, family, mode, 40000)
    vip = bench.datapath.observe().frontends[FrontendId(1)].endpoint

    bench.apply(Delete(Table.VIPS, vip), Delete(Table.FRONTENDS, FrontendId(1)))

    assert [len(bench.rows(name, family)[0]) for name in ("flows", "nat")] == [0, 0]
    assert bench.send(Hook.XDP, request(family)).reason == "other_port"


def test_a_new_backend_under_an_old_id_starts_counting_from_zero(bench: Bench) -> None:
    (backend,) = setup_service(bench, family=4)
    connect(bench, 4, ForwardingMode.FULL_NAT, 40000)
    assert bench.datapath.counters().backends[backend].opened == 1
    row = bench.datapath.observe().backends[backend]
    set_state(bench, backend, BackendState.FREE)

    bench.apply(Put(Table.BACKENDS, backend, replace(row, generation=2)))

    assert bench.datapath.counters().backends[backend].opened == 0
    assert bench.load(backend) == (0, 0)
