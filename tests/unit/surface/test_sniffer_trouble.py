"""What is wrong with a sniffer's text while the version before works: `why` and `status` say it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sniffing_moments import sniffer, sniffing
from surface_moments import configured, document, moment

from sluicegate_agent.dpi.rules.load import State
from sluicegate_agent.reports.checks import Check, CheckId
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.sniffers import sniffer_views
from sluicegate_agent.reports.why import why
from sluicegate_agent.reports.why_sniffer import why_sniffer
from sluicegate_agent.sniffing.state import Signatures

ACTION = {"actions": [{"match": {"signatureIds": [7, 8]}, "action": "Drop"}]}
RULES = {"signatures": {"inline": 'alert tcp any any -> any any (msg:"x"; content:"abc"; sid:7;)'}}


def with_lines(situation: Situation, *lines: str) -> Situation:
    configuration = replace(situation.configuration, problem_lines=lines)
    return replace(situation, configuration=configuration)


def accepted(situation: Situation) -> Check:
    return next(check for check in why_sniffer(situation, "edge") if check.id is CheckId.ACCEPTED)


def source(situation: Situation) -> str:
    return situation.configuration.sniffers.accepted[0].source


def test_a_file_that_is_broken_now_is_not_called_valid() -> None:
    good = sniffing()
    broken = with_lines(good, f"{source(good)}: line 3: this is no YAML")
    check = accepted(broken)
    assert not check.ok
    assert "line 3: this is no YAML" in check.message
    assert "stays in force" in check.message
    assert source(good) in check.next


def test_another_objects_trouble_in_that_file_is_not_its_own() -> None:
    good = sniffing()
    assert accepted(with_lines(good, f"{source(good)}: DpiSniffer shop/other: spec.budget: no")).ok
    assert accepted(with_lines(good, "elsewhere.yaml: this is no YAML")).ok


def test_the_same_holds_for_a_load_balancer() -> None:
    good = moment(configured(document("web")))
    file = good.configuration.accepted[0].source
    checks = {check.id: check for check in why(with_lines(good, f"{file}: this is no YAML"), "web")}
    assert not checks[CheckId.ACCEPTED].ok


def test_a_paused_sniffer_says_that_changes_wait() -> None:
    good = sniffing()
    objects = replace(
        good.configuration.sniffers, paused=frozenset({good.configuration.sniffers.accepted[0].object.key})
    )
    paused = replace(good, configuration=replace(good.configuration, sniffers=objects))
    assert "later changes wait" in accepted(paused).message
    assert "wait" not in accepted(good).message


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        (None, "not in force: 7, 8"),
        (Signatures({State.LOADED: 1}, sids=frozenset({7})), "not in force: 8"),
        (Signatures({State.LOADED: 2}, sids=frozenset({7, 8})), ""),
    ],
)
def test_actions_that_wait_for_signatures_nobody_checks(signatures: Signatures | None, words: str) -> None:
    (view,) = sniffer_views(sniffing(sniffer(**(ACTION | RULES)), signatures=signatures))
    assert [note for note in view.notes if "spec.actions" in note] == (
        [f"spec.actions waits for signatures that are {words}"] if words else []
    )


def test_signatures_that_cannot_be_read_any_more() -> None:
    kept = Signatures({State.LOADED: 1}, error="local.rules cannot be read", sids=frozenset({7}))
    (view,) = sniffer_views(sniffing(sniffer(**RULES), signatures=kept))
    assert any("local.rules cannot be read" in note and "stay in force" in note for note in view.notes)
