"""What is counted of checks: how they ended, how long they took, how often the state turned."""

import asyncio
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.health.checker import HealthChecker
from sluicegate_agent.health.durations import BOUNDS, Durations
from sluicegate_agent.health.model import Health, HealthState, Outcome, Result, Target
from virtual_time import run

OUTCOMES = {
    "pass": Outcome(Result.PASSED, "connected", 7.0),
    "fail": Outcome(Result.FAILED, "connection refused"),
    "own": Outcome(Result.INCONCLUSIVE, "could not check: no descriptors"),
}


def after(*outcomes: str, rise: int = 1, fall: int = 1, start: HealthState = HealthState.UNKNOWN) -> Health:
    """What is known of a target whose checks ended like this, one after the other."""

    async def scenario() -> Health:
        left = list(outcomes)
        done = asyncio.Event()

        async def check(_target: Target) -> Outcome:
            if len(left) == 1:
                done.set()
            return OUTCOMES[left.pop(0)] if left else await asyncio.Future()

        target = Target("a", IPv4Address("10.0.0.1"), 80, interval=2.0, timeout=1.0, rise=rise, fall=fall)
        async with HealthChecker(check, seed=b"test", now=asyncio.get_running_loop().time) as health:
            health.update({"a": target}, {"a": start})
            await done.wait()
            await asyncio.sleep(0.01)
            return health.states["a"]

    return run(scenario())


def test_every_turn_of_the_state_is_counted_by_where_it_led():
    found = after("pass", "fail", "pass", "fail", "fail")
    assert (found.rises, found.falls) == (2, 2)
    assert found.state is HealthState.DOWN


def test_a_failure_that_does_not_turn_the_state_is_no_fall():
    found = after("pass", "fail", "pass", "fail", fall=2)
    assert (found.rises, found.falls, found.failures) == (1, 0, 2)


def test_a_target_that_starts_with_what_was_known_has_not_turned():
    found = after("pass", start=HealthState.UP)
    assert (found.rises, found.falls) == (0, 0)


def test_checks_that_this_node_could_not_carry_out_are_counted_apart():
    found = after("pass", "own", "fail", "own", "pass")
    assert (found.checks, found.failures, found.inconclusive) == (3, 1, 2)


def test_only_checks_that_passed_are_timed():
    found = after("pass", "fail", "own", "pass")
    assert found.durations.total == 2
    assert found.durations.counts[BOUNDS.index(0.01)] == 2
    assert abs(found.durations.seconds - 0.014) < 1e-9


def test_a_bound_is_part_of_its_own_bucket_and_what_is_longer_than_all_is_in_the_last():
    assert Durations().with_one(0.005).counts[BOUNDS.index(0.005)] == 1
    assert Durations().with_one(99.0).counts[-1] == 1


@given(st.lists(st.floats(min_value=0, max_value=60)))
def test_no_duration_is_lost(times):
    durations = Durations()
    for each in times:
        durations = durations.with_one(each)
    assert durations.total == len(times)
    for index, bound in enumerate(BOUNDS):
        assert sum(durations.counts[: index + 1]) == sum(each <= bound for each in times)
