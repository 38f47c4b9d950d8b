"""The data path in memory shows what a test lets backends have done."""

from __future__ import annotations

from ipaddress import ip_address

from sluicegate_agent.datapath.memory import MemoryDatapath
from sluicegate_agent.datapath.model import (
    AddressFilter,
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    NexthopId,
    Protocol,
    Put,
    ServiceId,
    Table,
    address_hash,
)
from sluicegate_agent.signals.model import Histogram, Latencies, Load


def test_loads_and_latencies_of_backends_in_use() -> None:
    datapath = MemoryDatapath()
    one, two, free = BackendId(1), BackendId(2), BackendId(3)
    for identity in (one, two, free):
        state = BackendState.FREE if identity == free else BackendState.DRAINING
        endpoint = Endpoint(ip_address(f"10.0.0.{identity}"), Protocol.TCP, 80)
        bit = address_hash(endpoint.address)
        present = datapath.observe().filter
        datapath.apply(Put(Table.FILTER, None, present.union(AddressFilter(dnat_backends=frozenset({bit})))))
        row = Backend(ServiceId(1), None if identity == free else endpoint, None, NexthopId(0), state, 1, 0)
        datapath.apply(Put(Table.BACKENDS, identity, row))
    load, latencies = Load(opened=5, closed=2), Latencies(handshake=Histogram((1,)))
    datapath.measured = {one: (load, latencies), free: (load, latencies)}
    assert datapath.loads() == {one: load, two: Load()}
    assert datapath.loads([two, free]) == {two: Load()}
    assert datapath.latencies() == {one: latencies, two: Latencies()}
    counters = datapath.counters()
    assert (counters.loads, counters.latencies) == (datapath.loads(), datapath.latencies())
