"""Every rule of a load balancer's spec: what is refused, where, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from sluicegate_api.common import ObjectKey, ObjectMeta
from sluicegate_api.loadbalancer import (
    Algorithm,
    Backends,
    HealthCheck,
    HealthCheckType,
    LoadBalancer,
    LoadBalancerSpec,
    Port,
    Protocol,
    StaticBackend,
)

Problems = Callable[..., list[tuple[str, str]]]
Manifest = Callable[..., dict[str, Any]]

ONE = {"static": [{"address": "10.0.0.5"}]}
PORT = {"port": 80}

REFUSED: dict[str, tuple[dict[str, object], str, str]] = {
    "a port above 65535": ({"ports": [{"port": 65536}]}, "spec.ports[0].port", "at most 65535"),
    "port 0": ({"ports": [{"port": 0}]}, "spec.ports[0].port", "at least 1"),
    "a port as text": ({"ports": [{"port": "80"}]}, "spec.ports[0].port", "without quotes"),
    "a port as a boolean": ({"ports": [{"port": True}]}, "spec.ports[0].port", "whole number, is true"),
    "a fraction": ({"drainSeconds": 1.5}, "spec.drainSeconds", "whole number, is 1.5"),
    "no ports": ({"ports": []}, "spec.ports", "at least one entry"),
    "too many ports": ({"ports": [{"port": n} for n in range(1, 66)]}, "spec.ports", "has 65 entries, at most 64"),
    "a protocol in small letters": ({"ports": [{"port": 80, "protocol": "tcp"}]}, "spec.ports[0].protocol", "TCP?"),
    "a port twice": ({"ports": [{"port": 80}, {"port": 81}, {"port": 80}]}, "spec.ports[2].port", "ports[0]"),
    "a port name twice": (
        {"ports": [{"port": 80}, {"port": 81, "name": "a"}, {"port": 82, "name": "a"}]},
        "spec.ports[2].name",
        "the name of ports[1]",
    ),
    "a port name with capitals": ({"ports": [{"port": 80, "name": "Http"}]}, "spec.ports[0].name", "lower case"),
    "a port name that is too long": ({"ports": [{"port": 80, "name": "a" * 64}]}, "spec.ports[0].name", "at most 63"),
    "a named target port of static backends": (
        {"ports": [{"port": 80, "targetPort": "http"}]},
        "spec.ports[0].targetPort",
        "must be a number",
    ),
    "a target port as digits in quotes": (
        {"ports": [{"port": 80, "targetPort": "8080"}]},
        "spec.ports[0].targetPort",
        "write the number 8080 without quotes",
    ),
    "a target port out of range": ({"ports": [{"port": 80, "targetPort": 0}]}, "spec.ports[0].targetPort", "is 0"),
    "no VIP": ({"addresses": []}, "spec.addresses", "at least one entry"),
    "17 VIPs": ({"addresses": [f"203.0.113.{n}" for n in range(17)]}, "spec.addresses", "at most 16"),
    "a VIP twice in different spelling": (
        {"addresses": ["2001:db8::1", "2001:DB8:0::1"], "backends": {"static": [{"address": "2001:db8::2"}]}},
        "spec.addresses[1]",
        "already listed in addresses[0]",
    ),
    "a VIP that is a backend": ({"addresses": ["10.0.0.6"]}, "spec.addresses[0]", "backends.static[1]"),
    "a VIP with a prefix length": ({"addresses": ["203.0.113.10/32"]}, "spec.addresses[0]", "without a prefix length"),
    "a VIP with a zone": ({"addresses": ["2001:db8::1%eth0"]}, "spec.addresses[0]", "zone"),
    "a VIP that is a name": ({"addresses": ["example.com"]}, "spec.addresses[0]", "not an IPv4 or IPv6 address"),
    "a VIP as a number": ({"addresses": [1]}, "spec.addresses[0]", "in quotes"),
    "no backends": ({"backends": {}}, "spec.backends", "one of static, serviceRef and podSelector is required"),
    "an empty list of backends": ({"backends": {"static": []}}, "spec.backends.static", "at least one entry"),
    "two sorts of backends": (
        {"backends": {**ONE, "serviceRef": {"name": "web"}}},
        "spec.backends.serviceRef",
        "cannot be combined with static",
    ),
    "a backend twice": (
        {"backends": {"static": [{"address": "10.0.0.5"}, {"address": "10.0.0.5", "weight": 1}]}},
        "spec.backends.static[1]",
        "10.0.0.5 is already listed in static[0]",
    ),
    "a backend once with the default port and once with its number": (
        {"backends": {"static": [{"address": "10.0.0.5"}, {"address": "10.0.0.5", "port": 8080}]}},
        "spec.backends.static[1]",
        "uses targetPort, which is 8080",
    ),
    "a backend's port with several ports": (
        {"ports": [{"port": 80}, {"port": 81}], "backends": {"static": [{"address": "10.0.0.5", "port": 8080}]}},
        "spec.backends.static[0].port",
        "there are 2",
    ),
    "a weight above 1000": (
        {"backends": {"static": [{"address": "10.0.0.5", "weight": 1001}]}},
        "spec.backends.static[0].weight",
        "at most 1000",
    ),
    "a negative weight": (
        {"backends": {"static": [{"address": "10.0.0.5", "weight": -1}]}},
        "spec.backends.static[0].weight",
        "at least 0",
    ),
    "513 backends": (
        {"backends": {"static": [{"address": f"10.0.{n // 250}.{n % 250 + 1}"} for n in range(513)]}},
        "spec.backends.static",
        "at most 512",
    ),
    "a Service's name with a dot": (
        {"backends": {"serviceRef": {"name": "a.b"}}},
        "spec.backends.serviceRef.name",
        "-",
    ),
    "a selector with In and no values": (
        {"backends": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}},
        "spec.backends.podSelector.matchExpressions[0].values",
        "is required with operator In",
    ),
    "a selector with Exists and values": (
        {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
        "spec.nodeSelector.matchExpressions[0].values",
        "has no meaning with operator Exists",
    ),
    "a label that cannot be": (
        {"nodeSelector": {"matchLabels": {"-a": "b"}}},
        'spec.nodeSelector.matchLabels["-a"]',
        "key",
    ),
    "a health check slower than its interval": (
        {"healthCheck": {"timeoutSeconds": 3}},
        "spec.healthCheck.timeoutSeconds",
        "intervalSeconds, which is 2",
    ),
    "a path without HTTP": ({"healthCheck": {"path": "/"}}, "spec.healthCheck.path", "needs type HTTP"),
    "a host without HTTP": ({"healthCheck": {"host": "a"}}, "spec.healthCheck.host", "needs type HTTP"),
    "statuses without HTTP": (
        {"healthCheck": {"type": "TCP", "expectedStatuses": [200]}},
        "spec.healthCheck.expectedStatuses",
        "needs type HTTP",
    ),
    "a status twice": (
        {"healthCheck": {"type": "HTTP", "expectedStatuses": [200, 200]}},
        "spec.healthCheck.expectedStatuses[1]",
        "already listed",
    ),
    "fields of a check that is switched off": (
        {"healthCheck": {"type": "None", "rise": 2}},
        "spec.healthCheck.rise",
        "no meaning with type None",
    ),
    "rise 0": ({"healthCheck": {"rise": 0}}, "spec.healthCheck.rise", "at least 1"),
    "fall above 100": ({"healthCheck": {"fall": 101}}, "spec.healthCheck.fall", "at most 100"),
    "a TCP check of UDP ports without a port": (
        {"ports": [{"port": 53, "protocol": "UDP"}], "healthCheck": {"rise": 1}},
        "spec.healthCheck.port",
        "all ports are UDP",
    ),
    "DirectReturn to another port": (
        {"forwarding": {"mode": "DirectReturn"}},
        "spec.ports[0].targetPort",
        "must be 80, the same as port",
    ),
    "DirectReturn to a backend's own port": (
        {
            "forwarding": {"mode": "DirectReturn"},
            "ports": [PORT],
            "backends": {"static": [{"address": "10.0.0.5", "port": 81}]},
        },
        "spec.backends.static[0].port",
        "must be 80",
    ),
    "an affinity timeout without affinity": (
        {"sessionAffinity": {"timeoutSeconds": 5}},
        "spec.sessionAffinity.timeoutSeconds",
        "needs type ClientIP",
    ),
    "an affinity of more than a day": (
        {"sessionAffinity": {"type": "ClientIP", "timeoutSeconds": 86401}},
        "spec.sessionAffinity.timeoutSeconds",
        "at most 86400",
    ),
    "dynamic weights without their field": (
        {"dynamicWeights": {"type": "AgentCheck"}},
        "spec.dynamicWeights.agentCheck",
        "is required with type AgentCheck",
    ),
    "dynamic weights with another's field": (
        {"dynamicWeights": {"type": "Passive", "http": {"port": 80}}},
        "spec.dynamicWeights.http",
        "needs type HTTP",
    ),
    "dynamic weights that are stale at once": (
        {"dynamicWeights": {"type": "Passive", "staleAfterSeconds": 1}},
        "spec.dynamicWeights.staleAfterSeconds",
        "must be longer than intervalSeconds",
    ),
    "pod metrics of static backends": (
        {"dynamicWeights": {"type": "PodMetrics"}},
        "spec.dynamicWeights.type",
        "need",
    ),
    "a Prometheus on this node": (
        {"dynamicWeights": {"type": "Prometheus", "prometheus": {"url": "http://127.0.0.1:9090", "query": "up"}}},
        "spec.dynamicWeights.prometheus.url",
        "loopback",
    ),
    "a Prometheus by the node's own name": (
        {"dynamicWeights": {"type": "Prometheus", "prometheus": {"url": "http://localhost:9090", "query": "up"}}},
        "spec.dynamicWeights.prometheus.url",
        "this node itself",
    ),
    "a Prometheus by a query": (
        {"dynamicWeights": {"type": "Prometheus", "prometheus": {"url": "http://p:9090/?query=up", "query": "up"}}},
        "spec.dynamicWeights.prometheus.url",
        "base URL",
    ),
    "a Prometheus on a port that is none": (
        {"dynamicWeights": {"type": "Prometheus", "prometheus": {"url": "http://p:90900", "query": "up"}}},
        "spec.dynamicWeights.prometheus.url",
        "host or port",
    ),
    "passive measurement of replies that go elsewhere": (
        {
            "forwarding": {"mode": "DirectReturn"},
            "ports": [PORT],
            "dynamicWeights": {"type": "Passive"},
        },
        "spec.dynamicWeights.type",
        "DirectReturn",
    ),
    "a slow start of more than an hour": ({"slowStartSeconds": 3601}, "spec.slowStartSeconds", "at most 3600"),
    "a source that is an address": ({"allowedSources": ["10.0.0.1"]}, "spec.allowedSources[0]", "no prefix length"),
    "a source with bits after its prefix": (
        {"allowedSources": ["198.51.100.7/24"]},
        "spec.allowedSources[0]",
        'did you mean "198.51.100.0/24"?',
    ),
    "a source with a netmask": (
        {"allowedSources": ["10.0.0.0/255.0.0.0"]},
        "spec.allowedSources[0]",
        'write "10.0.0.0/8"',
    ),
    "a source twice": ({"allowedSources": ["10.0.0.0/8"] * 2}, "spec.allowedSources[1]", "already listed"),
    "an interface name with a slash": ({"interfaces": ["a/b"]}, "spec.interfaces[0]", "interface name"),
    "an interface name longer than the kernel's": (
        {"interfaces": ["a" * 16]},
        "spec.interfaces[0]",
        "longer than the 15",
    ),
    "an interface twice": ({"interfaces": ["eth0", "eth0"]}, "spec.interfaces[1]", "already listed"),
    "a boolean in quotes": ({"paused": "true"}, "spec.paused", 'is "true": write it without quotes'),
    "a list where an object belongs": ({"idleTimeouts": []}, "spec.idleTimeouts", "must be an object, is a list"),
    "an object where a list belongs": ({"ports": {"port": 80}}, "spec.ports", "must be a list, is an object"),
    "text where a list belongs": ({"addresses": "203.0.113.10"}, "spec.addresses", "must be a list"),
    "an empty field": ({"algorithm": None}, "spec.algorithm", "is empty"),
    "a misspelt field": ({"healthcheck": {}}, "spec.healthcheck", "did you mean healthCheck?"),
    "a field in snake case": ({"drain_seconds": 5}, "spec.drain_seconds", "did you mean drainSeconds?"),
    "a field of nothing like it": ({"ports": [{"port": 1, "zzz": 1}]}, "spec.ports[0].zzz", "name, protocol, port"),
}


@pytest.mark.parametrize(("spec", "path", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_work_is_refused_once_with_its_place(
    spec: dict[str, object], path: str, words: str, problems: Problems
) -> None:
    found = [problem for problem in problems(**spec) if "not supported here yet" not in problem[1]]
    assert [place for place, _ in found] == [path]
    assert words in found[0][1]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("0.1.2.3", "this network"),
        ("255.255.255.255", "broadcast"),
        ("::ffff:10.0.0.1", "IPv4-mapped"),
    ],
)
def test_forbidden_addresses_are_refused_as_vip_and_as_backend(address: str, words: str, problems: Problems) -> None:
    [(path, reason)] = problems(addresses=[address, "203.0.113.10"])
    assert path == "spec.addresses[0]"
    assert words in reason
    [(path, reason)] = problems(backends={"static": [{"address": "10.0.0.5"}, {"address": address}]})
    assert path == "spec.backends.static[1].address"
    assert words in reason


@pytest.mark.parametrize(
    "spec",
    [
        {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {
            "ports": [PORT],
            "backends": {"static": [{"address": "10.0.0.5", "port": 1}, {"address": "10.0.0.5", "port": 2}]},
        },
        {"backends": {"static": [{"address": "10.0.0.5", "weight": 0}, {"address": "10.0.0.6", "weight": 1000}]}},
        {"addresses": ["2001:db8::10"], "backends": {"static": [{"address": "fd00::1"}]}},
        # A VIP whose family has no backend is a condition of the object: its other VIPs work.
        {"addresses": ["203.0.113.10", "2001:db8::10"]},
        {"healthCheck": {"type": "None"}},
        {"healthCheck": {"intervalSeconds": 1, "timeoutSeconds": 1}},
        {"ports": [{"port": 53, "protocol": "UDP"}], "healthCheck": {"port": 8053}},
        {"interfaces": ["eth0", "ens*", "a-very-long-glob-for-many-*"]},
        {"algorithm": "RoundRobin", "forwarding": {"mode": "DNAT"}, "paused": True},
        {"forwarding": {}, "sessionAffinity": {}, "dynamicWeights": {}, "idleTimeouts": {"udpSeconds": 5}},
    ],
)
def test_what_can_work_is_taken(spec: dict[str, object], problems: Problems) -> None:
    assert problems(**spec) == []


def test_defaults_are_those_of_the_reference(manifest: Manifest) -> None:
    spec = LoadBalancer.model_validate(manifest()).spec
    check = spec.effective_health_check(spec.ports[0])
    assert check is not None
    assert (check.type, check.port) == (HealthCheckType.TCP, None)
    assert (check.interval_seconds, check.timeout_seconds, check.rise, check.fall) == (2, 1, 2, 3)
    assert (spec.drain_seconds, spec.slow_start_seconds, spec.paused) == (30, 0, False)
    assert [backend.weight for backend in spec.backends.static or ()] == [100, 50]
    assert Port(port=80).effective_target_port == 80
    assert Port(port=80).label == "TCP/80"
    assert spec.ports[0].label == "http"
    assert spec.affinity_seconds == 0


@pytest.mark.parametrize(
    ("given", "protocol", "algorithm"),
    [
        ({}, Protocol.TCP, Algorithm.LEAST_LOAD),
        ({}, Protocol.UDP, Algorithm.MAGLEV),
        ({"sessionAffinity": {"type": "ClientIP"}}, Protocol.TCP, Algorithm.MAGLEV),
        ({"sessionAffinity": {"type": "ClientIP"}, "algorithm": "LeastLoad"}, Protocol.TCP, Algorithm.LEAST_LOAD),
        ({"algorithm": "RoundRobin"}, Protocol.UDP, Algorithm.ROUND_ROBIN),
    ],
)
def test_the_algorithm_follows_protocol_and_affinity_unless_it_is_given(
    given: dict[str, object], protocol: Protocol, algorithm: Algorithm, manifest: Manifest
) -> None:
    spec = LoadBalancer.model_validate(manifest(**given)).spec
    assert spec.effective_algorithm(Port(port=53, protocol=protocol)) is algorithm


def test_a_client_sticks_for_three_hours_unless_a_timeout_is_given(manifest: Manifest) -> None:
    def seconds(**affinity: object) -> int:
        return LoadBalancer.model_validate(manifest(sessionAffinity=affinity)).spec.affinity_seconds

    assert seconds(type="ClientIP") == 10_800
    assert seconds(type="ClientIP", timeoutSeconds=600) == 600
    assert seconds(type="None") == 0


def test_an_http_check_asks_for_the_root_and_wants_200_unless_told_otherwise() -> None:
    check = HealthCheck(type=HealthCheckType.HTTP)
    assert (check.effective_path, check.effective_statuses) == ("/", {200})
    check = HealthCheck(type=HealthCheckType.HTTP, path="/healthz", expected_statuses=(204, 200))
    assert (check.effective_path, check.effective_statuses) == ("/healthz", {200, 204})


def test_udp_ports_are_probed_only_when_a_port_is_given(manifest: Manifest) -> None:
    udp = Port(port=53, protocol=Protocol.UDP)
    without = LoadBalancer.model_validate(manifest()).spec
    given = LoadBalancer.model_validate(manifest(healthCheck={"port": 8053})).spec
    assert without.effective_health_check(udp) is None
    assert given.effective_health_check(udp) == HealthCheck(port=8053)
    off = LoadBalancer.model_validate(manifest(healthCheck={"type": "None"})).spec
    assert off.effective_health_check(off.ports[0]) is None


def test_idle_time_follows_the_protocol(manifest: Manifest) -> None:
    spec = LoadBalancer.model_validate(manifest(idleTimeouts={"tcpSeconds": 7, "udpSeconds": 5})).spec
    assert spec.idle_seconds(Port(port=53, protocol=Protocol.UDP)) == 5
    assert spec.idle_seconds(Port(port=53)) == 7


def test_models_are_values_that_programs_can_build_with_python_names() -> None:
    built = LoadBalancer(
        metadata=ObjectMeta(name="web", namespace="shop"),
        spec=LoadBalancerSpec(
            addresses=(ip_address("203.0.113.10"),),
            ports=(Port(port=80, target_port=8080),),
            backends=Backends(static=(StaticBackend(address=ip_address("10.0.0.5")),)),
        ),
    )
    assert built.key == ObjectKey("shop", "web")
    assert LoadBalancer.model_validate(built.model_dump(mode="json", by_alias=True, exclude_none=True)) == built
    with pytest.raises(ValidationError, match="frozen"):
        built.spec.paused = True  # type: ignore[misc]
