"""The chain of checks behind ``why``."""

from dataclasses import replace

import pytest
from surface_moments import ETH0, configured, document, moment, network

from sluicegate_agent.datapath.protocol import Counters, Traffic, Verdict
from sluicegate_agent.network.model import Path
from sluicegate_agent.reports.checks import Check, explanation
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.targets import UnknownTargetError
from sluicegate_agent.reports.why import why


def seen(situation: Situation, traffic: Traffic, *verdicts: Verdict) -> Situation:
    frontends = dict.fromkeys(situation.desired.names.frontends, traffic)
    return replace(situation, counters=Counters(verdicts=verdicts, frontends=frontends))


def failing(situation: Situation, target: str = "web") -> dict[str, Check]:
    return {check.id: check for check in why(situation, target) if not check.ok}


def test_all_checks_pass_in_the_order_of_a_packets_way() -> None:
    checks = why(seen(moment(configured(document())), Traffic(5, 500, 5, 500, 1)), "shop/web")
    assert [check.id for check in checks] == [
        "agent",
        "accepted",
        "vip",
        "interfaces",
        "sources",
        "forwarding",
        "routes",
        "neighbours",
        "health",
        "table",
        "weights",
        "traffic",
        "drops",
    ]
    assert all(check.ok and not check.next for check in checks)
    assert explanation(checks)["ok"] is True


def test_every_failed_check_says_what_to_do_next() -> None:
    unreachable = {"10.0.0.1": "no route", "10.0.0.2": "no route"}
    snapshot = network(unreachable=unreachable, forwarding={4: False, 6: True})
    checks = failing(moment(configured(document()), snapshot=snapshot, down={"10.0.0.2": "refused"}))
    assert {"forwarding", "routes", "health", "table", "traffic"} <= checks.keys()
    assert all(check.next for check in checks.values())


def test_no_packet_ever_seen_is_a_failure_of_its_own() -> None:
    checks = failing(moment(configured(document())))
    assert list(checks) == ["traffic"]
    assert "203.0.113.10 TCP/80" in checks["traffic"].message
    assert "ip route add 203.0.113.10" in checks["traffic"].next


def test_forwarding_off_names_the_sysctl_of_the_vips_family_only() -> None:
    off = network(forwarding={4: False, 6: False})
    check = failing(moment(configured(document()), snapshot=off))["forwarding"]
    assert check.next == "sysctl -w net.ipv4.ip_forward=1"


def test_a_backend_without_a_route_is_named_with_the_command_to_look() -> None:
    lost = network(unreachable={"10.0.0.2": "no route to 10.0.0.2"})
    check = failing(moment(configured(document()), snapshot=lost))["routes"]
    assert (check.message, check.next) == ("no route to 10.0.0.2", "ip route get 10.0.0.2")


def test_drops_beside_forwarded_packets_are_told_and_fail_nothing() -> None:
    drop = Verdict("xdp", "NO_FLOW", "drop", "TCP packet of an unknown connection", 3, 180)
    situation = seen(moment(configured(document())), Traffic(5, 500, 5, 500, 1, dropped=3), drop)
    assert not failing(situation)
    (check,) = [check for check in why(situation, "web") if check.id == "drops"]
    assert "3 packets" in check.message
    assert "TCP packet of an unknown connection (3)" in check.message


def test_nothing_but_drops_fails_with_the_reason() -> None:
    drop = Verdict("tc_ingress", "NO_BACKEND", "drop", "no usable backend", 9, 540)
    checks = failing(seen(moment(configured(document())), Traffic(dropped=9), drop))
    assert "no usable backend (9)" in checks["drops"].message


def test_an_unresolved_neighbour_fails_only_when_no_reply_ever_came() -> None:
    snapshot = network()
    paths = {
        address: replace(path, mac=None) if isinstance(path, Path) else path for address, path in snapshot.paths.items()
    }
    situation = moment(configured(document()), snapshot=replace(snapshot, paths=paths))
    assert "neighbours" not in failing(seen(situation, Traffic()))
    assert "neighbours" in failing(seen(situation, Traffic(5, 500, 0, 0, 1)))


def test_no_backend_that_can_be_reached_is_an_empty_table() -> None:
    lost = network(unreachable={"10.0.0.1": "no route", "10.0.0.2": "no route"})
    assert "http over IPv4" in failing(moment(configured(document()), snapshot=lost))["table"].message


def test_with_direct_return_no_reply_is_nothing_to_complain_about() -> None:
    snapshot = network()
    paths = {
        address: replace(path, mac=None) if isinstance(path, Path) else path for address, path in snapshot.paths.items()
    }
    direct = document(
        forwarding={"mode": "DirectReturn"}, ports=[{"name": "http", "port": 80, "targetPort": 80}], healthCheck=None
    )
    situation = moment(configured(direct), snapshot=replace(snapshot, paths=paths))
    assert "neighbours" not in failing(seen(situation, Traffic(5, 500, 0, 0, 1)))


def test_an_interface_that_does_not_exist_is_named() -> None:
    situation = moment(configured(document(interfaces=["eth7"])))
    assert "eth7" in failing(situation)["interfaces"].message


def test_an_interface_that_lacks_its_program_is_named() -> None:
    situation = moment(configured(document()))
    attached = {key: value for key, value in situation.attached.items() if key != ETH0}
    checks = failing(replace(situation, attached=attached))
    assert checks["interfaces"].message == "eth0 has no program yet"


def test_of_a_vip_that_another_holds_nothing_is_asked_that_needs_the_kernel() -> None:
    checks = failing(moment(configured(document(), document("other"))), "other")
    assert list(checks) == ["accepted", "vip"]
    assert "held by LoadBalancer shop/web" in checks["vip"].message


def test_an_object_that_was_never_valid_ends_the_chain_there() -> None:
    checks = why(moment(configured(document(colour="red"))), "web")
    assert [check.id for check in checks] == ["agent", "accepted"]
    assert checks[1].next == "mend a.yaml: sluicegate validate -f a.yaml"


def test_an_unknown_or_ambiguous_name_lists_the_choices() -> None:
    second = document(addresses=["203.0.113.20"]).replace("namespace: shop", "namespace: bank")
    situation = moment(configured(document(), second))
    with pytest.raises(UnknownTargetError, match="lb/bank/web"):
        why(situation, "nope")
    with pytest.raises(UnknownTargetError, match="several namespaces"):
        why(situation, "web")
    assert why(situation, "bank/web")
