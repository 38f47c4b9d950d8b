"""What a scrape of a real agent tells after real traffic."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluicegate_agent.lab.counters import METRICS_PORT
from sluicegate_agent.lab.namespace import Namespace
from sluicegate_agent.lab.rig import VIP4, VIP6, RigOptions
from stage import Build

pytestmark = pytest.mark.lab

REQUESTS = 60
PROMTOOL = Path(__file__).parents[2] / ".tools" / "prometheus" / "usr" / "bin" / "promtool"


def scraped(balancer: Namespace) -> str:
    with balancer.inside():
        endpoint = socket.create_connection(("127.0.0.1", METRICS_PORT), 10)
    connection = http.client.HTTPConnection("127.0.0.1", METRICS_PORT)
    connection.sock = endpoint
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


def totals(text: str) -> Counter[str]:
    """Sums over all labels, by name."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value
    return found


def test_traffic_answers_weights_checks_and_programs_are_told(build: Build) -> None:
    stage = build(RigOptions(backends=2), SLUICEGATE_PROGRAM_STATISTICS="true")
    stage.balance(changes={"dynamicWeights": {"type": "Passive"}, "slowStartSeconds": 1})
    answers = [answer for vip in (VIP4, VIP6) for answer in stage.ask("tcp", vip, REQUESTS)]
    assert not [answer for answer in answers if answer.startswith("!")]

    text = scraped(stage.rig.balancer)
    found = totals(text)
    sent = len(answers)
    assert found["sluicegate_lb_connections_total"] == sent
    assert found["sluicegate_lb_requests_total"] == found["sluicegate_lb_responses_total"] == sent
    assert found["sluicegate_lb_resets_total"] == found["sluicegate_lb_unanswered_total"] == 0
    # One flow in eight is timed: that none of 120 is happens once in nine million runs.
    assert 0 < found["sluicegate_lb_backend_latency_seconds_count"] <= 2 * sent
    assert found["sluicegate_lb_backend_latency_seconds_sum"] > 0
    assert found["sluicegate_lb_health_check_duration_seconds_count"] > 0
    assert found["sluicegate_lb_health_transitions_total"] == 4
    assert found["sluicegate_lb_backend_weight_state"] == 4
    assert found["sluicegate_program_runs_total"] > sent
    assert found["sluicegate_program_run_seconds_total"] > 0
    assert found["sluicegate_map_capacity"] > found["sluicegate_map_entries"] > 0
    assert found["sluicegate_metrics_backends_left_out"] == found["sluicegate_config_stale"] == 0
    assert str(stage.rig.client4) not in text

    if PROMTOOL.exists():
        checked = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_backends_beyond_the_limit_and_backends_that_left_have_no_series(build: Build) -> None:
    stage = build(RigOptions(backends=2), SLUICEGATE_METRICS_BACKENDS="3")
    stage.balance(changes={"drainSeconds": 0})
    text = scraped(stage.rig.balancer)
    assert text.count("\nsluicegate_lb_backend_weight{") == 3
    assert "\nsluicegate_metrics_backends_left_out 1\n" in text

    stage.configure(stage.rig.backends[:1], changes={"drainSeconds": 0})
    stage.agent.wait_until("one host is left", lambda status: len(status.loadbalancers[0].ports[0].backends) == 2)
    text = scraped(stage.rig.balancer)
    assert str(stage.rig.backends[1].address4) not in text
    assert "\nsluicegate_metrics_backends_left_out 0\n" in text
