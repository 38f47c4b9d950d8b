"""``why lb/NAME`` on weights, and the troubles that one screen has to explain."""

from dataclasses import replace

import pytest
from surface_moments import configured, document, moment, network

from sluicegate_agent.datapath.protocol import Counters, Traffic, Verdict
from sluicegate_agent.network.model import Path
from sluicegate_agent.planning.desired import Desired
from sluicegate_agent.reports.checks import Check
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.why import why
from sluicegate_agent.signals.model import Reading, Report
from sluicegate_agent.weights.model import Decision, Override
from sluicegate_agent.weights.survey import NOTHING_SEEN

SLOW = "2.1 times slower than the pool's median: 40 % of its weight"


def web(**spec: object) -> Situation:
    """Two backends, 10.0.0.1 of weight 100 and 10.0.0.2 of weight 50, with traffic."""
    situation = moment(configured(document(**spec)))
    frontends = dict.fromkeys(situation.desired.names.frontends, Traffic(5, 500, 5, 500, 1))
    return replace(situation, counters=Counters(frontends=frontends))


def decided(situation: Situation, *decisions: Decision | None) -> Situation:
    """The controller's decisions for the backends in the order of their addresses, in force in the tables."""
    keys = sorted(situation.desired.backends)
    given = {key: decision for key, decision in zip(keys, decisions, strict=True) if decision is not None}
    outcomes = {
        key: replace(outcome, weight=given[key].weight) if key in given else outcome
        for key, outcome in situation.desired.backends.items()
    }
    return replace(situation, desired=replace(situation.desired, backends=outcomes), decisions=given)


def checks(situation: Situation) -> dict[str, Check]:
    return {check.id: check for check in why(situation, "web")}


def test_configured_weights_need_no_words() -> None:
    check = checks(web())["weights"]
    assert (check.ok, check.message) == (True, "every backend has its configured weight")


def test_each_backend_that_is_steered_has_a_line_with_its_reason() -> None:
    check = checks(
        decided(web(), Decision(42_000, reason=SLOW), Decision(20_000, reason="slow start: 40 % after 4 of 10 s"))
    )
    assert check["weights"].ok
    assert check["weights"].message.splitlines() == [
        f"10.0.0.1:8080 100 -> 42: {SLOW}",
        "10.0.0.2:8080 50 -> 20: slow start: 40 % after 4 of 10 s",
    ]


def test_what_leaves_a_weight_alone_is_not_told() -> None:
    check = checks(decided(web(), Decision(100_000, reason="its configured weight"), None))
    assert check["weights"].message == "every backend has its configured weight"


def test_an_operators_word_is_no_fault_and_says_until_when() -> None:
    situation = web()
    key = min(situation.desired.backends)
    check = checks(replace(situation, overrides={key: Override(1_800_000_000.0, "ada")}))["weights"]
    assert check.ok
    assert "10.0.0.1:8080" in check.message
    assert "drained by an operator (ada) until 2027-01-15T08:00:00Z" in check.message


def test_an_ejected_backend_fails_the_check_with_what_to_look_at() -> None:
    reason = "ejected: 93 % of its new flows failed; a few again in 20 s"
    check = checks(decided(web(), Decision(0, state="ejected", reason=reason), None))["weights"]
    assert not check.ok
    assert f"10.0.0.1:8080 100 -> 0: {reason}" in check.message
    assert "10.0.0.1" in check.next


def test_a_lost_signal_fails_the_check_with_its_age() -> None:
    situation = web()
    key, other = sorted(situation.desired.backends)
    readings = {
        key: Reading(Report(utilization=0.5), 1.0, "10.0.0.1:9000 refused the connection", 3),
        other: Reading(None, None, "10.0.0.2:9000 refused the connection"),
    }
    check = checks(replace(situation, readings=readings))["weights"]
    assert not check.ok
    assert "signal: 10.0.0.1:9000 refused the connection (last answer" in check.message
    assert "signal: 10.0.0.2:9000 refused the connection (never answered)" in check.message
    assert "10.0.0.1" in check.next


def test_a_note_on_the_pool_comes_first_and_missing_answers_of_direct_return_are_no_fault() -> None:
    situation = web()
    (service,) = (each.key for each in situation.desired.services)
    lost = checks(replace(situation, pool_notes={service: "no backend reports"}))["weights"]
    assert (lost.ok, lost.message) == (False, "IPv4: no backend reports")
    assert checks(replace(situation, pool_notes={service: NOTHING_SEEN}))["weights"].ok


