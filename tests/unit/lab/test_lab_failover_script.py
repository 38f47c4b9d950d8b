"""The demo's first act judges itself by what its load saw."""

from __future__ import annotations

from collections import Counter

import pytest

from sluicegate_agent.lab.demo.failover_script import NOTICE_SECONDS, Cast, Phase, Record, complaints
from sluicegate_agent.lab.tally import Tally

CAST = Cast(initial=("a", "b", "c"), victim="b", newcomer="d")


def answers(names: str) -> Tally:
    return Tally(answers=Counter({(family, name): 10 for family in (4, 6) for name in names}))


SERVING = {Phase.STEADY: "abc", Phase.BACKEND_KILLED: "ac", Phase.BACKEND_JOINS: "acd", Phase.AGENT_KILLED: "acd"}


def record(phase: Phase, *seen: tuple[float, Tally]) -> Record:
    made = Record(phase)
    made.add(answers(SERVING[phase]), 1.0)
    for after, tally in seen:
        made.add(tally, after)
    return made


@pytest.mark.parametrize("phase", Phase)
def test_a_phase_without_failures_is_a_success(phase: Phase) -> None:
    assert not list(complaints(record(phase), CAST))


@pytest.mark.parametrize("phase", [Phase.STEADY, Phase.BACKEND_JOINS, Phase.AGENT_KILLED])
def test_one_failed_request_spoils_a_phase_in_which_nothing_may_fail(phase: Phase) -> None:
    failure = Tally(failures=Counter({(4, "timeout"): 1}))
    assert list(complaints(record(phase, (1.0, failure)), CAST)) == ["1 requests failed"]


@pytest.mark.parametrize("phase", [Phase.STEADY, Phase.BACKEND_JOINS, Phase.AGENT_KILLED])
def test_one_broken_connection_spoils_a_phase_in_which_nothing_may_break(phase: Phase) -> None:
    broken = Tally(broken=Counter({"a": 1}))
    assert list(complaints(record(phase, (1.0, broken)), CAST)) == ["long connections broke: a"]


def test_a_killed_backend_may_cost_requests_until_its_checks_must_have_noticed() -> None:
    failure = Tally(failures=Counter({(6, "refused"): 30}))
    assert not list(complaints(record(Phase.BACKEND_KILLED, (NOTICE_SECONDS, failure)), CAST))
    late = list(complaints(record(Phase.BACKEND_KILLED, (NOTICE_SECONDS + 0.1, failure)), CAST))
    assert len(late) == 1
    assert late[0].startswith("30 requests failed later than")


def test_a_killed_backend_may_break_its_own_connections_only() -> None:
    own, other = Tally(broken=Counter({"b": 4})), Tally(broken=Counter({"c": 1}))
    assert not list(complaints(record(Phase.BACKEND_KILLED, (0.5, own)), CAST))
    assert list(complaints(record(Phase.BACKEND_KILLED, (0.5, own), (1.0, other)), CAST)) == [
        "long connections to living backends broke: c"
    ]


def test_a_backend_that_serves_only_one_family_is_missed() -> None:
    made = Record(Phase.STEADY)
    made.add(Tally(answers=Counter({(4, "a"): 1, (4, "b"): 1, (4, "c"): 1, (6, "a"): 1, (6, "b"): 1})), 1.0)
    assert list(complaints(made, CAST)) == ["no answer over IPv6 from c"]


def test_requests_that_were_never_sent_are_told() -> None:
    assert list(complaints(record(Phase.STEADY, (1.0, Tally(skipped=3))), CAST)) == [
        "3 requests were never sent: too many were waiting"
    ]


def test_a_tally_survives_its_way_between_processes() -> None:
    tally = Tally(Counter({(4, "a"): 2}), Counter({(6, "reset"): 1}), 7, Counter({"b": 1}), 0.25, 3)
    assert Tally.from_json(tally.to_json()) == tally
