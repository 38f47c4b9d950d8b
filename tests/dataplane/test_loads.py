"""KernelDatapath reads loads, latencies and run times of the real programs, however many backends there are."""

from __future__ import annotations

import pytest

from bench import BACKENDS, Bench, Hook
from frames import reply, request
from services import SETTINGS, set_state, setup_service
from sluicegate_agent.datapath import loads as loads_module
from sluicegate_agent.datapath.model import BackendId, BackendState, Put, Table
from sluicegate_agent.kernel.statistics import measure_run_time
from sluicegate_agent.signals.model import Histogram, Latencies, Load

pytestmark = pytest.mark.kernel


def converse(bench: Bench, port: int) -> None:
    """A connection with one request and its answer."""
    outcome = bench.send(Hook.XDP, request(4, flags="S", port=port))
    source, backend = outcome.source_port, BACKENDS[4].index(outcome.destination)
    bench.send(Hook.XDP, reply(4, flags="SA", to_port=source, backend=backend), "b0")
    bench.send(Hook.XDP, request(4, flags="PA", port=port, payload=b"GET"))
    answer = reply(4, flags="PA", to_port=source, backend=backend, payload=b"200")
    assert bench.send(Hook.XDP, answer, "b0").reason == "forwarded_reply"


@pytest.mark.parametrize("batched", [False, True])
def test_what_the_programs_counted_is_what_is_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, batched: bool
) -> None:
    monkeypatch.setattr(loads_module, "_SINGLE_READS", 0 if batched else 1000)
    first, second = setup_service(bench, family=4, backends=2)
    flows = 24
    for port in range(40000, 40000 + flows):
        converse(bench, port)
    bench.tables["backend_fix"].put(second, (-3).to_bytes(8, "little", signed=True))
    found = bench.datapath.loads()
    assert found.keys() == {first, second}
    assert sum(each.opened for each in found.values()) == flows
    for load in found.values():
        assert load.requests == load.responses == load.opened > 0
    assert (found[first].fix, found[second].fix) == (0, -3)
    latencies = bench.datapath.latencies()
    assert sum(each.handshake.total for each in latencies.values()) > 0
    assert {len(each.first_response.counts) for each in latencies.values()} == {24}
    counters = bench.datapath.counters()
    assert (counters.loads, counters.latencies) == (found, latencies)


def test_only_the_wanted_backends_in_use_are_read(bench: Bench) -> None:
    first, second = setup_service(bench, family=4, backends=2)
    assert bench.datapath.loads([second, BackendId(99)]).keys() == {second}
    bench.apply(Put(Table.SETTINGS, None, SETTINGS))
    set_state(bench, first, BackendState.FREE)
    assert bench.datapath.loads().keys() == {second}
    assert bench.datapath.loads([first]) == {}


def test_an_id_that_goes_to_another_backend_counts_from_nothing(bench: Bench) -> None:
    (backend,) = setup_service(bench, family=4, backends=1)
    row = bench.datapath.observe().backends[backend]
    for port in range(40000, 40024):
        converse(bench, port)
    assert bench.datapath.latencies()[backend].handshake.total > 0
    set_state(bench, backend, BackendState.FREE)
    bench.apply(Put(Table.BACKENDS, backend, row))
    assert bench.datapath.loads()[backend] == Load()
    nothing = Histogram((0,) * 24)
    assert bench.datapath.latencies()[backend] == Latencies(nothing, nothing)


def test_run_times_are_measured_while_somebody_wants_them(bench: Bench) -> None:
    setup_service(bench, family=4, backends=1)
    before = bench.datapath.counters().runs["xdp_main"]
    with measure_run_time():
        for port in range(40000, 40010):
            converse(bench, port)
    after = bench.datapath.counters().runs
    assert after["xdp_main"].runs >= before.runs + 10
    assert after["xdp_main"].seconds > before.seconds
    assert "tc_ingress" in after
