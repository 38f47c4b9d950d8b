"""What is checked, from the configuration."""

from __future__ import annotations

from ipaddress import ip_address

from plan_node import ONE, TWO
from plan_worlds import balancer

from sluicegate_agent.health.model import HttpQuestion, Target
from sluicegate_agent.planning.services import expand
from sluicegate_agent.planning.targets import health_targets, signal_targets
from sluicegate_agent.signals.targets import AgentQuestion, LoadQuestion, QueryQuestion, SignalTarget


def targets(**spec: object) -> list[Target]:
    return list(health_targets(expand(balancer(backends=[ONE, TWO], **spec))).values())


def test_each_backend_is_checked_on_its_own_port_with_the_timings_of_the_spec() -> None:
    first, second = targets(healthCheck={"intervalSeconds": 5, "timeoutSeconds": 3, "rise": 4, "fall": 6})
    assert (str(first.address), str(second.address)) == (ONE, TWO)
    assert (first.port, first.interval, first.timeout, first.rise, first.fall) == (8080, 5.0, 3.0, 4, 6)
    assert first.http is None


def test_an_http_check_asks_what_the_spec_says_on_the_port_it_says() -> None:
    check = {"type": "HTTP", "port": 9000, "path": "/healthz", "host": "shop.example", "expectedStatuses": [200, 204]}
    question = HttpQuestion("/healthz", "shop.example", frozenset({200, 204}))
    assert [(each.port, each.http) for each in targets(healthCheck=check)] == [(9000, question)] * 2


def test_an_http_check_with_nothing_said_wants_200_from_the_root() -> None:
    assert {each.http for each in targets(healthCheck={"type": "HTTP"})} == {HttpQuestion("/", None, frozenset({200}))}


def test_without_checks_there_is_nothing_to_check() -> None:
    assert targets(healthCheck={"type": "None"}) == []
    assert targets(ports=[{"name": "dns", "protocol": "UDP", "port": 53}]) == []


def asked(**weights: object) -> list[SignalTarget]:
    return list(signal_targets(expand(balancer(backends=[ONE, TWO], dynamicWeights=weights))).values())


def test_an_agent_is_asked_on_each_backend_at_its_own_port() -> None:
    found = asked(type="AgentCheck", agentCheck={"port": 9000}, intervalSeconds=3)
    assert [each.question for each in found] == [AgentQuestion(ip_address(each), 9000) for each in (ONE, TWO)]
    assert {(each.port, each.interval) for each in found} == {(8080, 3.0)}


def test_a_load_report_is_requested_at_the_root_unless_the_spec_says_where() -> None:
    found = [asked(type="HTTP", http={"port": 9000, **more}) for more in ({}, {"path": "/load"})]
    assert [each[0].question for each in found] == [
        LoadQuestion(ip_address(ONE), 9000, path) for path in ("/", "/load")
    ]


def test_backends_share_the_question_to_prometheus() -> None:
    prometheus = {"url": "http://prometheus.example:9090", "query": "load"}
    found = asked(type="Prometheus", prometheus=prometheus)
    assert {each.question for each in found} == {QueryQuestion(**prometheus)}
    assert [str(each.address) for each in found] == [ONE, TWO]


def test_nobody_is_asked_where_weights_are_configured_or_only_measured() -> None:
    assert asked() == asked(type="Passive") == []
