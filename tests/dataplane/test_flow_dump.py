"""The dump of the kernel's own tables, against what its sweep counts."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address, ip_network
from itertools import product

import pytest

from bench import CLIENT, SOURCE, Bench, Hook
from frames import reply, request
from services import setup_service
from sluicegate_agent.datapath.flowdump import dump_flows
from sluicegate_agent.datapath.flowquery import FlowDump, FlowFilter, FlowState
from sluicegate_agent.datapath.flows import FlowRules
from sluicegate_agent.datapath.model import ForwardingMode, Protocol
from sluicegate_agent.kernel.clock import hertz, jiffies

pytestmark = pytest.mark.kernel

CASES = list(product((4, 6), Protocol, ForwardingMode))


def dump(bench: Bench, wanted: FlowFilter | None = None) -> FlowDump:
    state = bench.datapath.observe()
    rules = FlowRules.of(state.frontends, bench.tables["frontends"].capacity, state.settings, jiffies(), hertz())
    return dump_flows(bench.tables, state, rules, wanted or FlowFilter(limit=1000), hertz())


@pytest.mark.parametrize(("family", "protocol", "mode"), CASES)
def test_the_dump_and_the_census_count_the_same_flows(
    bench: Bench, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=mode, backends=3)
    for port in range(50000, 50040):
        bench.send(Hook.XDP, request(family, protocol, "S", port=port))
    for port in range(50000, 50005):
        bench.send(Hook.TC, request(family, protocol, "R", port=port))
    found, census = dump(bench), bench.datapath.sweep()
    assert Counter(row.backend_id for row in found.rows) == census.flows
    assert Counter(row.frontend for row in found.rows) == census.frontend_flows
    assert found.matched == (35 if protocol is Protocol.TCP else 40)
    assert found.states[FlowState.HALF_OPEN] == census.half_open


@pytest.mark.parametrize(("family", "mode"), list(product((4, 6), ForwardingMode)))
def test_a_row_is_what_the_packets_say(bench: Bench, family: int, mode: ForwardingMode) -> None:
    setup_service(bench, family=family, mode=mode)
    sent = bench.send(Hook.XDP, request(family, port=40001))
    (row,) = dump(bench).rows
    assert (str(row.client), row.client_port, row.state) == (CLIENT[family], 40001, FlowState.HALF_OPEN)
    if mode is ForwardingMode.FULL_NAT:
        assert (str(row.source), row.source_port) == (SOURCE[family], sent.source_port)
        bench.send(Hook.XDP, reply(family, to_port=sent.source_port), "b0")
        bench.send(Hook.XDP, request(family, flags="A", port=40001))
        (row,) = dump(bench).rows
        assert row.state is FlowState.ESTABLISHED
    else:
        assert row.source is None
    assert row.backend is not None
    if mode is not ForwardingMode.DIRECT_RETURN:
        assert str(row.backend.address) == sent.destination
    assert dump(bench, FlowFilter(limit=1, backend=(row.backend.address, row.backend.port))).matched == 1
    assert dump(bench, FlowFilter(limit=1, client=ip_network(ip_address(CLIENT[family])))).matched == 1
    assert dump(bench, FlowFilter(limit=1, client_port=40002)).matched == 0
