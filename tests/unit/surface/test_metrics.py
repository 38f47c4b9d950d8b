"""What a scrape shows."""

import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import replace

import pytest
from surface_moments import configured, document, moment

from sluicegate_agent.datapath.protocol import Census, Counters, Traffic, Verdict
from sluicegate_agent.failure import StartError
from sluicegate_agent.reports.metrics import MetricsServer, Sample
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.reports.status import status
from sluicegate_agent.settings import ListenAddress


def scrape(sample: Sample) -> list[str]:
    server = MetricsServer(ListenAddress("127.0.0.1", 0), lambda: sample)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            return [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    finally:
        server.close()


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


LABELS = 'backend="10.0.0.1:8080",{}loadbalancer="web",namespace="shop",port="http",protocol="TCP"'


def test_traffic_is_shown_by_backend_and_direction(situation: Situation) -> None:
    lines = scrape(Sample(status=status(situation)))
    labels, reply = LABELS.format(""), LABELS.format('direction="reply",')
    assert f"sluicegate_lb_connections_total{{{labels}}} 2.0" in lines
    assert f"sluicegate_lb_packets_total{{{reply}}} 3.0" in lines
    assert f"sluicegate_lb_bytes_total{{{reply}}} 300.0" in lines
    assert f"sluicegate_lb_active_flows{{{labels}}} 7.0" in lines


def test_a_backend_is_in_exactly_one_state(situation: Situation) -> None:
    lines = scrape(Sample(status=status(situation)))
    states = [line for line in lines if line.startswith("sluicegate_lb_backend_state") and "10.0.0.2:8080" in line]
    assert [line for line in states if line.endswith(" 1.0")] == [line for line in states if 'state="down"' in line]
    assert len(states) == 5


def test_health_checks_are_counted_by_result(situation: Situation) -> None:
    lines = scrape(Sample(status=status(situation)))
    checks = {
        line for line in lines if line.startswith("sluicegate_lb_health_checks_total") and "10.0.0.2:8080" in line
    }
    assert {line.rpartition("} ")[2] for line in checks if 'result="failure"' in line} == {"3.0"}
    assert {line.rpartition("} ")[2] for line in checks if 'result="success"' in line} == {"2.0"}


def test_every_verdict_is_shown_and_drops_by_direction() -> None:
    verdicts = (
        Verdict("xdp", "NO_FLOW", "drop", "unknown connection", 3, 180),
        Verdict("tc_egress", "NOT_OURS", "pass", "not ours", 5, 300),
    )
    lines = scrape(Sample(verdicts=verdicts, map_entries={"flows4": 2}, map_capacity={"flows4": 10}))
    assert 'sluicegate_packets_total{program="tc_egress",reason="not_ours",verdict="pass"} 5.0' in lines
    assert 'sluicegate_dropped_packets_total{direction="ingress",program="xdp",reason="no_flow"} 3.0' in lines
    assert not any(line.startswith("sluicegate_dropped") and "not_ours" in line for line in lines)
    assert 'sluicegate_map_entries{map="flows4"} 2.0' in lines
    assert 'sluicegate_map_capacity{map="flows4"} 10.0' in lines


def test_the_agents_own_state_is_shown(situation: Situation) -> None:
    sample = Sample(status=status(situation), config_generation=4, config_stale=True, reconcile_failures=2)
    lines = scrape(sample)
    assert "sluicegate_config_stale 1.0" in lines
    assert "sluicegate_config_generation 4.0" in lines
    assert "sluicegate_reconcile_failures_total 2.0" in lines
    assert 'sluicegate_xdp_attach_info{interface="eth0",mode="xdp"} 1.0' in lines
    assert any(line.startswith("sluicegate_build_info{version=") for line in lines)
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_a_port_in_use_is_told_with_the_way_to_find_who_uses_it(taken_port: int) -> None:
    with pytest.raises(StartError) as caught:
        MetricsServer(ListenAddress("127.0.0.1", taken_port), Sample)
    assert f"127.0.0.1:{taken_port}" in caught.value.message
    assert "ss -ltnp" in caught.value.remedy
    assert caught.value.exit_code == 1


def test_an_address_of_another_host_is_told_too() -> None:
    with pytest.raises(StartError) as caught:
        MetricsServer(ListenAddress("203.0.113.77", 0), Sample)
    assert "--metrics" in caught.value.remedy
