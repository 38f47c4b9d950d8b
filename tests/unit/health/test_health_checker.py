import asyncio
import logging
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from sluicegate_agent.health.checker import HealthChecker
from sluicegate_agent.health.model import HealthState, HttpQuestion, Outcome, Result, Target
from virtual_time import run

PASS = Outcome(Result.PASSED, "connected", 0.5)
FAIL = Outcome(Result.FAILED, "connection refused")
OWN_TROUBLE = Outcome(Result.INCONCLUSIVE, "could not check: no descriptors")

UNKNOWN, UP, DOWN = HealthState.UNKNOWN, HealthState.UP, HealthState.DOWN


def target(key="a", **changes):
    return replace(Target(key, IPv4Address("10.0.0.1"), 80, interval=2.0, timeout=1.0, rise=2, fall=3), **changes)


class Backends:
    """Answers checks as told and notes when each began."""

    def __init__(self, outcome=PASS, seconds=0.0):
        self.outcome = outcome
        self.seconds = seconds
        self.began = []
        self.running = 0
        self.most_running = 0

    async def check(self, checked):
        self.began.append((asyncio.get_running_loop().time(), checked.key, checked.port))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        return self.outcome

    def times(self, key):
        return [time for time, name, _port in self.began if name == key]


def checker(backends, **options):
    return HealthChecker(backends.check, seed=b"test", now=asyncio.get_running_loop().time, **options)


def test_a_new_target_is_checked_at_once():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            await asyncio.sleep(100)
            health.update({"a": target()})
            assert health.states["a"].state is UNKNOWN
            await asyncio.sleep(0.001)
            assert backends.times("a") == [100]
            assert health.states["a"].state is UP
            assert health.states["a"].last_ms == 0.5

    run(scenario())


def test_a_target_goes_down_after_its_failures_in_a_row_and_comes_back_after_its_passes():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            health.update({"a": target()})
            await asyncio.sleep(10)
            backends.outcome, before = FAIL, len(backends.began)
            await asyncio.wait_for(health.changed(), 1)  # the change to up
            await asyncio.wait_for(health.changed(), 10)
            assert len(backends.began) - before == 3
            assert (health.states["a"].state, health.states["a"].reason) == (DOWN, "connection refused")
            assert health.states["a"].since == asyncio.get_running_loop().time()
            backends.outcome, before = PASS, len(backends.began)
            await asyncio.wait_for(health.changed(), 10)
            assert len(backends.began) - before == 2
            assert health.states["a"].state is UP
            assert health.states["a"].failures == 3

    run(scenario())


def test_the_reason_tells_how_far_a_target_is_from_its_next_state():
    async def scenario():
        backends = Backends(FAIL)
        async with checker(backends) as health:
            health.update({"a": target(interval=1000)})
            await asyncio.sleep(1)
            assert health.states["a"].reason == "connection refused (1 of 3 in a row until it counts as down)"
            backends.outcome = PASS
            health.update({"b": target("b", interval=1000)}, {"b": DOWN})
            await asyncio.sleep(1)
            assert health.states["b"].reason == "connected (1 of 2 in a row until it counts as up)"

    run(scenario())


def test_checks_follow_the_interval_with_at_most_a_tenth_of_jitter():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            health.update({"a": target()})
            await asyncio.sleep(200)
        first, *rest = [
            after - before for before, after in zip(backends.times("a"), backends.times("a")[1:], strict=False)
        ]
        assert 1.0 <= first <= 3.02
        assert len(rest) > 90
        assert all(1.8 <= gap <= 2.22 for gap in rest)
        assert len({round(gap, 6) for gap in rest}) > 50

    run(scenario())


def test_a_thousand_targets_that_came_together_spread_evenly_over_the_interval():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            health.update({number: target(number) for number in range(1000)})
            await asyncio.sleep(3.05)
        seconds = [time for number in range(1000) for time in backends.times(number)[1:2]]
        assert len(seconds) == 1000
        tenths = Counter(min(int((time - 1.0) / 0.2), 9) for time in seconds)
        assert set(tenths) == set(range(10))
        assert all(60 <= count <= 140 for count in tenths.values())

    run(scenario())


def test_no_more_checks_run_at_once_than_allowed_and_every_target_gets_its_turn():
    async def scenario():
        backends = Backends(FAIL, seconds=1.0)
        async with checker(backends, at_once=10) as health:
            health.update({number: target(number) for number in range(100)})
            await asyncio.sleep(30.5)
            assert backends.most_running == 10
            counts = Counter(key for _time, key, _port in backends.began)
            assert set(counts) == set(range(100))
            assert max(counts.values()) - min(counts.values()) <= 1

    run(scenario())


def test_what_is_known_of_a_new_target_is_where_it_starts():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            health.update({"a": target()}, {"a": DOWN})
            assert health.states["a"].state is DOWN
            await asyncio.sleep(0.5)
            assert health.states["a"].state is DOWN
            await asyncio.sleep(3)
            assert health.states["a"].state is UP

    run(scenario())


def test_what_is_known_does_not_overrule_what_checks_found():
    async def scenario():
        async with checker(Backends()) as health:
            health.update({"a": target()})
            await asyncio.sleep(1)
            health.update({"a": target(interval=5)}, {"a": DOWN})
            assert health.states["a"].state is UP

    run(scenario())


