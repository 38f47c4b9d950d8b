"""What is declared and not built yet is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Problems = Callable[..., list[tuple[str, str]]]


def _prometheus(url: str) -> dict[str, object]:
    return {"dynamicWeights": {"type": "Prometheus", "prometheus": {"url": url, "query": "up"}}}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"nodeSelector": {"matchLabels": {"role": "edge"}}}, "spec.nodeSelector"),
        ({"backends": {"serviceRef": {"name": "web"}}}, "spec.backends.serviceRef"),
        ({"backends": {"podSelector": {"matchLabels": {"app": "web"}}}}, "spec.backends.podSelector"),
        ({"forwarding": {"mode": "Tunnel"}}, "spec.forwarding.mode"),
        (_prometheus("http://reader:secret@prometheus:9090"), "spec.dynamicWeights.prometheus.url"),
        (_prometheus("https://token@prometheus/base"), "spec.dynamicWeights.prometheus.url"),
    ],
)
def test_a_field_that_is_not_built_yet_is_refused(spec: dict[str, object], path: str, problems: Problems) -> None:
    [(place, reason)] = problems(**spec)
    assert place == path
    assert reason.endswith("not supported here yet")


@pytest.mark.parametrize(
    "spec",
    [
        {"algorithm": "LeastLoad"},
        {"forwarding": {"mode": "DirectReturn"}, "ports": [{"port": 80}]},
        {"sessionAffinity": {"type": "ClientIP", "timeoutSeconds": 600}},
        {"sessionAffinity": {"type": "ClientIP"}, "algorithm": "RoundRobin"},
        {"healthCheck": {"type": "HTTP", "path": "/healthz", "host": "web", "expectedStatuses": [200, 204]}},
        {"allowedSources": ["198.51.100.0/24"]},
        {"maxNewConnectionsPerSecond": 50000},
        {"dynamicWeights": {"type": "AgentCheck", "agentCheck": {"port": 9707}, "intervalSeconds": 2}},
        {"dynamicWeights": {"type": "HTTP", "http": {"port": 80, "path": "/load"}}},
        {"dynamicWeights": {"type": "Passive"}, "slowStartSeconds": 30},
        {"forwarding": {"mode": "DNAT"}, "dynamicWeights": {"type": "Passive"}},
        {"slowStartSeconds": 10},
        _prometheus("http://prometheus.monitoring.svc:9090"),
        _prometheus("https://metrics.example/prometheus/"),
        _prometheus("http://[2001:db8::9]:9090/a@b"),
    ],
)
def test_what_is_built_is_not_refused(spec: dict[str, object], problems: Problems) -> None:
    assert problems(**spec) == []


def test_what_asks_for_nothing_is_not_refused(problems: Problems) -> None:
    assert problems(slowStartSeconds=0, sessionAffinity={"type": "None"}, dynamicWeights={"type": "None"}) == []


def test_what_is_not_built_is_named_beside_what_is_wrong(problems: Problems) -> None:
    found = problems(nodeSelector={}, drainSeconds=-1)
    assert sorted(path for path, _ in found) == ["spec.drainSeconds", "spec.nodeSelector"]


def test_metrics_of_pods_are_not_built_yet(problems: Problems) -> None:
    pods = {"podSelector": {"matchLabels": {"app": "web"}}}
    found = problems(backends=pods, dynamicWeights={"type": "PodMetrics"})
    assert ("spec.dynamicWeights.type", "PodMetrics is not supported here yet") in found


def test_a_refused_password_is_not_repeated(problems: Problems) -> None:
    [(_path, reason)] = problems(**_prometheus("http://reader:secret@prometheus:9090"))
    assert "secret" not in reason


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"nodeSelector": {}}, "spec.nodeSelector"),
        ({"attach": {"podSelector": {}}}, "spec.attach.podSelector"),
        ({"signatures": {"configMapRefs": [{"name": "rules", "key": "a"}]}}, "spec.signatures.configMapRefs"),
        ({"actions": [{"match": {"minRisk": 1}, "action": "Widen", "forSeconds": 5}]}, "spec.actions[0].action"),
        ({"actions": [{"match": {"minRisk": 1}, "action": "Capture"}]}, "spec.actions[0].action"),
        ({"export": {"pcap": {"directory": "/var/log/captures"}}}, "spec.export.pcap"),
    ],
)
def test_a_field_of_a_sniffer_that_is_not_built_yet_is_refused(
    spec: dict[str, object], path: str, sniffer_problems: Problems
) -> None:
    [(place, reason)] = sniffer_problems(**spec)
    assert place == path
    assert reason.endswith("not supported here yet")


def test_pods_of_other_namespaces_are_refused_by_both_names(sniffer_problems: Problems) -> None:
    found = sniffer_problems(attach={"podSelector": {}, "namespaceSelector": {"matchLabels": {"team": "a"}}})
    assert [path for path, _ in found] == ["spec.attach.podSelector", "spec.attach.namespaceSelector"]
    assert {reason for _, reason in found} == {"sniffing at pods is not supported here yet"}


def test_every_action_that_is_not_built_yet_is_named(sniffer_problems: Problems) -> None:
    kinds = ("Alert", "Widen", "Drop", "Capture")
    found = sniffer_problems(actions=[{"match": {"minRisk": 1}, "action": kind} for kind in kinds])
    assert found == [
        ("spec.actions[1].action", "Widen is not supported here yet"),
        ("spec.actions[3].action", "Capture is not supported here yet"),
    ]
