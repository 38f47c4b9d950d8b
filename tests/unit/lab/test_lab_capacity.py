"""Emulated backends have the capacity that queueing theory says, whatever the machine is busy with."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.lab.arrivals import arrivals
from sluicegate_agent.lab.capacity import ProcessorSharing

JOBS = 30_000
WORK = 0.02


def mean_response(cores: int, load: float, size: Callable[[random.Random], float], jobs: int = JOBS) -> float:
    """Mean time in the system of Poisson arrivals that use ``load`` (0..1) of the cores."""
    chance = random.Random(1)  # noqa: S311
    queue = ProcessorSharing(cores)
    arrived: dict[object, float] = {}
    now = total = 0.0
    for number in range(jobs):
        now += chance.expovariate(cores * load / WORK)
        queue.add(number, size(chance), now)
        arrived[number] = now
        total += sum(end - arrived[job] for job, end in queue.ended(now))
    return (total + sum(end - arrived[job] for job, end in queue.ended(math.inf))) / jobs


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1 / WORK)


def all_alike(chance: random.Random) -> float:
    return WORK


def mostly_tiny(chance: random.Random) -> float:
    """One in ten has nearly all of the work."""
    return 8.2 * WORK if chance.random() < 0.1 else 0.2 * WORK


@pytest.mark.parametrize("size", [exponential, all_alike, mostly_tiny])
def test_one_core_is_an_mg1_ps_queue_whose_mean_depends_on_the_load_alone(
    size: Callable[[random.Random], float],
) -> None:
    """E[T] = E[S] / (1 - load), for any distribution of sizes (Kleinrock 1976, vol. 2, 4.4)."""
    assert mean_response(1, 0.6, size) == pytest.approx(WORK / 0.4, rel=0.06)


def test_several_cores_are_as_an_mmc_queue_for_exponential_sizes() -> None:
    """The number of jobs is the same birth-death chain; so the mean is Erlang's C formula."""
    cores, load = 4, 0.8
    offered = cores * load
    waiting = offered**cores / math.factorial(cores) / (1 - load)
    chance_to_wait = waiting / (sum(offered**k / math.factorial(k) for k in range(cores)) + waiting)
    theory = WORK * (1 + chance_to_wait / (cores * (1 - load)))
    assert mean_response(cores, load, exponential, 4 * JOBS) == pytest.approx(theory, rel=0.05)


def test_two_jobs_share_one_core_until_one_has_ended() -> None:
    queue = ProcessorSharing(1)
    queue.add("long", 3.0, 0.0)
    queue.add("short", 1.0, 1.0)
    assert queue.next_end() == pytest.approx(3.0)
    assert queue.ended(10.0) == [("short", pytest.approx(3.0)), ("long", pytest.approx(4.0))]
    assert queue.next_end() is None


def test_no_job_gets_more_than_one_core() -> None:
    queue = ProcessorSharing(4)
    queue.add("only", 1.0, 0.0)
    assert queue.next_end() == pytest.approx(1.0)


def test_five_times_slower_takes_five_times_as_long_from_that_moment_on() -> None:
    queue = ProcessorSharing(1)
    queue.add("job", 2.0, 0.0)
    queue.set_speed(0.2, 1.0)
    assert queue.next_end() == pytest.approx(6.0)
    queue.set_speed(1.0, 3.5)
    assert queue.next_end() == pytest.approx(4.0)


def test_a_job_that_is_given_up_leaves_its_part_to_the_others() -> None:
    queue = ProcessorSharing(1)
    queue.add("stays", 2.0, 0.0)
    queue.add("leaves", 2.0, 0.0)
    queue.remove("leaves", 2.0)
    queue.remove("never came", 2.0)
    assert queue.ended(5.0) == [("stays", pytest.approx(3.0))]


def test_a_late_look_changes_nothing_but_when_it_is_noticed() -> None:
    prompt, late = ProcessorSharing(1), ProcessorSharing(1)
    ends = []
    for queue, looks in ((prompt, range(1, 100)), (late, (99,))):
        for number, size in enumerate((1.0, 5.0, 2.5)):
            queue.add(number, size, 0.0)
        ends.append([end for look in looks for end in queue.ended(look)])
    assert ends[0] == [(job, pytest.approx(at)) for job, at in ends[1]]


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.floats(0, 2), st.floats(0.001, 5), st.booleans()), min_size=1, max_size=40),
)
def test_every_job_ends_once_and_not_before_its_work_is_done(cores: int, jobs: list[tuple[float, float, bool]]) -> None:
    queue = ProcessorSharing(cores)
    now, wanted = 0.0, {}
    for number, (pause, size, given_up) in enumerate(jobs):
        now += pause
        queue.add(number, size, now)
        if given_up:
            queue.remove(number, now)
        else:
            wanted[number] = now + size
    ended = queue.ended(math.inf)
    assert {job for job, _ in ended} == set(wanted)
    assert len(ended) == len(wanted)
    assert all(end >= wanted[job] - 1e-6 for job, end in ended if isinstance(job, int))
    assert len(queue) == 0
    done, begun = sum(size for _, size, given_up in jobs if not given_up), jobs[0][0]
    assert max((end for _, end in ended), default=begun) >= begun + done / cores - 1e-6


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_no_cores_and_no_speed_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="can do no work"):
        ProcessorSharing(bad)
    with pytest.raises(ValueError, match="no job would ever end"):
        ProcessorSharing(1).set_speed(bad, 0.0)


def test_the_same_seed_is_the_same_trace() -> None:
    one, same, other = (list(islice(arrivals(seed, 100.0, WORK), 50)) for seed in (7, 7, 8))
    assert one == same != other


def test_a_trace_has_the_rate_and_the_work_that_it_was_asked_for() -> None:
    trace = list(islice(arrivals(3, 200.0, WORK), JOBS))
    assert trace[-1].at == pytest.approx(JOBS / 200.0, rel=0.02)
    assert sum(arrival.work for arrival in trace) / JOBS == pytest.approx(WORK, rel=0.02)
    assert all(before.at <= after.at for before, after in pairwise(trace))
