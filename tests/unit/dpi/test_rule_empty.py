"""Which rules need TCP segments without data."""

from __future__ import annotations

import pytest
from test_rule_matching import read

from sluicegate_agent.dpi.rules.build import compiled, tables_of
from sluicegate_agent.dpi.rules.empty import needs_empty_segments

SETS = {
    "a content": ('alert tcp any any -> any any (flow:established; content:"x"; sid:1;)', False),
    "no pattern": ("alert tcp any any -> any 23 (sid:1;)", False),
    "no pattern, towards the client": ("alert tcp any any -> any any (flow:to_client; sid:1;)", False),
    "no data": ("alert tcp any any -> any any (dsize:0; sid:1;)", False),
    "no pattern, established": ("alert tcp any any -> any 23 (flow:established,to_server; sid:1;)", True),
    "any protocol, established": ("alert ip any any -> any any (flow:established; sid:1;)", True),
    "few bytes, established": ("alert tcp any any -> any any (flow:established; dsize:<5; sid:1;)", True),
    "some bytes, established": ("alert tcp any any -> any any (flow:established; dsize:>5; sid:1;)", False),
    "only what is not there": ('alert tcp any any -> any any (flow:established; content:!"x"; sid:1;)', False),
    "another protocol": ("alert udp any any -> any any (flow:established; sid:1;)", False),
    "an application": ("alert ssh any any -> any any (flow:established; sid:1;)", False),
    "no data in an application": ("alert http any any -> any any (dsize:0; sid:1;)", True),
}


@pytest.mark.parametrize(("rule", "needed"), SETS.values(), ids=SETS)
def test_a_rule_that_a_bare_acknowledgement_can_decide_needs_empty_segments(rule: str, needed: bool) -> None:
    assert needs_empty_segments(tables_of([compiled(read(rule))])) is needed


def test_one_such_rule_of_many_is_enough() -> None:
    rules = [compiled(read(rule.replace("sid:1", f"sid:{at}"))) for at, (rule, _) in enumerate(SETS.values(), 1)]
    assert needs_empty_segments(tables_of(rules))
    assert not needs_empty_segments(tables_of([]))
