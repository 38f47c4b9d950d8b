"""The status document and its conditions."""

from dataclasses import replace

import pytest
from surface_moments import ETH0, configured, document, moment, network

from sluicegate_agent.attach import Attached, Mode
from sluicegate_agent.cli.document import Status
from sluicegate_agent.datapath.protocol import Census, Counters, Traffic, Verdict
from sluicegate_agent.planning.steer import Steer
from sluicegate_agent.programs import FEATURES
from sluicegate_agent.reports.condition import Condition, ConditionStatus, ConditionType
from sluicegate_agent.reports.situation import Programs, Situation
from sluicegate_agent.reports.status import status
from sluicegate_agent.reports.view import LoadBalancerView
from sluicegate_agent.signals.model import Histogram, Latencies, Load, Reading, Report
from sluicegate_agent.weights.model import Decision, Override
from sluicegate_agent.weights.survey import NOTHING_SEEN

TWO_FAMILIES = {
    "addresses": ["203.0.113.10", "2001:db8::10"],
    "backends": {"static": [{"address": "10.0.0.1"}, {"address": "fd00::1"}]},
}


def only(situation: Situation) -> LoadBalancerView:
    (view,) = status(situation).loadbalancers
    return view


def condition(view: LoadBalancerView, kind: ConditionType) -> Condition:
    found = view.condition(kind)
    assert found is not None
    return found


def test_a_working_load_balancer_is_ready_and_nothing_is_degraded() -> None:
    view = only(moment(configured(document())))
    assert view.ready
    assert condition(view, ConditionType.ACCEPTED).status is ConditionStatus.TRUE
    assert condition(view, ConditionType.PROGRAMMED).status is ConditionStatus.TRUE
    assert condition(view, ConditionType.DEGRADED).status is ConditionStatus.FALSE


def test_a_backend_that_fails_its_checks_is_down_with_the_reason_and_degrades() -> None:
    view = only(moment(configured(document()), down={"10.0.0.2": "connection refused"}))
    (port,) = view.ports
    assert [(each.state, each.health, each.reason) for each in port.backends] == [
        ("active", "up", ""),
        ("down", "down", "connection refused"),
    ]
    assert view.ready
    assert "10.0.0.2:8080 is down (connection refused)" in condition(view, ConditionType.DEGRADED).message


def test_without_a_usable_backend_it_is_programmed_and_not_ready() -> None:
    view = only(moment(configured(document()), down={"10.0.0.1": "refused", "10.0.0.2": "no answer"}))
    assert condition(view, ConditionType.PROGRAMMED).status is ConditionStatus.TRUE
    ready = condition(view, ConditionType.READY)
    assert ready.reason == "NoHealthyBackend"
    assert "http has no usable IPv4 backend: 10.0.0.1:8080 is down (refused)" in ready.message


