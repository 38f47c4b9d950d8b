"""Little's law on counters: the true mean time of simulated queues, and nothing where nothing is seen."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.signals.model import Load, Passive
from sluicegate_agent.signals.passive import FEW, LONGEST_GAP, PassiveMeter, Sight

STEP = 0.1
KEY = "a"


def measure(loads: Iterator[Load], ticks: int, *, sight: Sight | None = None, per_tick: int = 10) -> list[Passive]:
    """What a meter says that reads these counters every 100 ms and ticks every so many readings."""
    meter, said = PassiveMeter(), []
    sights = {KEY: sight} if sight else {}
    meter.sample(0.0, {KEY: next(loads)}, sights)
    for number in range(1, ticks * per_tick + 1):
        meter.sample(number * STEP, {KEY: next(loads)}, sights)
        if number % per_tick == 0:
            said.append(meter.tick()[KEY])
    return said


def queue(service: Callable[[], float], per_second: float, seed: int, turns: int = 1) -> Iterator[tuple[Load, float]]:
    """Counters every 100 ms of one server that serves requests in turn (M/G/1), and the mean time they took so far.

    Each connection makes ``turns`` requests, the next one when the last is answered, and then closes.
    """
    dice = random.Random(seed)  # noqa: S311 - a simulation
    events: list[tuple[float, int, int]] = []  # time, -1 for the end of service else the requests left after this one
    waiting: list[tuple[float, int]] = []
    counts = dict.fromkeys(("opened", "closed", "requests", "responses"), 0)
    heapq.heappush(events, (dice.expovariate(per_second), 0, turns))
    at, taken, busy, order = 0.0, 0.0, None, 1

    def begin(now: float) -> None:
        nonlocal busy, order
        if busy is None and waiting:
            busy = waiting.pop(0)
            heapq.heappush(events, (now + service(), order, -1))
            order += 1

    while True:
        while events[0][0] <= at:
            now, _order, what = heapq.heappop(events)
            if what == -1:
                assert busy is not None
                asked, left = busy
                taken += now - asked
                counts["responses"] += 1
                if left > 1:
                    counts["requests"] += 1
                    waiting.append((now, left - 1))
                else:
                    counts["closed"] += 1
                busy = None
            else:
                counts["opened"] += 1
                counts["requests"] += 1
                waiting.append((now, what))
                order += 1
                heapq.heappush(events, (now + dice.expovariate(per_second), order, what))
            begin(now)
        yield Load(**counts), taken / max(counts["responses"], 1)
        at += STEP


def without_requests(load: Load) -> Load:
    return replace(load, requests=0, responses=0)


def exponential(mean: float, seed: int = 7) -> Callable[[], float]:
    dice = random.Random(seed)  # noqa: S311 - a simulation
    return lambda: dice.expovariate(1 / mean)


SERVICES = {
    "M/M/1 at 50 %": (exponential(0.01), 50.0),
    "M/M/1 at 80 %": (exponential(0.02), 40.0),
    "M/D/1 at 80 %": (lambda: 0.02, 40.0),
    "M/D/1 with long times": (lambda: 0.3, 2.0),
}


def overall(said: list[Passive], of_flows: bool = False) -> float:
    """The mean time over all ticks: numbers and completions summed up before they are divided."""
    number = sum((passive.active if of_flows else passive.in_flight) * passive.seconds for passive in said)
    return number / sum(passive.closed if of_flows else passive.responses for passive in said)


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("of_flows", [False, True], ids=["requests", "flows"])
def test_the_mean_time_of_a_queue_is_found_without_a_clock_on_packets(name: str, of_flows: bool) -> None:
    service, per_second = SERVICES[name]
    process = queue(service, per_second, seed=3)
    true = 0.0

    def loads() -> Iterator[Load]:
        nonlocal true
        for load, true in process:  # noqa: B007 - the last one is read below
            yield without_requests(load) if of_flows else load

    said = measure(loads(), ticks=600)
    assert overall(said, of_flows) == pytest.approx(true, rel=0.05)
    told = [passive.latency for passive in said if passive.latency is not None]
    assert len(told) > 150
    assert sorted(told)[len(told) // 2] == pytest.approx(true, rel=0.6)  # of single ticks; queues come and go


def test_connections_of_many_requests_are_measured_by_their_requests() -> None:
    process = queue(lambda: 0.02, 4.0, seed=5, turns=10)
    said = measure((load for load, _true in process), ticks=300)
    true = next(process)[1]
    assert overall(said) == pytest.approx(true, rel=0.05)
    assert overall(said, of_flows=True) > 5 * true


def steady(in_flight: int, per_step: int, **more: int) -> Iterator[Load]:
    """So many requests under way at every reading, and so many answered between two."""
    number = 0
    while True:
        done = number * per_step
        more_now = {name: step * number for name, step in more.items()}
        yield Load(opened=in_flight + done, closed=done, requests=in_flight + done, responses=done, **more_now)
        number += 1


def test_a_steady_process_is_found_exactly() -> None:
    for passive in measure(steady(in_flight=6, per_step=20), ticks=3):
        assert passive.seconds == pytest.approx(1.0)
        assert (passive.active, passive.in_flight) == (pytest.approx(6.0), pytest.approx(6.0))
        assert (passive.new_flows, passive.responses, passive.closed, passive.failures) == (200, 200, 200, 0)
        assert passive.latency == pytest.approx(6 / 200)


def test_failures_are_all_ways_to_end_without_a_byte() -> None:
    [passive] = measure(steady(6, 20, resets=1, unanswered=2, empty_closes=3), ticks=1)
    assert passive.failures == 60


def test_a_change_shows_in_full_in_the_tick_after_it() -> None:
    def loads() -> Iterator[Load]:
        fast = [load for load, _ in zip(steady(in_flight=6, per_step=20), range(21), strict=False)]
        yield from fast
        before = fast[-1].responses
        for load in steady(in_flight=30, per_step=20):
            yield replace(
                load,
                opened=before + load.opened,
                closed=before + load.closed,
                requests=before + load.requests,
                responses=before + load.responses,
            )

    latencies = [passive.latency for passive in measure(loads(), ticks=4)]
    assert latencies[1] == pytest.approx(0.03)
    assert latencies[3] == pytest.approx(0.15)


def test_too_little_tells_nothing() -> None:
    def few() -> Iterator[Load]:
        yield Load(opened=1, requests=1)
        while True:
            yield Load(opened=FEW, requests=FEW, responses=FEW - 1, closed=FEW - 1)

    said = measure(few(), ticks=8)
    assert [passive.latency for passive in said] == [None] * 8
    idle = measure(iter([Load()] * 100), ticks=2)
    assert [(passive.seconds > 0, passive.active, passive.latency) for passive in idle] == [(True, 0.0, None)] * 2


def test_requests_that_no_reading_met_have_no_latency_however_many_were_answered() -> None:
    quick = steady(in_flight=0, per_step=1000)
    assert [(passive.responses, passive.latency) for passive in measure(quick, ticks=2)] == [(10_000, None)] * 2


def test_with_direct_return_nothing_of_replies_is_made_up() -> None:
    """The kernel counts what clients send: requests without an end, and the ends that clients make."""

    def loads() -> Iterator[Load]:
        number = 0
        while True:
            yield Load(opened=10 * number, closed=9 * number, requests=10 * number)
            number += 1

    for passive in measure(loads(), ticks=3, sight=Sight(replies=False)):
        assert (passive.in_flight, passive.responses, passive.failures, passive.latency) == (0.0, 0, 0, None)
        assert (passive.new_flows, passive.closed) == (100, 90)
        assert passive.active > 0


def test_the_end_of_silent_flows_is_no_latency() -> None:
    loads = (without_requests(load) for load in steady(in_flight=50, per_step=20))
    for passive in measure(loads, ticks=3, sight=Sight(ends=False)):
        assert passive.latency is None
        assert passive.active == pytest.approx(50)


def test_datagrams_with_answers_have_a_latency() -> None:
    [passive] = measure(steady(in_flight=6, per_step=20), ticks=1, sight=Sight(ends=False))
    assert passive.latency == pytest.approx(0.03)


def test_requests_that_clients_gave_up_are_not_under_way() -> None:
    def loads() -> Iterator[Load]:
        for number, load in enumerate(steady(in_flight=6, per_step=20)):
            yield replace(load, requests=load.requests + number, abandoned=number)

    [passive] = measure(loads(), ticks=1)
    assert passive.latency == pytest.approx(0.03)


def test_an_open_flow_has_one_request_at_most() -> None:
    """Requests whose flow vanished unseen stay counted; the sweep corrects the flows, and that bounds the requests."""

    def loads() -> Iterator[Load]:
        for load in steady(in_flight=6, per_step=20):
            yield replace(load, requests=load.requests + 500, opened=load.opened + 500, fix=-500)

    [passive] = measure(loads(), ticks=1)
    assert passive.in_flight == pytest.approx(6)


def test_an_id_that_went_to_another_backend_begins_anew() -> None:
    meter = PassiveMeter()
    loads = [load for load, _ in zip(steady(in_flight=6, per_step=20), range(16), strict=False)]
    for number, load in enumerate(loads[:11]):
        meter.sample(number * STEP, {KEY: load})
    assert meter.tick()[KEY].latency is not None
    meter.sample(1.1, {KEY: Load(opened=1, requests=1)})
    assert meter.tick() == {}
    meter.sample(1.2, {KEY: Load(opened=3, requests=3, responses=1, closed=1)})
    passive = meter.tick()[KEY]
    assert (passive.new_flows, passive.responses, passive.latency) == (2, 1, None)
    assert passive.seconds == pytest.approx(0.1)


@pytest.mark.parametrize("jump", [-100.0, 100.0, LONGEST_GAP + 0.1])
def test_time_in_which_nobody_read_the_counters_does_not_count(jump: float) -> None:
    meter = PassiveMeter()
    loads = steady(in_flight=6, per_step=20)
    now = 1000.0
    meter.sample(now, {KEY: next(loads)})
    for number in range(10):
        now += jump if number == 5 else STEP
        meter.sample(now, {KEY: next(loads)})
    passive = meter.tick()[KEY]
    assert passive.seconds == pytest.approx(0.9)
    assert passive.responses == 180
    assert passive.latency == pytest.approx(0.03)


def test_the_same_reading_twice_is_one() -> None:
    meter = PassiveMeter()
    for now, load in zip([0.0, 0.1, 0.1, 0.2], [Load(), Load(opened=1), Load(opened=1), Load(opened=2)], strict=True):
        meter.sample(now, {KEY: load})
    assert meter.tick()[KEY].new_flows == 2


def test_a_backend_that_left_is_forgotten_and_one_reading_is_none() -> None:
    meter = PassiveMeter()
    meter.sample(0.0, {"a": Load(), "b": Load()})
    meter.sample(0.1, {"a": Load(opened=1), "c": Load(opened=5)})
    said = meter.tick()
    assert set(said) == {"a"}
    assert said["a"].new_flows == 1
    assert meter.tick() == {}


counts = st.builds(
    Load,
    **{field.name: st.integers(0, 2**64 - 1) | st.integers(0, 50) for field in fields(Load) if field.name != "fix"},
    fix=st.integers(-(2**63), 2**63 - 1),
)
readings = st.tuples(st.floats(-1e9, 1e9) | st.floats(0, 5), counts, st.booleans())


@given(st.lists(readings, max_size=20), st.sampled_from([Sight(), Sight(replies=False), Sight(ends=False)]))
def test_whatever_the_counters_say_the_numbers_are_bounded_and_never_negative(
    given_readings: list[tuple[float, Load, bool]], sight: Sight
) -> None:
    meter = PassiveMeter()
    for now, load, ticks in given_readings:
        meter.sample(now, {KEY: load}, {KEY: sight})
        for passive in meter.tick().values() if ticks else ():
            assert passive.seconds > 0
            for field in fields(passive):
                value = getattr(passive, field.name)
                assert value is None or 0 <= value < float("inf"), field.name
            assert passive.latency is None or passive.latency > 0
