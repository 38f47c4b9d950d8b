"""The made-up packet behind ``why SRC:PORT VIP:PORT``: what it tells, and that it leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from itertools import product

import pytest

from bench import BACKENDS, CLIENT, SOURCE, VIP, VIP_PORT, Bench, Hook, ip
from frames import reply, request
from marks import FAMILIES, MODES
from services import setup_service
from sluicegate_agent.attach import Attached, Mode
from sluicegate_agent.control.questions import PacketQuestion
from sluicegate_agent.datapath.flowquery import FlowState
from sluicegate_agent.datapath.model import (
    BackendState,
    Endpoint,
    ForwardingMode,
    FrontendId,
    InterfaceFlag,
    InterfaceIndex,
    Protocol,
    Put,
    Settings,
    Table,
)
from sluicegate_agent.inspection.evidence import Evidence, gather
from sluicegate_agent.inspection.frames import Kind, frame_of
from sluicegate_agent.network.model import NoPath, Path

pytestmark = pytest.mark.kernel

CASES = list(product(Mode, (4, 6), Protocol, ForwardingMode))
PORT = 40000


def question(family: int, protocol: Protocol = Protocol.TCP, *, port: int = VIP_PORT) -> PacketQuestion:
    return PacketQuestion(ip_address(CLIENT[family]), PORT, Endpoint(ip_address(VIP[family]), protocol, port))


def ask(bench: Bench, asked: PacketQuestion, mode: Mode = Mode.XDP) -> Evidence:
    index = InterfaceIndex(bench.ifindex["c0"])
    attached = {index: Attached(index, "c0", mode, "", "")}
    return gather(asked, attached, bench.manifest, bench.datapath.observe())


def reason(evidence: Evidence) -> str:
    assert evidence.trial is not None, evidence.obstacle
    (found,) = evidence.trial.last.reasons
    return found.name.lower()


def entries(bench: Bench, family: int) -> dict[str, int]:
    return {name: len(bench.rows(name, family)[0]) for name in ("flows", "nat", "affinity")}


@pytest.mark.parametrize(("hook", "family", "protocol", "mode"), CASES)
def test_the_packet_of_a_new_flow_is_forwarded_and_leaves_no_flow(
    bench: Bench, hook: Mode, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=mode)
    evidence = ask(bench, question(family, protocol), hook)
    assert reason(evidence) == "forwarded_request"
    assert evidence.trial is not None
    assert evidence.trial.opened
    assert evidence.trial.packet is (Kind.SYN if protocol is Protocol.TCP else Kind.DATAGRAM)
    assert evidence.trial.sent is not None
    direct = mode is ForwardingMode.DIRECT_RETURN
    assert str(evidence.trial.sent.destination) == (VIP[family] if direct else BACKENDS[family][0])
    assert str(evidence.trial.sent.source) == (SOURCE[family] if mode is ForwardingMode.FULL_NAT else CLIENT[family])
    assert entries(bench, family) == {"flows": 0, "nat": 0, "affinity": 0}
    assert isinstance(evidence.path, Path)
    assert evidence.ingress == bench.ifindex["c0"]


@MODES
def test_what_a_syn_opened_is_counted_as_closed_and_not_as_half_open(bench: Bench, mode: ForwardingMode) -> None:
    (backend,) = setup_service(bench, family=4, mode=mode)
    ask(bench, question(4))
    assert bench.load(backend) == (1, 1)
    target = ask(bench, question(4)).target
    assert target is not None
    assert target.admission.half_open == 0


@pytest.mark.parametrize(("hook", "family", "protocol", "mode"), CASES)
def test_a_flow_that_is_there_is_found_used_and_kept(
    bench: Bench, hook: Mode, family: int, protocol: Protocol, mode: ForwardingMode
) -> None:
    setup_service(bench, family=family, protocol=protocol, mode=mode)
    sent = bench.send(Hook.XDP, request(family, protocol, "S", port=PORT))
    if mode is not ForwardingMode.DIRECT_RETURN:
        full_nat = mode is ForwardingMode.FULL_NAT
        to_port = sent.source_port if full_nat else PORT
        to = SOURCE[family] if full_nat else CLIENT[family]
        bench.send(Hook.XDP, reply(family, protocol, "SA", to_port=to_port, to=to), "b0")
    bench.send(Hook.XDP, request(family, protocol, "A", port=PORT))
    before = entries(bench, family)
    evidence = ask(bench, question(family, protocol), hook)
    assert reason(evidence) == "forwarded_request"
    assert evidence.trial is not None
    assert not evidence.trial.opened
    assert evidence.trial.packet is (Kind.ACK if protocol is Protocol.TCP else Kind.DATAGRAM)
    assert evidence.target is not None
    assert evidence.target.flow is not None
    assert evidence.target.flow.state is FlowState.ESTABLISHED
    assert entries(bench, family) == before


def test_a_half_open_flow_stays_half_open(bench: Bench) -> None:
    setup_service(bench, family=4)
    sent = bench.send(Hook.XDP, request(4, port=PORT))
    bench.send(Hook.XDP, reply(4, to_port=sent.source_port), "b0")
    evidence = ask(bench, question(4))
    assert evidence.trial is not None
    assert evidence.trial.packet is Kind.SYN
    (row,) = bench.rows("nat", 4)[1]
    assert not int(row["state"]) & 1


def test_a_packet_that_xdp_leaves_to_tc_goes_through_both(bench: Bench) -> None:
    setup_service(bench, family=4, nexthop=lambda row: replace(row, xdp=False))
    evidence = ask(bench, question(4))
    assert evidence.trial is not None
    assert [step.reasons[0].name.lower() for step in evidence.trial.steps] == ["no_redirect", "forwarded_request"]
    assert entries(bench, 4) == {"flows": 0, "nat": 0, "affinity": 0}


@pytest.mark.parametrize("hook", Mode)
def test_what_the_program_refuses_is_told_with_its_reason(bench: Bench, hook: Mode) -> None:
    (backend,) = setup_service(bench, family=4)
    assert reason(ask(bench, question(4, port=81), hook)) == "other_port"
    rows = bench.datapath.observe()
    restricted = replace(rows.frontends[FrontendId(1)], restricted=True)
    bench.apply(Put(Table.SOURCES, restricted.service, frozenset()), Put(Table.FRONTENDS, FrontendId(1), restricted))
    denied = ask(bench, question(4), hook)
    assert reason(denied) == "source_denied"
    assert denied.target is not None
    assert denied.target.sources == frozenset()
    bench.apply(Put(Table.FRONTENDS, FrontendId(1), replace(restricted, restricted=False)))
    bench.apply(Put(Table.BACKENDS, backend, replace(rows.backends[backend], state=BackendState.DOWN)))
    assert reason(ask(bench, question(4), hook)) == "no_backend"


def test_a_rate_that_is_used_up_is_seen_before_the_packet(bench: Bench) -> None:
    setup_service(bench, family=4)
    row = replace(bench.datapath.observe().frontends[FrontendId(1)], rate=1)
    bench.apply(Put(Table.FRONTENDS, FrontendId(1), row))
    first, second = (ask(bench, question(4)) for _ in range(2))
    assert first.target is not None
    assert second.target is not None
    assert (first.target.admission.rate_is_used_up, reason(first)) == (False, "forwarded_request")
    assert (second.target.admission.rate_is_used_up, reason(second)) == (True, "rate_limited")


def test_half_open_flows_are_counted_as_the_program_counts_them(bench: Bench) -> None:
    setup_service(bench, family=4, settings=Settings(hop_generation=1, half_open_limit=3))
    for port in range(50000, 50003):
        bench.send(Hook.XDP, request(4, port=port))
    evidence = ask(bench, question(4))
    assert evidence.target is not None
    assert evidence.target.admission.half_open == 3
    assert reason(evidence) == "flood"


def test_an_affinity_that_was_there_stays_and_one_that_was_made_goes(bench: Bench) -> None:
    setup_service(bench, family=6)
    row = replace(bench.datapath.observe().frontends[FrontendId(1)], affinity_seconds=60)
    bench.apply(Put(Table.FRONTENDS, FrontendId(1), row))
    ask(bench, question(6))
    assert entries(bench, 6)["affinity"] == 0
    bench.send(Hook.XDP, request(6, port=50000))
    ask(bench, question(6))
    assert entries(bench, 6)["affinity"] == 1


def test_without_a_program_on_the_interface_there_is_no_trial(bench: Bench) -> None:
    setup_service(bench, family=4)
    evidence = gather(question(4), {}, bench.manifest, bench.datapath.observe())
    assert evidence.trial is None
    assert "no program" in evidence.obstacle


def test_an_interface_without_ethernet_gets_no_made_up_frame(bench: Bench) -> None:
    setup_service(bench, family=4)
    index = InterfaceIndex(bench.ifindex["c0"])
    state = bench.datapath.observe()
    state.interfaces[index] = replace(state.interfaces[index], flags=InterfaceFlag.L3, mac=b"")
    evidence = gather(question(4), {index: Attached(index, "c0", Mode.TC, "", "")}, bench.manifest, state)
    assert evidence.trial is None
    assert "Ethernet" in evidence.obstacle


@pytest.mark.parametrize(("family", "protocol"), list(product((4, 6), Protocol)))
def test_the_made_up_frame_is_one_that_a_client_sends(family: int, protocol: Protocol) -> None:
    from scapy.layers.l2 import Ether  # noqa: PLC0415  # it takes a second

    kind = Kind.SYN if protocol is Protocol.TCP else Kind.DATAGRAM
    frame = frame_of(question(family, protocol), kind, bytes(6))
    parsed = Ether(frame)
    again = parsed.copy()
    for layer in (again.payload, again.payload.payload):
        for name in ("chksum", "len", "plen", "dataofs"):
            if name in layer.fields:
                delattr(layer, name)
    assert bytes(again) == frame


@FAMILIES
@pytest.mark.parametrize("mode", [ForwardingMode.FULL_NAT, ForwardingMode.DNAT])
def test_a_client_on_the_node_is_met_where_its_packets_leave(bench: Bench, family: int, mode: ForwardingMode) -> None:
    setup_service(bench, family=family, mode=mode)
    node = {4: "10.1.0.1", 6: "fd01::1"}[family]
    ip(f"route add {VIP[family]} via {CLIENT[family]} dev c0")
    try:
        evidence = ask(bench, replace(question(family), client=ip_address(node)))
    finally:
        ip(f"route del {VIP[family]}")
    assert (evidence.from_here, evidence.ingress) == (True, bench.ifindex["c0"])
    assert evidence.trial is not None
    assert [step.hook for step in evidence.trial.steps] == ["tc_egress"]
    assert reason(evidence) == "forwarded_request"
    assert entries(bench, family) == {"flows": 0, "nat": 0, "affinity": 0}


def test_a_client_on_the_node_without_a_route_to_the_vip_is_told(bench: Bench) -> None:
    setup_service(bench, family=4)
    evidence = ask(bench, replace(question(4), client=ip_address("10.1.0.1")))
    assert (evidence.from_here, evidence.trial) == (True, None)
    assert isinstance(evidence.exit, NoPath)