def test_in_panic_failing_backends_are_shown_as_used_and_the_panic_is_named_with_its_numbers() -> None:
    three = document(backends={"static": [{"address": f"10.0.0.{number}"} for number in (1, 2, 3)]})
    view = only(moment(configured(three), down={"10.0.0.1": "refused", "10.0.0.2": "no answer"}))
    assert [(each.state, each.health) for each in view.ports[0].backends] == [
        ("active", "down"),
        ("active", "down"),
        ("active", "up"),
    ]
    degraded = condition(view, ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == (ConditionStatus.TRUE, "Panic")
    assert degraded.message.startswith("http over IPv4: only 1 of 3 backends pass their checks")
    assert "10.0.0.1:8080 is down (refused)" in degraded.message
    assert view.ready


def test_one_backend_of_three_that_fails_is_no_panic() -> None:
    three = document(backends={"static": [{"address": f"10.0.0.{number}"} for number in (1, 2, 3)]})
    view = only(moment(configured(three), down={"10.0.0.1": "refused"}))
    assert [each.state for each in view.ports[0].backends] == ["down", "active", "active"]
    assert condition(view, ConditionType.DEGRADED).reason == "Impaired"


def test_allowed_sources_of_one_family_only_are_told_as_closing_the_other() -> None:
    view = only(moment(configured(document(**TWO_FAMILIES, allowedSources=["198.51.100.0/24"]))))
    assert "no client may use the IPv6 VIPs" in condition(view, ConditionType.DEGRADED).message


def test_an_interface_with_an_mtu_below_the_least_of_ipv6_degrades_and_the_rest_works() -> None:
    links = {key: replace(each, mtu=1200) if key == ETH0 else each for key, each in network().links.items()}
    view = only(moment(configured(document(**TWO_FAMILIES)), snapshot=network(links=links)))
    degraded = condition(view, ConditionType.DEGRADED)
    assert "interface eth0 is 1200, less than the 1280 that IPv6 needs" in degraded.message
    assert view.ready


def test_a_family_without_a_usable_backend_is_not_ready() -> None:
    view = only(moment(configured(document(**TWO_FAMILIES)), down={"fd00::1": "refused"}))
    assert "IPv6" in condition(view, ConditionType.READY).message
    assert "IPv4" not in condition(view, ConditionType.READY).message


def test_a_backend_without_a_route_is_unreachable_with_the_reason() -> None:
    lost = network(unreachable={"10.0.0.2": "no route to 10.0.0.2"})
    view = only(moment(configured(document()), snapshot=lost))
    backend = view.ports[0].backends[1]
    assert (backend.state, backend.reason) == ("unreachable", "no route to 10.0.0.2")


def test_a_removed_backend_is_shown_while_it_drains() -> None:
    after = configured(document(backends={"static": [{"address": "10.0.0.1"}]}))
    view = only(moment(configured(document()), later=after))
    assert [(each.address, each.state, each.weight) for each in view.ports[0].backends] == [
        ("10.0.0.1", "active", 100),
        ("10.0.0.2", "draining", 0),
    ]


def test_counters_and_flows_stand_with_their_vip_and_their_backend() -> None:
    situation = moment(configured(document(**TWO_FAMILIES)))
    names = situation.desired.names
    frontends = {str(endpoint.address): key for key, (_, endpoint) in names.frontends.items()}
    backends = {str(key.address): identity for identity, key in names.backends.items()}
    view = only(
        replace(
            situation,
            counters=Counters(
                frontends={
                    frontends["203.0.113.10"]: Traffic(4, 400, 3, 300, 2, 1),
                    frontends["2001:db8::10"]: Traffic(10, 1000, 10, 1000, 5, 0),
                },
                backends={backends["10.0.0.1"]: Traffic(4, 400, 3, 300, 2, 1)},
            ),
            census=Census(flows={backends["10.0.0.1"]: 7}, frontend_flows={frontends["203.0.113.10"]: 7}),
        )
    )
    (port,) = view.ports
    assert port.traffic == Traffic(14, 1400, 13, 1300, 7, 1)
    assert port.active_flows == 7
    by_address = {each.address: each for each in port.backends}
    assert by_address["10.0.0.1"].traffic.opened == 2
    assert by_address["10.0.0.1"].active_flows == 7
    assert by_address["fd00::1"].traffic == Traffic()


def test_a_vip_that_another_holds_says_so_and_shows_nothing_of_the_others_traffic() -> None:
    situation = moment(configured(document(), document("other")))
    (frontend,) = situation.desired.names.frontends
    situation = replace(situation, counters=Counters(frontends={frontend: Traffic(9, 9, 9, 9, 9, 9)}))
    web, other = status(situation).loadbalancers
    assert web.ports[0].traffic.opened == 9
    assert other.ports[0].traffic == Traffic()
    assert "held by LoadBalancer shop/web" in other.ports[0].addresses[0].reason
    assert condition(other, ConditionType.ACCEPTED).reason == "AddressRefused"
    assert not other.ready


def test_a_vip_of_the_node_itself_is_refused_in_words() -> None:
    view = only(moment(configured(document(addresses=["192.0.2.1"]))))
    assert "is an address of this node" in condition(view, ConditionType.ACCEPTED).message


def test_an_object_that_was_never_valid_is_listed_with_its_errors() -> None:
    view = only(moment(configured(document(colour="red"))))
    assert view.ports == ()
    assert "spec.colour" in condition(view, ConditionType.ACCEPTED).message
    assert not view.ready


def test_a_bad_edit_is_told_while_the_old_version_works() -> None:
    before = configured(document())
    situation = moment(configured(document(colour="red"), previous=before))
    view = only(situation)
    assert view.ready
    assert condition(view, ConditionType.ACCEPTED).message.endswith("what was read before stays in force")
    assert not status(situation).ready


def test_missing_programs_hold_back_only_what_needs_them() -> None:
    ports, mode = [{"port": 80}], {"mode": "DirectReturn"}
    direct = document("direct", addresses=["203.0.113.20"], ports=ports, forwarding=mode)
    some = Programs(frozenset(FEATURES) - {"DIRECT_RETURN"}, "the programs are being compiled")
    web, other = status(moment(configured(document(), direct), programs=some)).loadbalancers
    assert web.ready
    assert condition(other, ConditionType.PROGRAMMED).message == "the programs are being compiled"


def test_what_the_kernel_refused_and_where_programs_cannot_attach_is_told() -> None:
    situation = moment(configured(document()))
    refused = replace(situation, applied=replace(situation.applied, refused=("backends 1: no space",)))
    assert condition(only(refused), ConditionType.PROGRAMMED).message == "backends 1: no space"
    nowhere = replace(situation, attached={}, applied=replace(situation.applied, attach_errors={ETH0: "eth0: busy"}))
    assert condition(only(nowhere), ConditionType.PROGRAMMED).reason == "NotAttached"
    assert "eth0: busy" in condition(only(nowhere), ConditionType.DEGRADED).message


def test_without_an_interface_where_traffic_arrives_it_is_not_ready() -> None:
    view = only(moment(configured(document(interfaces=["late0"]))))
    assert condition(view, ConditionType.PROGRAMMED).reason == "NotAttached"
    assert "late0" in condition(view, ConditionType.READY).message


def test_a_paused_object_says_so() -> None:
    view = only(moment(configured(document(paused=True), previous=configured(document()))))
    assert view.ready
    assert condition(view, ConditionType.PAUSED).status is ConditionStatus.TRUE


def test_an_interface_tells_its_mode_and_the_reason() -> None:
    situation = moment(configured(document()))
    busy = Attached(ETH0, "eth0", Mode.TC, "another XDP program is attached", "tc_ingress")
    views = status(replace(situation, attached={**situation.attached, ETH0: busy})).interfaces
    assert [(view.name, view.mode, view.reason, view.program) for view in views] == [
        ("eth0", "tc", "another XDP program is attached", "tc_ingress"),
        ("eth1", "xdp", "the route to backend 10.0.0.1 leads through it", "xdp_main"),
    ]


def test_the_json_has_the_promised_shape() -> None:
    answer = status(moment(configured(document()))).to_json()
    assert list(answer) == ["ready", "interfaces", "loadbalancers", "sniffers", "flows", "drops", "problems"]
    balancers = answer["loadbalancers"]
    assert isinstance(balancers, list)
    assert balancers[0]["backends"] == {"total": 2, "healthy": 2, "draining": 0}
    assert balancers[0]["ports"][0]["backends"][1] == {
        "address": "10.0.0.2",
        "port": 8080,
        "state": "active",
        "health": "up",
        "reason": "",
        "weight": 50,
        "effectiveWeight": 50,
        "weights": None,
        "override": None,
        "signal": None,
        "measured": {
            "requests": 0,
            "responses": 0,
            "resets": 0,
            "unanswered": 0,
            "emptyCloses": 0,
            "inFlight": 0,
            "firstResponse": {"p50": None, "p99": None},
            "handshake": {"p50": None, "p99": None},
        },
        "packets": 0,
        "bytes": 0,
        "newFlows": 0,
        "activeFlows": 0,
        "dropped": 0,
    }


def test_limits_in_force_stand_with_their_load_balancer() -> None:
    limited = document(
        sessionAffinity={"type": "ClientIP", "timeoutSeconds": 60},
        allowedSources=["10.1.0.0/16"],
        maxNewConnectionsPerSecond=5,
    )
    unlimited = document("other", addresses=["203.0.113.20"])
    balancers = status(moment(configured(limited, unlimited))).to_json()["loadbalancers"]
    assert isinstance(balancers, list)
    assert [each["limits"] for each in balancers] == [
        {"affinitySeconds": 60, "allowedSources": ["10.1.0.0/16"], "maxNewConnectionsPerSecond": 5},
        {"affinitySeconds": 0, "allowedSources": None, "maxNewConnectionsPerSecond": None},
    ]


def test_a_port_in_panic_says_why_all_its_backends_are_used() -> None:
    view = only(moment(configured(document()), down={"10.0.0.1": "refused", "10.0.0.2": "refused"}))
    assert view.ports[0].panic.startswith("IPv4: only 0 of 2 backends")
    assert not only(moment(configured(document()))).ports[0].panic


def test_flows_and_drops_of_the_node_are_counted_with_their_reasons() -> None:
    situation = moment(configured(document()))
    (frontend,) = situation.desired.names.frontends
    verdicts = (
        Verdict("xdp", "flood", "drop", "too many half-open connections", 3, 180),
        Verdict("tc_ingress", "flood", "drop", "too many half-open connections", 1, 60),
        Verdict("xdp", "source_denied", "drop", "the client is not among the allowed sources", 9, 540),
        Verdict("xdp", "rate_limited", "drop", "more new flows per second than allowed", 0, 0),
        Verdict("xdp", "not_ours", "pass", "neither a VIP nor one of our backends", 9, 540),
    )
    counted = replace(
        situation,
        counters=Counters(verdicts=verdicts),
        census=Census(frontend_flows={frontend: 7}, half_open=2),
    )
    answer = status(counted).to_json()
    assert answer["flows"] == {"active": 7, "halfOpen": 2}
    assert answer["drops"] == [
        {"reason": "source_denied", "text": "the client is not among the allowed sources", "packets": 9},
        {"reason": "flood", "text": "too many half-open connections", "packets": 4},
    ]


def test_an_agent_that_has_done_nothing_yet_can_be_asked() -> None:
    view = only(Situation(configuration=configured(document())))
    assert condition(view, ConditionType.PROGRAMMED).message == "the programs are not loaded yet"
    assert [each.state for each in view.ports[0].backends] == ["pending", "pending"]


def test_a_backend_shows_its_decision_its_signal_and_what_was_measured() -> None:
    situation = moment(configured(document(dynamicWeights={"type": "AgentCheck", "agentCheck": {"port": 9000}})))
    key, other = sorted(situation.desired.backends)
    identity = situation.desired.backends[key].id
    assert identity is not None
    counted = situation.with_counters(
        Counters(
            loads={identity: Load(requests=10, responses=7, abandoned=1, resets=3)},
            latencies={identity: Latencies(first_response=Histogram((0,) * 10 + (4,)))},
        )
    )
    steered = replace(
        counted,
        decisions={key: Decision(37_500, prior=75.0, guard=0.5, reason="slow", absent=("errors",), latency=0.2)},
        readings={key: Reading(Report(utilization=0.5), at=90.0, error="timed out")},
        overrides={key: Override(1_700_000_000.0)},
        pool_notes={key.service: "overloaded"},
    )
    view = status(steered, now=100.0)
    port = view.to_json()["loadbalancers"][0]["ports"][0]  # type: ignore[index]
    assert (port["note"], port["dynamicWeights"]) == ("IPv4: overloaded", "AgentCheck")
    shown = port["backends"][0]
    assert shown["weights"] == {
        "effective": 37.5,
        "prior": 75.0,
        "guard": 0.5,
        "errors": 0.0,
        "slowStart": 1.0,
        "state": "",
        "reason": "slow",
        "absent": ["errors"],
        "latencySeconds": 0.2,
    }
    assert shown["override"] == {"action": "drain", "until": "2023-11-14T22:13:20Z"}
    assert shown["signal"] == {
        "ageSeconds": 10.0,
        "error": "timed out",
        "utilization": 0.5,
        "rps": None,
        "eps": None,
    }
    assert (shown["measured"]["inFlight"], shown["measured"]["resets"]) == (2, 3)
    assert 0.001 < shown["measured"]["firstResponse"]["p50"] < 0.0021
    assert Status.model_validate(view.to_json()).loadbalancers[0].ports[0].backends[0].weights.guard == 0.5  # type: ignore[union-attr]
    assert port["backends"][1]["weights"] is None
    assert key != other


@pytest.mark.parametrize(
    ("steer", "state"), [(Steer(held=True, because="says drain"), "draining"), (Steer(down=True, because="x"), "down")]
)
def test_a_backend_that_somebody_keeps_out_degrades_its_load_balancer(steer: Steer, state: str) -> None:
    text = document(dynamicWeights={"type": "Passive"})
    (key, *_) = sorted(moment(configured(text)).desired.backends)
    view = only(moment(configured(text), steering={key: steer}))
    shown = view.ports[0].backends[0]
    assert (shown.state, shown.reason, shown.effective_weight) == (state, steer.because, 0)
    found = condition(view, ConditionType.DEGRADED)
    assert (found.status, found.reason) == (ConditionStatus.TRUE, "Impaired")
    assert f"10.0.0.1:8080 is {state} ({steer.because})" in found.message
    assert view.ready


def test_a_backend_with_the_configured_weight_0_degrades_nothing() -> None:
    backends = {"static": [{"address": "10.0.0.1"}, {"address": "10.0.0.2", "weight": 0}]}
    view = only(moment(configured(document(backends=backends))))
    assert condition(view, ConditionType.DEGRADED).status is ConditionStatus.FALSE


def test_what_holds_for_the_weights_of_a_pool_degrades_it_unless_it_is_by_design() -> None:
    situation = moment(configured(document()))
    service = next(iter(situation.desired.backends)).service
    cases = (
        ("overloaded", "Impaired"),
        ("panic: only 40 % of the weight is healthy", "Panic"),
        (NOTHING_SEEN, "Sound"),
    )
    for note, expected in cases:
        view = only(replace(situation, pool_notes={service: note}))
        assert condition(view, ConditionType.DEGRADED).reason == expected, note
