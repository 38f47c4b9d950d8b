"""The chain of checks for one packet, and whether the program's own word agrees with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from surface_moments import ETH0, ETH1, configured, document, moment, network

from sluicegate_agent.control.questions import PacketQuestion
from sluicegate_agent.datapath.flowquery import FlowRow, FlowState
from sluicegate_agent.datapath.model import (
    BackendState,
    Endpoint,
    ForwardingMode,
    InterfaceIndex,
    IPAddress,
    NexthopId,
    Protocol,
)
from sluicegate_agent.datapath.protocol import Census, Counters, Traffic, Verdict
from sluicegate_agent.inspection.evidence import Admission, Evidence, Target
from sluicegate_agent.inspection.frames import Kind, Tuple
from sluicegate_agent.inspection.trial import Step, Trial
from sluicegate_agent.loader.sources import Reason
from sluicegate_agent.network.model import NoPath, Path
from sluicegate_agent.reports.checks import Check
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.why_packet import why_packet

CLIENT = ip_address("198.51.100.7")
FORWARDED = Reason("FORWARDED_REQUEST", "forward", "sent to a backend")
SENT = Tuple(ip_address("10.0.0.254"), 2000, ip_address("10.0.0.1"), 8080)


def question(vip: str = "203.0.113.10", port: int = 80, protocol: Protocol = Protocol.TCP) -> PacketQuestion:
    client = CLIENT if ip_address(vip).version == 4 else ip_address("2001:db8:1::7")
    return PacketQuestion(client, 40000, Endpoint(ip_address(vip), protocol, port))


def way(client: IPAddress = CLIENT) -> Path:
    return Path(ETH0, ip_address("192.0.2.254"), ip_address("192.0.2.1"), 1500, None, onlink=False, host_route=False)


def trial(name: str = "forwarded_request", kind: str = "forward", text: str = "sent to a backend") -> Trial:
    forwarded = kind == "forward"
    step = Step("xdp", (Reason(name.upper(), kind, text),))
    return Trial(Kind.SYN, (step,), SENT if forwarded else None, opened=forwarded)


def evidence(situation: Situation, asked: PacketQuestion | None = None, **changes: object) -> Evidence:
    """What the kernel would tell in this situation; ``changes`` are of the evidence or of its target."""
    state = situation.desired.state
    endpoint = (asked or question()).vip
    target = None
    if endpoint in state.vips:
        identity = state.vips[endpoint]
        row = state.frontends[identity]
        target = Target(
            id=identity,
            row=row,
            flow=None,
            sources=state.sources.get(row.service) if row.restricted else None,
            admission=Admission(),
            table=frozenset(state.slots[row.service]),
            backends={key: each for key, each in state.backends.items() if each.service == row.service},
            nexthops=dict(state.nexthops),
        )
        own = {name: changes.pop(name) for name in list(changes) if name in Target.__dataclass_fields__}
        target = replace(target, **own)  # type: ignore[arg-type]
    found = Evidence(way(), ETH0, state.settings, target, trial())
    return replace(found, **changes)  # type: ignore[arg-type]


def flow(situation: Situation, **changes: object) -> FlowRow:
    (identity, (_, endpoint)) = next(iter(situation.desired.names.frontends.items()))
    key, row = next(iter(situation.desired.state.backends.items()))
    found = FlowRow(
        client=CLIENT,
        client_port=40000,
        frontend=identity,
        vip=endpoint,
        mode=ForwardingMode.FULL_NAT,
        backend_id=key,
        backend=row.endpoint,
        source=ip_address("10.0.0.254"),
        source_port=2000,
        state=FlowState.ESTABLISHED,
        idle_seconds=3.0,
        expires_in_seconds=297.0,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def by_id(checks: tuple[Check, ...]) -> dict[str, Check]:
    assert len({check.id for check in checks}) == len(checks)
    assert all(check.next for check in checks if not check.ok)
    return {str(check.id): check for check in checks}


def asked(situation: Situation, found: Evidence, about: PacketQuestion | None = None) -> dict[str, Check]:
    return by_id(why_packet(situation, about or question(), found))


def failing(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if not check.ok]


@pytest.fixture
def working() -> Situation:
    return moment(configured(document()))


def test_all_checks_pass_in_the_order_of_the_packets_way(working: Situation) -> None:
    checks = asked(working, evidence(working))
    assert list(checks) == [
        "agent",
        "interfaces",
        "vip",
        "sources",
        "limits",
        "flow",
        "table",
        "health",
        "routes",
        "neighbours",
        "mtu",
        "capacity",
        "forwarding",
        "return",
        "drops",
        "packet",
        "agreement",
    ]
    assert not failing(checks)
    assert "eth0" in checks["interfaces"].message
    assert "shop/web" in checks["vip"].message
    packet = checks["packet"].message
    for words in ("TCP SYN of 198.51.100.7:40000", "on eth0", "forwarded_request", "10.0.0.1:8080", "removed again"):
        assert words in packet


def test_an_interface_without_a_program_is_named(working: Situation) -> None:
    attached = {key: value for key, value in working.attached.items() if key != ETH0}
    bare = replace(working, attached=attached)
    checks = asked(bare, evidence(working, trial=None, obstacle="no program of ours runs there"))
    assert failing(checks) == ["interfaces", "packet"]
    assert "eth0" in checks["interfaces"].message
    assert "spec.interfaces" in checks["interfaces"].next


def from_the_node(situation: Situation, exit_: Path | NoPath | None = None, **changes: object) -> Evidence:
    here = replace(way(), local=True, gateway=CLIENT)
    return evidence(situation, path=here, from_here=True, exit=exit_ or way(), **changes)


def test_a_client_on_the_node_is_met_where_its_packets_leave(working: Situation) -> None:
    checks = asked(working, from_the_node(working))
    assert failing(checks) == []
    assert "is this node: its packets to the VIP leave by eth0" in checks["interfaces"].message
    assert "this node's own stack" in checks["return"].message


@pytest.mark.parametrize(
    ("exit_", "words"),
    [
        (NoPath("no route to 203.0.113.10"), "never leave: no route to 203.0.113.10"),
        (replace(way(), local=True), "takes 203.0.113.10 for its own address"),
        (replace(way(), ifindex=InterfaceIndex(77)), "leave by 77, which has no program of ours"),
    ],
)
def test_what_keeps_packets_of_a_client_on_the_node_away_is_told(
    working: Situation, exit_: Path | NoPath, words: str
) -> None:
    checks = asked(working, from_the_node(working, exit_, trial=None, obstacle="no program of ours runs there"))
    assert failing(checks)[0] == "interfaces"
    assert words in checks["interfaces"].message
    assert checks["interfaces"].next


def test_a_client_on_the_node_does_not_get_a_backend_on_the_node(working: Situation) -> None:
    found = from_the_node(working)
    assert found.target is not None
    local = {key: replace(row, local=True) for key, row in found.target.backends.items()}
    there = replace(found, target=replace(found.target, backends=local), trial=trial("local_loop", "drop"))
    checks = asked(working, there)
    assert failing(checks) == ["table", "packet"]
    assert "on this node" in checks["table"].message


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (question("203.0.113.99"), "203.0.113.99 is no VIP here; VIPs: 203.0.113.10"),
        (question(port=81), "nothing balances TCP port 81 of 203.0.113.10; balanced there: TCP/80"),
        (question(protocol=Protocol.UDP), "nothing balances UDP port 80"),
    ],
)
def test_what_is_not_balanced_says_what_is(working: Situation, about: PacketQuestion, words: str) -> None:
    found = evidence(working, about, trial=trial("other_port", "pass", "on a port that nothing balances"))
    checks = asked(working, found, about)
    assert failing(checks) == ["vip", "packet"]
    assert words in checks["vip"].message
    assert "vip" in checks["packet"].next


def test_a_vip_that_is_not_in_the_kernel_leads_to_its_load_balancer(working: Situation) -> None:
    unbound = replace(working, applied=replace(working.applied, bound=frozenset()))
    found = replace(evidence(working), target=None, trial=trial("not_ours", "pass", "not ours"))
    checks = asked(unbound, found)
    assert "not in the kernel yet" in checks["vip"].message
    assert checks["vip"].next == "sluicegate why lb/shop/web"


def test_a_client_that_is_not_allowed_is_stopped_unless_its_flow_is_older() -> None:
    situation = moment(configured(document(allowedSources=["10.1.0.0/16"])))
    denied = trial("source_denied", "drop", "the client is not among the allowed sources")
    checks = asked(situation, evidence(situation, trial=denied))
    assert failing(checks) == ["sources", "packet"]
    assert "1 networks" in checks["sources"].message
    assert not failing(asked(situation, evidence(situation, flow=flow(situation))))
    allowed = evidence(situation, sources=frozenset({ip_network("198.51.100.0/24")}))
    assert "198.51.100.0/24" in asked(situation, allowed)["sources"].message


def test_a_used_up_rate_agrees_with_whatever_happens_then() -> None:
    situation = moment(configured(document(maxNewConnectionsPerSecond=5)))
    for outcome in (trial(), trial("rate_limited", "drop", "more new flows per second than allowed")):
        found = evidence(situation, admission=Admission(rate_is_used_up=True), trial=outcome)
        checks = asked(situation, found)
        assert "5 new flows per second are used up" in checks["limits"].message
        assert "agreement" not in failing(checks)


def test_a_flood_stops_full_nat_and_only_it(working: Situation) -> None:
    dnat = moment(configured(document(forwarding={"mode": "DNAT"})))
    full = Admission(half_open=working.desired.state.settings.half_open_limit)
    dropped = trial("flood", "drop", "too many half-open connections")
    assert failing(asked(working, evidence(working, admission=full, trial=dropped))) == ["limits", "packet"]
    checks = asked(dnat, evidence(dnat, admission=full))
    assert not failing(checks)
    assert "without an entry" in checks["limits"].message


def test_a_known_flow_tells_where_it_is_and_how_long_it_lives(working: Situation) -> None:
    checks = asked(working, evidence(working, flow=flow(working)))
    assert not failing(checks)
    assert "table" not in checks
    message = checks["flow"].message
    assert message == (
        "established, at 10.0.0.1:8080, where it comes from 10.0.0.254:2000; idle for 3 s, forgotten in 297 s"
    )


def test_a_connection_whose_backend_is_gone_is_lost_for_good(working: Situation) -> None:
    state = working.desired.state
    key = next(iter(state.backends))
    free = replace(state.backends[key], state=BackendState.FREE, endpoint=None, nexthop=NexthopId(0))
    backends = {**state.backends, key: free}
    gone = trial("backend_gone", "drop", "the flow's backend was removed and has drained")
    checks = asked(working, evidence(working, flow=flow(working), backends=backends, trial=gone))
    assert failing(checks) == ["flow", "packet"]
    assert "time to drain is over" in checks["flow"].message


def test_an_empty_table_tells_what_is_wrong_with_every_backend() -> None:
    situation = moment(configured(document()), down={"10.0.0.1": "refused"})
    backends = {key: replace(row, state=BackendState.DOWN) for key, row in situation.desired.state.backends.items()}
    nobody = trial("no_backend", "drop", "no usable backend")
    checks = asked(situation, evidence(situation, backends=backends, table=frozenset(), trial=nobody))
    assert failing(checks) == ["table", "packet"]
    assert "10.0.0.1:8080 is down (refused)" in checks["table"].message


def test_candidates_are_counted_and_the_others_named() -> None:
    situation = moment(configured(document()), down={"10.0.0.2": "refused"})
    state = situation.desired.state
    backends = {
        key: replace(row, state=BackendState.DOWN) if str(row.endpoint).startswith("10.0.0.2") else row
        for key, row in state.backends.items()
    }
    message = asked(situation, evidence(situation, backends=backends))["table"].message
    assert message == "1 of 2 backends take new flows: 10.0.0.1:8080; 10.0.0.2:8080 is down (refused)"


def test_a_backend_that_is_used_although_its_checks_fail_is_told() -> None:
    situation = moment(configured(document()), down={"10.0.0.1": "refused", "10.0.0.2": "refused"})
    checks = asked(situation, evidence(situation))
    assert failing(checks) == ["health"]
    assert "10.0.0.1:8080 (refused)" in checks["health"].message


def test_a_backend_without_a_next_hop_is_not_reached() -> None:
    situation = moment(configured(document()))
    lost = trial("no_route", "drop", "no route to the next hop")
    found = evidence(situation, flow=flow(situation), nexthops={}, trial=lost)
    checks = asked(situation, found)
    assert failing(checks) == ["routes", "packet"]
    assert checks["routes"].next == "ip route get 10.0.0.1"


def change_hops(situation: Situation, **changes: object) -> Evidence:
    hops = {key: replace(hop, **changes) for key, hop in situation.desired.state.nexthops.items()}  # type: ignore[arg-type]
    return evidence(situation, nexthops=hops)


def test_an_unresolved_neighbour_fails_only_when_no_reply_ever_came(working: Situation) -> None:
    found = change_hops(working, destination_mac=None)
    assert not failing(asked(working, found))
    (frontend,) = working.desired.names.frontends
    silent = replace(working, counters=Counters(frontends={frontend: Traffic(5, 500, 0, 0, 1)}))
    assert failing(asked(silent, found)) == ["neighbours"]


def test_an_mtu_too_small_for_ipv6_is_named_with_the_remedy() -> None:
    spec = {"addresses": ["2001:db8::10"], "backends": {"static": [{"address": "fd00::1"}]}}
    situation = moment(configured(document(**spec)))
    about = question("2001:db8::10")
    hops = {key: replace(hop, mtu=1000) for key, hop in situation.desired.state.nexthops.items()}
    checks = asked(situation, evidence(situation, about, nexthops=hops), about)
    assert failing(checks) == ["mtu"]
    assert "ip link set eth1 mtu 1280" in checks["mtu"].next


@pytest.mark.parametrize(
    "fill",
    [
        lambda situation, _key: replace(
            situation, counters=Counters(map_entries={"nat4": 100}, map_capacity={"nat4": 100, "flows4": 100})
        ),
        lambda situation, key: replace(situation, census=Census(flows={key: 27_000})),
    ],
    ids=["table", "ports"],
)
def test_a_full_table_and_used_up_ports_are_told_before_they_refuse(
    working: Situation, fill: Callable[[Situation, int], Situation]
) -> None:
    key = next(iter(working.desired.state.backends))
    assert failing(asked(fill(working, key), evidence(working))) == ["capacity"]
    assert not failing(asked(fill(working, key), evidence(working, flow=flow(working))))


def test_the_way_back_needs_forwarding_and_a_route(working: Situation) -> None:
    off = replace(working, network=replace(working.network, forwarding={4: False, 6: True}))
    checks = asked(off, evidence(working, path=NoPath("no route to 198.51.100.7")))
    assert failing(checks) == ["forwarding", "return"]
    assert checks["forwarding"].next == "sysctl -w net.ipv4.ip_forward=1"
    assert checks["return"].next == "ip route get 198.51.100.7"


def test_with_direct_return_the_way_back_is_the_backends_own() -> None:
    direct = document(forwarding={"mode": "DirectReturn"}, ports=[{"name": "http", "port": 80, "targetPort": 80}])
    situation = moment(configured(direct), snapshot=network(forwarding={4: False, 6: False}))
    checks = asked(situation, evidence(situation, path=NoPath("no route")))
    assert not failing(checks)
    assert "forwarding" not in checks


def test_drops_of_the_past_are_told_and_fail_nothing(working: Situation) -> None:
    (frontend,) = working.desired.names.frontends
    drop = Verdict("xdp", "rate_limited", "drop", "more new flows per second than allowed", 3, 180)
    counted = replace(working, counters=Counters(verdicts=(drop,), frontends={frontend: Traffic(dropped=3)}))
    checks = asked(counted, evidence(working))
    assert not failing(checks)
    assert checks["drops"].message.endswith("rate_limited 3")


def test_a_program_that_drops_what_the_checks_let_pass_is_a_failed_check(working: Situation) -> None:
    checks = asked(working, evidence(working, trial=trial("no_backend", "drop", "no usable backend")))
    assert failing(checks) == ["packet", "agreement"]
    assert "found nothing" in checks["agreement"].message
    assert "docs/troubleshooting.md" in checks["packet"].next


def test_a_program_that_forwards_what_the_checks_stop_is_a_failed_check() -> None:
    situation = moment(configured(document(allowedSources=["10.1.0.0/16"])))
    for other in (trial(), trial("no_backend", "drop", "no usable backend")):
        checks = asked(situation, evidence(situation, trial=other))
        assert "agreement" in failing(checks)
        assert "sources" in checks["agreement"].message


def test_a_packet_that_xdp_leaves_to_tc_is_told_as_both(working: Situation) -> None:
    punt = Step("xdp", (Reason("NO_REDIRECT", "punt", "the outgoing device takes no redirected frames"),))
    both = Trial(Kind.ACK, (punt, Step("tc_ingress", (FORWARDED,))), SENT, opened=False)
    checks = asked(working, evidence(working, flow=flow(working), trial=both))
    assert not failing(checks)
    assert "xdp: punt (no_redirect" in checks["packet"].message
    assert "then tc_ingress: forward (forwarded_request" in checks["packet"].message


def test_a_client_without_a_route_is_taken_to_come_in_where_vips_do(working: Situation) -> None:
    checks = asked(working, evidence(working, path=NoPath("no route"), ingress=ETH1))
    assert "if it comes in where VIP traffic does" in checks["interfaces"].message
