"""What is declared and not built yet is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Problems = Callable[..., list[tuple[str, str]]]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"nodeSelector": {"matchLabels": {"role": "edge"}}}, "spec.nodeSelector"),
        ({"backends": {"serviceRef": {"name": "web"}}}, "spec.backends.serviceRef"),
        ({"backends": {"podSelector": {"matchLabels": {"app": "web"}}}}, "spec.backends.podSelector"),
        ({"forwarding": {"mode": "Tunnel"}}, "spec.forwarding.mode"),
        ({"dynamicWeights": {"type": "AgentCheck", "agentCheck": {"port": 9707}}}, "spec.dynamicWeights.type"),
        ({"dynamicWeights": {"type": "HTTP", "http": {"port": 80, "path": "/load"}}}, "spec.dynamicWeights.type"),
        ({"dynamicWeights": {"type": "Passive"}}, "spec.dynamicWeights.type"),
        ({"slowStartSeconds": 10}, "spec.slowStartSeconds"),
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
    ],
)
def test_what_is_built_is_not_refused(spec: dict[str, object], problems: Problems) -> None:
    assert problems(**spec) == []


def test_what_asks_for_nothing_is_not_refused(problems: Problems) -> None:
    assert problems(slowStartSeconds=0, sessionAffinity={"type": "None"}, dynamicWeights={"type": "None"}) == []


def test_what_is_not_built_is_named_beside_what_is_wrong(problems: Problems) -> None:
    found = problems(slowStartSeconds=10, drainSeconds=-1)
    assert sorted(path for path, _ in found) == ["spec.drainSeconds", "spec.slowStartSeconds"]
