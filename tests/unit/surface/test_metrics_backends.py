"""What a scrape shows of backends: answers, times, weights, signals, checks; and of how many."""

from dataclasses import replace

import pytest
from metrics_sample import backend, balancer, health, port, sample, scraped, values

from sluicegate_agent.reports.metrics import Sample
from sluicegate_agent.reports.view import BackendView, StatusView
from sluicegate_agent.signals.model import Reading, Report
from sluicegate_agent.weights.model import Decision


def of(**changes: object) -> str:
    """A scrape with one backend that differs from the one of which everything is known."""
    return scraped(sample(backend(**changes)))


def in_port(**changes: object) -> str:
    """The same for its port."""
    return scraped(Sample(StatusView(loadbalancers=(balancer(port(backend(), **changes)),))))


@pytest.mark.parametrize(
    ("name", "count"), [("requests", 30), ("responses", 29), ("resets", 2), ("unanswered", 3), ("empty_closes", 1)]
)
def test_what_the_kernel_counts_of_answers_is_shown(name: str, count: int) -> None:
    assert values(of(), f"sluicegate_lb_{name}_total") == {"": count}


def test_times_are_a_histogram_in_seconds_for_each_source() -> None:
    buckets = values(of(), "sluicegate_lb_backend_latency_seconds_bucket")
    # The kernel's buckets 0 to 5 are below 64 microseconds.
    assert buckets['source="handshake",le="6.4e-05"'] == sum(range(6))
    assert buckets['source="handshake",le="+Inf"'] == sum(range(24))
    counts = values(of(), "sluicegate_lb_backend_latency_seconds_count")
    assert counts == {'source="first_response"': sum(range(24)), 'source="handshake"': sum(range(24))}


@pytest.mark.parametrize("change", [{"mode": "DirectReturn"}, {"protocol": "UDP"}])
def test_nothing_is_claimed_of_answers_that_are_not_seen(change: dict[str, object]) -> None:
    text = in_port(**change)
    for name in ("requests_total", "responses_total", "unanswered_total", "backend_latency_seconds_count"):
        assert values(text, f"sluicegate_lb_{name}") == {}
    assert values(text, "sluicegate_lb_connections_total") == {"": 2}


def test_a_weight_is_shown_with_all_that_it_is_made_of() -> None:
    text = of()
    assert values(text, "sluicegate_lb_backend_weight") == {"": 100}
    assert values(text, "sluicegate_lb_backend_effective_weight") == {"": 81.5}
    assert values(text, "sluicegate_lb_backend_weight_factor") == {
        'factor="prior"': 0.9,
        'factor="guard"': 0.95,
        'factor="errors"': 0.1,
        'factor="slow_start"': 0.5,
    }
    assert values(text, "sluicegate_lb_backend_mean_latency_seconds") == {"": 0.012}


def test_a_backend_is_in_exactly_one_state_of_the_controller() -> None:
    for stated, shown in {"": "free", "drain": "drain", "probation": "probation"}.items():
        states = values(of(decision=Decision(0, state=stated)), "sluicegate_lb_backend_weight_state")
        assert len(states) == 6
        assert [state for state, value in states.items() if value == 1] == [f'state="{shown}"']


def test_without_a_decision_nothing_is_said_of_factors_and_states() -> None:
    text = of(decision=None)
    for name in ("weight_factor", "weight_state", "mean_latency_seconds"):
        assert values(text, f"sluicegate_lb_backend_{name}") == {}


def test_a_time_that_is_no_number_is_not_shown() -> None:
    for latency in (None, float("nan"), float("inf")):
        assert values(of(decision=Decision(1, latency=latency)), "sluicegate_lb_backend_mean_latency_seconds") == {}


def test_a_signal_shows_its_age_and_whether_it_fails() -> None:
    text = of()
    assert values(text, "sluicegate_lb_backend_signal_age_seconds") == {"": 1.5}
    assert values(text, "sluicegate_lb_backend_signal_failing") == {"": 0}
    assert values(text, "sluicegate_lb_backend_utilization_ratio") == {"": 0.6}
    failing = of(signal=Reading(None, None, "no answer within 1 s", 0), signal_age=None)
    assert values(failing, "sluicegate_lb_backend_signal_failing") == {"": 1}
    assert values(failing, "sluicegate_lb_backend_signal_age_seconds") == {}
    assert values(failing, "sluicegate_lb_backend_utilization_ratio") == {}