def test_a_large_pool_stays_on_one_screen() -> None:
    static = [{"address": f"10.0.0.{number}"} for number in range(1, 10)]
    ports = [{"name": f"p{number}", "port": number, "targetPort": 8080} for number in range(1, 4)]
    situation = web(backends={"static": static}, ports=ports)
    situation = decided(situation, *[Decision(50_000, reason=SLOW)] * 27)
    lines = checks(situation)["weights"].message.splitlines()
    assert len(lines) == 13
    assert lines[0].startswith("p1 10.0.0.1:8080 100 -> 50")
    assert lines[-1] == "and 15 more: sluicegate top backends"


def test_no_healthy_backend_names_each_with_its_reason() -> None:
    found = checks(moment(configured(document()), down={"10.0.0.1": "refused", "10.0.0.2": "no answer"}))
    assert not found["health"].ok
    assert "10.0.0.1:8080: refused" in found["health"].message


def test_panic_is_named_where_checks_fail() -> None:
    static = {"static": [{"address": f"10.0.0.{number}"} for number in range(1, 5)]}
    down = {f"10.0.0.{number}": "refused" for number in range(1, 4)}
    found = checks(moment(configured(document(backends=static)), down=down))
    assert "; panic: http IPv4: " in found["health"].message
    assert found["table"].ok
    assert any(line.startswith("panic: ") for line in found["weights"].message.splitlines())


def test_all_drained_is_an_empty_table_that_says_how_to_take_it_back() -> None:
    situation = web()
    desired: Desired = replace(
        situation.desired,
        backends={key: replace(each, weight=0) for key, each in situation.desired.backends.items()},
    )
    overrides = dict.fromkeys(desired.backends, Override(1_800_000_000.0))
    check = checks(replace(situation, desired=desired, overrides=overrides))["table"]
    assert not check.ok
    assert check.message.startswith("no backend takes new flows for http over IPv4: 10.0.0.1:8080 is ")
    assert "drained by an operator until 2027-01-15T08:00:00Z" in check.message
    assert check.next.startswith("sluicegate ready shop/web/BACKEND")


def test_backends_of_weight_0_are_an_empty_table() -> None:
    static = {"static": [{"address": "10.0.0.1", "weight": 0}]}
    check = checks(moment(configured(document(backends=static))))["table"]
    assert not check.ok
    assert "its weight is 0" in check.message


def test_filtered_sources_are_told_with_what_they_cost() -> None:
    situation = web(allowedSources=["10.1.0.0/16"])
    denied = Verdict("xdp", "source_denied", "drop", "the client is not among the allowed sources", 9, 540)
    situation = replace(situation, counters=replace(situation.counters, verdicts=(denied,)))
    check = checks(situation)["sources"]
    assert check.ok
    assert check.message == "only 10.1.0.0/16 may open flows; this node dropped 9 packets of others"


def test_sources_of_the_other_family_alone_are_a_mistake() -> None:
    check = checks(web(addresses=["203.0.113.10"], allowedSources=["fd00::/8"]))["sources"]
    assert not check.ok
    assert "no IPv4 network" in check.message


def test_a_foreign_program_is_named_where_programs_run() -> None:
    situation = web()
    reason = "another XDP program is attached and left alone: tool (id 7)"
    attached = {key: replace(each, reason=reason) for key, each in situation.attached.items()}
    assert reason in checks(replace(situation, attached=attached))["interfaces"].message


def test_an_unresolved_neighbour_is_named() -> None:
    snapshot = network()
    paths = {key: replace(path, mac=None) if isinstance(path, Path) else path for key, path in snapshot.paths.items()}
    situation = moment(configured(document()), snapshot=replace(snapshot, paths=paths))
    frontends = dict.fromkeys(situation.desired.names.frontends, Traffic(5, 500, 0, 0, 1))
    check = checks(replace(situation, counters=Counters(frontends=frontends)))["neighbours"]
    assert not check.ok
    assert "10.0.0.1" in check.message


@pytest.mark.parametrize("lines", [24])
def test_a_whole_answer_fits_on_a_screen(lines: int) -> None:
    answer = why(decided(web(), Decision(42_000, reason=SLOW), Decision(20_000, reason=SLOW)), "web")
    assert sum(1 + len(check.message.splitlines()) - 1 + bool(check.next) for check in answer) <= lines