def test_new_timings_keep_the_state_and_take_effect_within_the_new_interval():
    async def scenario():
        backends = Backends(FAIL)
        async with checker(backends) as health:
            health.update({"a": target(interval=1000, fall=1)})
            await asyncio.sleep(1)
            assert health.states["a"].state is DOWN
            health.update({"a": target(interval=1, fall=1)})
            assert health.states["a"].state is DOWN
            await asyncio.sleep(10.5)
            assert 9 <= len(backends.began) <= 12

    run(scenario())


def test_new_timings_during_a_check_do_not_start_a_second_one():
    async def scenario():
        backends = Backends(seconds=0.5)
        async with checker(backends) as health:
            health.update({"a": target()})
            await asyncio.sleep(0.1)
            health.update({"a": target(interval=4)})
            await asyncio.sleep(30)
            assert backends.most_running == 1
            assert health.states["a"].checks == len(backends.began) - backends.running

    run(scenario())


def test_another_port_is_checked_at_once_and_the_answer_of_the_old_one_is_void():
    async def scenario():
        backends = Backends(FAIL, seconds=1.0)
        async with checker(backends) as health:
            health.update({"a": target(fall=1)})
            await asyncio.sleep(0.5)
            backends.outcome = PASS
            health.update({"a": target(fall=1, port=81)})
            await asyncio.sleep(0.1)
            assert [(time, port) for time, _key, port in backends.began] == [(0, 80), (0.5, 81)]
            backends.outcome = FAIL  # the old check ends now, the new one later
            await asyncio.sleep(0.5)
            assert health.states["a"].checks == 0
            await asyncio.sleep(0.5)
            assert health.states["a"].checks == 1

    run(scenario())


def test_an_edited_http_request_keeps_the_state_and_is_asked_at_once():
    async def scenario():
        backends = Backends(FAIL)
        root = HttpQuestion("/", None, frozenset({200}))
        async with checker(backends) as health:
            health.update({"a": target(fall=1, interval=1000, http=root)})
            await asyncio.sleep(1)
            for question in (replace(root, path="/healthz"), replace(root, expected=frozenset({204})), None):
                began = len(backends.began)
                health.update({"a": target(fall=1, interval=1000, http=question)})
                assert health.states["a"].state is DOWN
                await asyncio.sleep(1)
                assert len(backends.began) == began + 1
                assert health.states["a"].state is DOWN

    run(scenario())


def test_new_timings_of_an_http_target_ask_nothing_new():
    async def scenario():
        backends = Backends()
        question = HttpQuestion("/healthz", "shop", frozenset({200}))
        async with checker(backends) as health:
            health.update({"a": target(interval=1000, http=question)})
            await asyncio.sleep(1)
            health.update({"a": target(interval=900, timeout=2.0, rise=5, fall=7, http=replace(question))})
            await asyncio.sleep(1)
            assert len(backends.began) == 1
            assert health.states["a"].state is UP

    run(scenario())


def test_a_removed_target_is_forgotten_even_while_it_is_checked():
    async def scenario():
        backends = Backends(FAIL, seconds=0.5)
        async with checker(backends) as health:
            health.update({"a": target()})
            await asyncio.sleep(0.1)
            health.update({})
            await asyncio.sleep(20)
            assert dict(health.states) == {}
            assert len(backends.began) == 1

    run(scenario())


def test_a_target_that_left_and_came_back_is_checked_as_often_as_before():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            for _ in range(5):
                health.update({"a": target()})
                await asyncio.sleep(0.1)
                health.update({})
            health.update({"a": target()})
            backends.began.clear()
            await asyncio.sleep(20)
            assert 8 <= len(backends.began) <= 12

    run(scenario())


def test_trouble_of_this_node_leaves_the_state_as_it_is():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            health.update({"a": target(fall=1)})
            await asyncio.sleep(1)
            backends.outcome = OWN_TROUBLE
            await asyncio.sleep(20)
            assert health.states["a"].state is UP
            assert health.states["a"].reason == "could not check: no descriptors"
            assert health.states["a"].checks == 1
            assert len(backends.began) > 5

    run(scenario())


def test_a_check_that_breaks_is_logged_and_the_target_checked_again(caplog):
    async def scenario():
        backends = Backends()

        async def broken(checked):
            await backends.check(checked)
            raise ValueError("bug")

        async with HealthChecker(broken, seed=b"test") as health:
            health.update({"a": target()})
            await asyncio.sleep(10)
            assert len(backends.began) >= 4
            assert health.states["a"].state is UNKNOWN

    with caplog.at_level(logging.ERROR):
        run(scenario())
    assert "a health check broke" in caplog.text


def test_a_new_reason_alone_wakes_nobody():
    async def scenario():
        backends = Backends()
        async with checker(backends) as health:
            health.update({"a": target(fall=1000)})
            await asyncio.sleep(1)
            await health.changed()
            backends.outcome = FAIL
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(health.changed(), 50)
            assert health.states["a"].failures > 20

    run(scenario())


def test_targets_given_before_the_start_are_checked_from_the_start():
    async def scenario():
        backends = Backends()
        health = checker(backends)
        health.update({"a": target()})
        await asyncio.sleep(5)
        assert backends.began == []
        async with health:
            await asyncio.sleep(0.1)
            assert backends.times("a") == [5]

    run(scenario())


def test_failures_on_one_port_do_not_count_against_another():
    async def scenario():
        backends = Backends(FAIL)
        async with checker(backends) as health:
            health.update({"a": target(interval=1000, fall=2)})
            await asyncio.sleep(1)
            health.update({"a": target(interval=1000, fall=2, port=81)})
            await asyncio.sleep(1)
            assert (health.states["a"].state, health.states["a"].failures) == (UNKNOWN, 2)

    run(scenario())
