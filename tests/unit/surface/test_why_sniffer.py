"""``why dpi/NAME``: the first thing that keeps a sniffer from finding anything."""

from dataclasses import replace

import pytest
from sniffing_moments import COUNTERS, OUTPUT, WORKER, sniffer, sniffing
from surface_moments import ETH0, configured, document, moment

from sluicegate_agent.dpi.live.model import RunState
from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.situation import Programs, Situation
from sluicegate_agent.reports.targets import UnknownTargetError, names_document
from sluicegate_agent.reports.why_sniffer import why_sniffer
from sluicegate_agent.sniffing.assignment import Place
from sluicegate_agent.sniffing.model import SniffCounters
from sluicegate_agent.sniffing.state import Signatures

RULES = {"signatures": {"inline": 'alert http any any -> any any (msg:"x"; content:"abc"; sid:1;)'}}


def checks(situation: Situation) -> dict[CheckId, Check]:
    return {check.id: check for check in why_sniffer(situation, "edge")}


def failing(situation: Situation) -> list[CheckId]:
    found = checks(situation)
    assert all(check.next for check in found.values() if not check.ok)
    return [check.id for check in found.values() if not check.ok]


def test_a_sniffer_that_works_passes_every_check_in_the_order_of_a_packet() -> None:
    found = checks(sniffing())
    assert list(found) == [
        CheckId.AGENT,
        CheckId.ACCEPTED,
        CheckId.INTERFACES,
        CheckId.SNIFFING,
        CheckId.ENGINE,
        CheckId.SIGNATURES,
        CheckId.SNIFFED,
        CheckId.SENT,
        CheckId.LOSSES,
        CheckId.EVENTS,
    ]
    assert all(check.ok for check in found.values())
    assert "2.0% of the packets" in found[CheckId.SENT].message
    assert "10.00 s of CPU time for a million packets" in found[CheckId.ENGINE].message
    assert found[CheckId.EVENTS].message == "9 flow; written to /var/log/eve.json"


def test_a_target_is_a_sniffer_and_not_a_load_balancer() -> None:
    situation = moment(configured(document("edge"), sniffer("edge"), sniffer("also")))
    assert why_sniffer(situation, "shop/edge")[1].ok
    with pytest.raises(UnknownTargetError, match="dpi/shop/edge, dpi/shop/also"):
        why_sniffer(situation, "web")
    names = names_document(situation)
    assert names["sniffers"] == [{"name": "edge", "full": "shop/edge"}, {"name": "also", "full": "shop/also"}]


def test_a_refused_sniffer_ends_at_its_file() -> None:
    situation = moment(configured(sniffer(attach={"podSelector": {}})))
    assert failing(situation) == [CheckId.ACCEPTED]


def test_an_interface_that_is_not_sniffed_fails() -> None:
    taken = "interface eth0 is sniffed by shop/also: one sniffer per interface"
    situation = sniffing(place=Place(1, {}, (taken,), {ETH0: taken}), more={"sniffed": {}})
    assert failing(situation) == [CheckId.INTERFACES, CheckId.SNIFFING]
    assert taken in checks(situation)[CheckId.INTERFACES].message


def test_an_interface_that_is_not_there_is_told_beside_one_that_is() -> None:
    absent = "spec.attach.interfaces[1]: no interface is called ens9; it is used once it appears"
    found = checks(sniffing(place=Place(1, {ETH0: "it holds a default route"}, (absent,))))[CheckId.INTERFACES]
    assert (found.ok, found.message.splitlines()) == (True, ["it is sniffed at eth0 (xdp)", absent])


def test_what_went_with_a_worker_is_told() -> None:
    worker = replace(WORKER, restarts=1, ends_dropped=41, forgotten=60)
    found = checks(sniffing(more={"workers": (worker,)}))[CheckId.LOSSES]
    assert found.ok
    assert "at most 41 flows" in found.message
    assert "knew 60 flows" in found.message


def test_programs_that_are_not_there_end_the_chain() -> None:
    situation = replace(sniffing(), programs=Programs(frozenset(), "the programs are being compiled"))
    assert failing(situation) == [CheckId.SNIFFING]
    assert CheckId.ENGINE not in checks(situation)


def test_an_engine_that_is_away_and_a_worker_that_restarts_fail() -> None:
    away = sniffing(more={"engine_problem": "no gcc", "workers": ()})
    assert CheckId.ENGINE in failing(away)
    restarting = replace(WORKER, number=1, state=RunState.RESTARTING, reason="killed by signal 9", restarts=3)
    found = checks(sniffing(more={"workers": (WORKER, restarting)}))[CheckId.ENGINE]
    assert not found.ok
    assert "worker 1 is restarting: killed by signal 9" in found.message
    assert "3 restarts" in found.message


def test_classification_that_is_off_fails_only_when_it_was_asked_for() -> None:
    more = {"workers": (replace(WORKER, classification="", no_classification="nfstream is missing"),)}
    assert CheckId.ENGINE in failing(sniffing(more=more))
    off = sniffing(sniffer(classify={"depth": "Off"}, **RULES), more=more, signatures=Signatures({State.LOADED: 1}))
    assert failing(off) == []


def test_signatures_fail_when_none_is_in_force() -> None:
    some = Signatures({State.LOADED: 1, State.REFUSED: 2}, ("a.rules:1: because",))
    found = checks(sniffing(sniffer(**RULES), signatures=some))[CheckId.SIGNATURES]
    assert found.ok
    assert found.message == "1 loaded, 2 refused\na.rules:1: because"
    none = Signatures({State.REFUSED: 2}, ("a.rules:1: because",))
    assert CheckId.SIGNATURES in failing(sniffing(sniffer(**RULES), signatures=none))


def test_no_traffic_and_rules_that_leave_all_alone_fail() -> None:
    assert CheckId.SNIFFED in failing(sniffing(counters=SniffCounters()))
    ignored = SniffCounters(packets=9, opened=3, ignored=9, unmatched=3)
    found = checks(sniffing(counters=ignored))
    assert not found[CheckId.SNIFFED].ok
    assert "no rule: 3 flows" in found[CheckId.SNIFFED].message
    assert not found[CheckId.SENT].ok


def test_flows_are_told_by_rule() -> None:
    counters = replace(COUNTERS, rule_flows=(40, 0, 7), unmatched=3)
    found = checks(sniffing(counters=counters, rules=("web", "dns", "rest")))[CheckId.SNIFFED]
    assert found.message.split("\n")[1:] == [
        "rule web: 40 flows",
        "rule rest: 7 flows",
        "no rule: 3 flows, which are left alone",
    ]


def test_losses_fail_while_they_happen_and_are_told_afterwards() -> None:
    counters = replace(COUNTERS, lost=30)
    assert CheckId.LOSSES in failing(sniffing(counters=counters, losing=30))
    past = checks(sniffing(counters=counters))[CheckId.LOSSES]
    assert past.ok
    assert "30 records were lost" in past.message


def test_an_output_that_cannot_be_written_fails() -> None:
    full = replace(OUTPUT, problem="/var/log/eve.json cannot be written: No space left on device", dropped=5)
    found = checks(sniffing(output=full))[CheckId.EVENTS]
    assert not found.ok
    assert "5 lines did not get there" in found.message
