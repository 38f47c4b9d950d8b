from hypothesis import given
from hypothesis import strategies as st

from sluicegate_agent.health.model import HealthState
from sluicegate_agent.health.streak import Streak

UNKNOWN, UP, DOWN = HealthState.UNKNOWN, HealthState.UP, HealthState.DOWN

results = st.lists(st.booleans(), max_size=40)
needed = st.integers(1, 5)


def states(start, passes, rise, fall):
    streak, found = Streak(start), []
    for passed in passes:
        streak = streak.after(passed=passed, rise=rise, fall=fall)
        found.append(streak.state)
    return found


@given(st.sampled_from(HealthState), results, needed, needed)
def test_a_state_changes_only_after_its_number_of_results_in_a_row(start, passes, rise, fall):
    before = start
    for count, after in enumerate(states(start, passes, rise, fall), 1):
        if (before, after) == (DOWN, UP):
            assert count >= rise
            assert all(passes[count - rise : count])
        elif after is DOWN and before is not DOWN:
            assert count >= fall
            assert not any(passes[count - fall : count])
        elif after is not before:
            assert (before, after, passes[count - 1]) == (UNKNOWN, UP, True)
        before = after


@given(st.sampled_from(HealthState), results, needed, needed)
def test_enough_results_of_one_kind_decide_whatever_came_before(start, passes, rise, fall):
    assert states(start, [*passes, *[False] * fall], rise, fall)[-1] is DOWN
    assert states(start, [*passes, *[True] * rise], rise, fall)[-1] is UP


def test_failures_between_passes_never_add_up():
    assert set(states(UP, [False, False, True] * 50, rise=2, fall=3)) == {UP}


def test_the_first_pass_brings_an_unknown_target_up():
    assert states(UNKNOWN, [True], rise=5, fall=1) == [UP]


def test_an_unknown_target_stays_unknown_while_its_failures_are_too_few():
    assert states(UNKNOWN, [False, False, False], rise=1, fall=3) == [UNKNOWN, UNKNOWN, DOWN]
