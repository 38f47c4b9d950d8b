"""What a scrape shows."""

import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest
from metrics_sample import scraped, values
from surface_moments import configured, document, moment

from sluicegate_agent.datapath.protocol import Census, Counters, ProgramRuns, Traffic, Verdict
from sluicegate_agent.failure import StartError
from sluicegate_agent.reports.metrics import MetricsServer, Sample
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.settings import ListenAddress


def scrape(sample: Sample) -> list[str]:
    return [line for line in scraped(sample).splitlines() if not line.startswith("#")]


@pytest.fixture
def situation() -> Situation:
    made = moment(configured(document()), down={"10.0.0.2": "refused"})
    identities = {str(key.address): identity for identity, key in made.desired.names.backends.items()}
    counters = Counters(backends={identities["10.0.0.1"]: Traffic(4, 400, 3, 300, 2, 0)})
    return replace(made, counters=counters, census=Census(flows={identities["10.0.0.1"]: 7}))


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


LABELS = 'namespace="shop",loadbalancer="web",port="http",protocol="TCP",backend="10.0.0.1:8080"'


def test_traffic_is_shown_by_backend_and_direction(situation: Situation) -> None:
    lines = scrape(Sample.of(situation))
    assert f"sluicegate_lb_connections_total{{{LABELS}}} 2" in lines
    assert f'sluicegate_lb_packets_total{{{LABELS},direction="reply"}} 3' in lines
    assert f'sluicegate_lb_bytes_total{{{LABELS},direction="reply"}} 300' in lines
    assert f"sluicegate_lb_active_flows{{{LABELS}}} 7" in lines


def test_a_backend_is_in_exactly_one_state(situation: Situation) -> None:
    lines = scrape(Sample.of(situation))
    states = [line for line in lines if line.startswith("sluicegate_lb_backend_state") and "10.0.0.2:8080" in line]
    assert [line for line in states if line.endswith(" 1.0")] == [line for line in states if 'state="down"' in line]
    assert len(states) == 5


def test_health_checks_are_counted_by_result(situation: Situation) -> None:
    lines = scrape(Sample.of(situation))
    checks = {
        line for line in lines if line.startswith("sluicegate_lb_health_checks_total") and "10.0.0.2:8080" in line
    }
    assert {line.rpartition("} ")[2] for line in checks if 'result="failure"' in line} == {"3"}
    assert {line.rpartition("} ")[2] for line in checks if 'result="success"' in line} == {"2"}


def test_every_verdict_is_shown_and_drops_by_direction() -> None:
    verdicts = (
        Verdict("xdp", "NO_FLOW", "drop", "unknown connection", 3, 180),
        Verdict("tc_egress", "NOT_OURS", "pass", "not ours", 5, 300),
    )
    lines = scrape(Sample(verdicts=verdicts, map_entries={"flows4": 2}, map_capacity={"flows4": 10}))
    assert 'sluicegate_packets_total{program="tc_egress",reason="not_ours",verdict="pass"} 5' in lines
    assert 'sluicegate_dropped_packets_total{program="xdp",reason="no_flow",direction="ingress"} 3' in lines
    assert not any(line.startswith("sluicegate_dropped") and "not_ours" in line for line in lines)
    assert 'sluicegate_map_entries{map="flows4"} 2' in lines
    assert 'sluicegate_map_capacity{map="flows4"} 10' in lines


def test_the_agents_own_state_is_shown(situation: Situation) -> None:
    lines = scrape(replace(Sample.of(situation), config_generation=4, config_stale=True, reconcile_failures=2))
    assert "sluicegate_config_stale 1.0" in lines
    assert "sluicegate_config_generation 4" in lines
    assert "sluicegate_reconcile_failures_total 2" in lines
    assert 'sluicegate_xdp_attach_info{interface="eth0",mode="xdp"} 1' in lines
    assert any(line.startswith("sluicegate_build_info{version=") for line in lines)


def test_the_state_of_files_and_attempts_is_that_of_the_moment(situation: Situation) -> None:
    broken = replace(situation, configuration=configured("kind: Nonsense"), config_generation=7, reconcile_failures=3)
    found = Sample.of(broken)
    assert (found.config_stale, found.config_generation, found.reconcile_failures) == (True, 7, 3)
    assert not Sample.of(situation).config_stale


def test_what_the_kernel_counts_of_programs_and_maps_is_shown(situation: Situation) -> None:
    counters = replace(
        situation.counters,
        verdicts=(Verdict("xdp", "no_flow", "drop", "unknown connection", 3, 180),),
        map_entries={"flows4": 2},
        map_capacity={"flows4": 10},
        runs={"xdp_main": ProgramRuns(0.5, 100)},
    )
    text = scraped(Sample.of(replace(situation, counters=counters)))
    assert values(text, "sluicegate_dropped_packets_total")
    assert values(text, "sluicegate_map_entries") == {'map="flows4"': 2}
    assert values(text, "sluicegate_map_capacity") == {'map="flows4"': 10}
    assert values(text, "sluicegate_program_runs_total") == {'program="xdp_main"': 100}


def test_the_endpoint_serves_our_metrics_and_those_of_the_process(situation: Situation) -> None:
    server = MetricsServer(ListenAddress("127.0.0.1", 0), lambda: Sample.of(situation), 1)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        server.close()
    assert "\nprocess_resident_memory_bytes " in text
    assert "\nsluicegate_config_stale 0.0" in text
    assert "\nsluicegate_metrics_backends_left_out 1" in text


def test_a_port_in_use_is_told_with_the_way_to_find_who_uses_it(taken_port: int) -> None:
    with pytest.raises(StartError) as caught:
        MetricsServer(ListenAddress("127.0.0.1", taken_port), Sample, 1000)
    assert f"127.0.0.1:{taken_port}" in caught.value.message
    assert "ss -ltnp" in caught.value.remedy
    assert caught.value.exit_code == 1


def test_an_address_of_another_host_is_told_too() -> None:
    with pytest.raises(StartError) as caught:
        MetricsServer(ListenAddress("203.0.113.77", 0), Sample, 1000)
    assert "--metrics" in caught.value.remedy
