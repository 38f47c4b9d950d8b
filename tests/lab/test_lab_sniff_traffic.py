"""Traffic that is looked into arrives as it was sent, and is told as its clients sent it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients import datagram_socket, exchange, pattern
from sluicegate_agent.lab.agent import service_port
from sluicegate_agent.lab.events import SniffEvent
from sluicegate_agent.lab.processes import VisitorsProcess
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from sluicegate_agent.lab.server import DNS_PORT, HTTP_PORT, TLS_PORT, UDP_PORT
from sluicegate_agent.lab.visitors import KINDS
from sluicegate_agent.lab.wire import target
from sniffed import DROP, RULE, SITES, SNIFFER, Sniffed, ask, serve_names_and_tls
from stage import MODES, Build, Mode, each_mode
from test_lab_neighbours_on_the_hook import foreign_xdp

pytestmark = pytest.mark.lab

MEGABYTE = 1024 * 1024
REQUESTS = 20


@each_mode("FullNAT", of=MODES)
def test_sniffing_changes_no_byte_of_a_transfer(build: Build, mode: Mode) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=2)))
    stage = sniffed.stage
    sniffed.start("client", "b1", "b2", mode=mode, rules=RULE, changes=DROP)
    transfers = [
        stage.transfer(direction, vip, 32 * MEGABYTE, 1e9, mode=mode)
        for vip in (VIP4, VIP6)
        for direction in ("download", "upload")
    ]
    assert [transfer.communicate(timeout=100)[0] for transfer in transfers] == ["started\nok\n"] * len(transfers)
    flows = sniffed.wait_for_flows(len(transfers), service_port("TCP", mode))
    assert [flow.label for flow in flows] == ["HTTP"] * len(transfers)
    for flow in flows:
        assert sum(flow.packets) > 1000
        assert flow.records <= 24, "the budget of a flow"
        assert flow.state == "stop"


def test_a_transfer_over_another_sniffers_budget_is_sent_up_whole_and_unchanged(build: Build) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    whole = {"budget": {"payloadPackets": 4096, "payloadBytes": 16_777_216, "maxPackets": 65535, "adaptive": False}}
    sniffed.start("client", rules=RULE, changes=whole)
    transfer = sniffed.stage.transfer("download", VIP4, 2 * MEGABYTE, 1e9)
    assert transfer.communicate(timeout=100)[0] == "started\nok\n"
    (flow,) = sniffed.wait_for_flows(1, 80)
    assert flow.records > 1000
    assert flow.label == "HTTP"


@each_mode("FullNAT", "DirectReturn", of=MODES)
def test_a_balanced_connection_is_one_flow_with_the_vip_in_both_directions(build: Build, mode: Mode) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=2)))
    stage = sniffed.stage
    sniffed.start("client", mode=mode)
    for vip in (VIP4, VIP6):
        answers = stage.ask("tcp", vip, REQUESTS, mode=mode)
        assert {answer.split(" ")[0] for answer in answers} == {"backend-1", "backend-2"}
    port = service_port("TCP", mode)
    flows = sniffed.wait_for_flows(2 * REQUESTS, port)
    for vip in (VIP4, VIP6):
        of_vip = [flow for flow in flows if flow.server[0] == str(vip)]
        assert len(of_vip) == REQUESTS
        assert len({flow.client for flow in of_vip}) == REQUESTS
        assert {flow.client[0] for flow in of_vip} == {str(stage.client_address(vip))}
        assert all(min(flow.packets) >= 4 for flow in of_vip), of_vip
        assert {(flow.interface, flow.label, flow.sniffer) for flow in of_vip} == {("client", "HTTP", SNIFFER)}
    named = {(one.server[0], one.name) for one in sniffed.seen if one.kind == "http"}
    assert named == {(str(VIP4), "lab"), (str(VIP6), "lab")}
    state = sniffed.state()
    assert (state.lost, state.fragments) == (0, 0)
    assert state.flows >= 2 * REQUESTS


def test_the_backends_side_of_a_connection_has_the_backends_address(build: Build) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    stage = sniffed.stage
    sniffed.start("b1")
    host = stage.rig.backends[0]
    for vip in (VIP4, VIP6):
        assert {answer.split(" ")[0] for answer in stage.ask("tcp", vip, 3)} == {"backend-1"}
    wanted = {str(host.address4), str(host.address6)}

    def requests(events: list[SniffEvent]) -> list[SniffEvent]:
        return [one for one in events if one.kind == "http" and one.name == "lab"]

    events = requests(sniffed.wait_for("six requests were told", lambda events: len(requests(events)) >= 6))
    assert {one.server for one in events} == {(address, HTTP_PORT) for address in wanted}
    assert {one.interface for one in events} == {"b1"}


@pytest.mark.parametrize("hook", ["xdp", "tc"])
def test_a_sniffer_needs_no_balancer(build: Build, tmp_path: Path, hook: str) -> None:
    """What the node forwards, both ways: HTTP, TLS and DNS, over both families, on interfaces of either kind."""
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    stage = sniffed.stage
    certificate = serve_names_and_tls(stage, tmp_path)
    if hook == "tc":
        with foreign_xdp(stage):
            _routed(sniffed, certificate, hook)
    else:
        _routed(sniffed, certificate, hook)


def _routed(sniffed: Sniffed, certificate: Path, hook: str) -> None:
    stage = sniffed.stage
    (host,) = stage.rig.backends
    sniffed.start("client", balance=False)
    ports = {"http": HTTP_PORT, "tls": TLS_PORT, "dns": DNS_PORT}
    places = {kind: [target(one, port) for one in (host.address4, host.address6)] for kind, port in ports.items()}
    visitors = VisitorsProcess(stage.rig.client, places, SITES, certificate, rate=60)

    def told(events: list[SniffEvent]) -> set[tuple[str, str, str]]:
        return {(one.kind, one.server[0], one.name) for one in events if one.kind in KINDS}

    wanted = {(kind, str(one), site) for kind in KINDS for one in (host.address4, host.address6) for site in SITES}
    sniffed.wait_for("every site was told over every protocol", lambda events: told(events) >= wanted)
    visits = visitors.finish()
    assert not visits.wrong
    assert told(sniffed.seen) == wanted
    flows = sniffed.wait_for_flows(visits.right["tls"], TLS_PORT)
    assert {flow.label for flow in flows} == {"TLS", "TLS.Wikipedia"}
    assert all(min(flow.packets) >= 4 for flow in flows), "both directions are one flow"
    assert {flow.state for flow in flows} == {"stop"}
    assert {one.name: one.mode for one in sniffed.state().interfaces if one.sniffed} == {"client": hook}


def test_a_sniffer_sees_what_the_node_itself_sends(build: Build) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    stage = sniffed.stage
    sniffed.start("b1", balance=False)
    (host,) = stage.rig.backends
    for address in (host.address4, host.address6):
        answers = ask(stage.rig.balancer, address, HTTP_PORT, count=3)
        assert all(answer.startswith("backend-1 ") for answer in answers)
    flows = sniffed.wait_for_flows(6, HTTP_PORT, interface="b1")
    assert {flow.server[0] for flow in flows} == {str(host.address4), str(host.address6)}
    assert {flow.client[0] for flow in flows} == {"10.77.1.1", "fd77:1::1"}
    assert all(min(flow.packets) >= 4 and flow.label == "HTTP" for flow in flows)


def test_fragments_are_counted_and_arrive(build: Build) -> None:
    sniffed = Sniffed.on(build(RigOptions(backends=1)))
    stage = sniffed.stage
    sniffed.start("client", balance=False)
    (host,) = stage.rig.backends
    for address in (host.address4, host.address6):
        with datagram_socket(stage.rig.client, address, UDP_PORT) as opened:
            assert exchange(opened, pattern(4000)) == pattern(4000)
    state = sniffed.wait_for_state("fragments were counted", lambda edge: edge.fragments >= 8)
    assert state.dropped == 0