def test_a_backend_that_nobody_asks_has_no_signal() -> None:
    text = of(signal=None, signal_age=None)
    assert values(text, "sluicegate_lb_backend_signal_failing") == {}


def test_a_report_without_a_utilization_shows_none() -> None:
    assert values(of(signal=Reading(Report(share=0.5), 1.0)), "sluicegate_lb_backend_utilization_ratio") == {}


def test_an_operators_word_is_shown_with_its_end_and_counted() -> None:
    text = scraped(sample(backend(), backend("10.0.0.2", override=None)))
    shown = values(text, "sluicegate_lb_backend_override_expiry_timestamp_seconds")
    assert shown == {'action="drain"': 1_800_000_000.0}
    assert values(text, "sluicegate_overrides") == {"": 1}


def test_checks_are_shown_by_result_with_times_and_turns() -> None:
    text = scraped(sample())
    assert values(text, "sluicegate_lb_health_checks_total") == {
        'result="success"': 7,
        'result="failure"': 3,
        'result="inconclusive"': 1,
    }
    assert values(text, "sluicegate_lb_health_transitions_total") == {'to="up"': 2, 'to="down"': 1}
    buckets = values(text, "sluicegate_lb_health_check_duration_seconds_bucket")
    assert (buckets['le="0.001"'], buckets['le="0.005"'], buckets['le="5.0"'], buckets['le="+Inf"']) == (0, 1, 2, 2)
    assert values(text, "sluicegate_lb_health_check_duration_seconds_sum")[""] == pytest.approx(2.003)


def test_a_backend_that_is_not_checked_has_no_checks() -> None:
    text = scraped(replace(sample(), health={}))
    for name in ("checks_total", "transitions_total", "check_duration_seconds_count"):
        assert values(text, f"sluicegate_lb_health_{name}") == {}


def test_checks_belong_to_the_backend_of_that_address_alone() -> None:
    text = scraped(replace(sample(backend("fd00::1")), health=health("fd00::1")))
    assert 'backend="[fd00::1]:8080",to="up"} 2\n' in text
    assert values(scraped(replace(sample(), health=health("10.0.0.9"))), "sluicegate_lb_health_checks_total") == {}


def test_panic_and_conditions_are_shown() -> None:
    text = in_port(panic="1 of 4 backends is healthy")
    assert values(text, "sluicegate_lb_panic") == {"": 1}
    assert values(text, "sluicegate_lb_condition") == {'type="Ready"': 1}
    assert values(in_port(), "sluicegate_lb_panic") == {"": 0}


def backends_shown(text: str) -> set[str]:
    return {line.split('backend="')[1].split('"')[0] for line in text.splitlines() if 'backend="' in line}


def many(count: int) -> list[BackendView]:
    return [backend(f"10.0.0.{number}") for number in range(1, count + 1)]


def test_backends_beyond_the_limit_have_no_series_and_are_counted() -> None:
    text = scraped(sample(*many(5)), most_backends=3)
    assert backends_shown(text) == {"10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"}
    assert values(text, "sluicegate_metrics_backends_left_out") == {"": 2}


def test_the_limit_holds_over_all_ports_together() -> None:
    ports = [port(*many(2), name=name) for name in ("http", "https")]
    text = scraped(Sample(StatusView(loadbalancers=(balancer(*ports),))), most_backends=3)
    assert len(values(text, "sluicegate_lb_backend_weight")) == 1
    assert text.count("sluicegate_lb_backend_weight{") == 3
    assert values(text, "sluicegate_metrics_backends_left_out") == {"": 1}


def test_within_the_limit_nothing_is_left_out() -> None:
    text = scraped(sample(*many(5)), most_backends=5)
    assert len(backends_shown(text)) == 5
    assert values(text, "sluicegate_metrics_backends_left_out") == {"": 0}


def test_a_backend_that_left_takes_its_series_with_it() -> None:
    assert "10.0.0.2:8080" in scraped(sample(*many(2)))
    assert "10.0.0.2:8080" not in scraped(sample(*many(1)))


def test_programs_show_what_they_cost() -> None:
    text = scraped(sample())
    assert values(text, "sluicegate_program_run_seconds_total") == {'program="xdp_main"': 1.25}
    assert values(text, "sluicegate_program_runs_total") == {'program="xdp_main"': 1000}
