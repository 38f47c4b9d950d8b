"""From texts to objects: every error of every document at once, in words for operators."""

from __future__ import annotations

import json
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from sluicegate_api.claims import Claim
from sluicegate_api.common import ObjectKey
from sluicegate_api.ports import Protocol
from sluicegate_api.validation import ValidationResult, validate_documents

Manifest = Callable[..., dict[str, Any]]


def lines(result: ValidationResult) -> list[str]:
    return [str(problem) for problem in result.problems]


def test_a_valid_object_comes_with_its_place(manifest: Manifest) -> None:
    text = yaml.safe_dump_all([None, manifest(), manifest(name="api", addresses=["203.0.113.11"])])
    result = validate_documents([("lb.yaml", text)])
    assert lines(result) == []
    assert [(str(each.object.key), each.source, each.document) for each in result.loadbalancers] == [
        ("shop/web", "lb.yaml", 1),
        ("shop/api", "lb.yaml", 2),
    ]


def test_all_errors_of_all_documents_are_reported_at_once(manifest: Manifest) -> None:
    first = manifest(
        addresses=["203.0.113.10", "203.0.113.10", "127.0.0.1"],
        ports=[{"port": 80}, {"port": 80}, {"port": 0}],
        backends={"static": [{"address": "10.0.0.5", "weight": "7"}, {"address": "10.0.0.5"}]},
        healthCheck={"timeoutSeconds": 5, "fall": 0},
        nodeSelector={},
    )
    second = manifest(name="Api", forwarding={"mode": "NAT"})
    del second["spec"]["ports"]
    result = validate_documents([("a.yaml", yaml.safe_dump(first)), ("b.yaml", yaml.safe_dump(second))])
    assert result.loadbalancers == ()
    assert {(p.source, p.object, p.path) for p in result.problems} == {
        ("a.yaml", "LoadBalancer shop/web", path)
        for path in (
            "spec.addresses[1]",
            "spec.addresses[2]",
            "spec.ports[1].port",
            "spec.ports[2].port",
            "spec.backends.static[0].weight",
            "spec.backends.static[1]",
            "spec.healthCheck.timeoutSeconds",
            "spec.healthCheck.fall",
            "spec.nodeSelector",
        )
    } | {("b.yaml", "LoadBalancer shop/Api", path) for path in ("metadata.name", "spec.forwarding.mode", "spec.ports")}


def test_a_wrong_field_causes_no_further_complaints(manifest: Manifest) -> None:
    text = json.dumps(
        manifest(
            healthCheck={"type": "Http", "path": "/", "intervalSeconds": "9", "timeoutSeconds": 5},
            ports=[{"port": 80, "protocol": "tcp"}, {"port": 80}],
            backends={"static": [{"address": "x"}]},
        )
    )
    assert {problem.path for problem in validate_documents([("lb", text)]).problems} == {
        "spec.healthCheck.type",
        "spec.healthCheck.intervalSeconds",
        "spec.ports[0].protocol",
        "spec.backends.static[0].address",
    }


def test_a_problem_is_one_line_of_file_object_field_and_reason(manifest: Manifest) -> None:
    text = json.dumps(manifest(ports=[{"port": 70000}]))
    assert lines(validate_documents([("lb.yaml", text)])) == [
        "lb.yaml: LoadBalancer shop/web: spec.ports[0].port: must be at most 65535, is 70000"
    ]


def test_objects_without_a_name_are_told_by_their_place() -> None:
    text = "---\napiVersion: sluicegate.io/v1alpha1\nkind: LoadBalancer\n---\n- 1\n"
    assert lines(validate_documents([("lb.yaml", text)])) == [
        "lb.yaml: document 1 (line 2): metadata: is required",
        "lb.yaml: document 1 (line 2): spec: is required",
        "lb.yaml: document 2 (line 5): must be an object with apiVersion, kind, metadata and spec, is a list",
    ]


def test_other_kinds_and_versions_are_named(manifest: Manifest) -> None:
    documents = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}},
        {**manifest(), "apiVersion": "sluicegate.io/v1beta1"},
        {"metadata": {"name": "web"}},
        {"apiVersion": "sluicegate.io/v1alpha1", "kind": "loadbalancer"},
        {"apiVersion": "sluicegate.io/v1alpha1", "kind": "DPISniffer"},
        {"apiVersion": "sluicegate.io/v1alpha1", "kind": ["DpiSniffer"]},
    ]
    found = [(p.path, p.reason) for p in validate_documents([("f", yaml.safe_dump_all(documents))]).problems]
    assert found == [
        ("apiVersion", 'must be sluicegate.io/v1alpha1, is "v1"'),
        ("kind", 'must be LoadBalancer or DpiSniffer, is "Service"'),
        ("apiVersion", 'must be sluicegate.io/v1alpha1, is "sluicegate.io/v1beta1"'),
        ("apiVersion", "is required: write sluicegate.io/v1alpha1"),
        ("kind", "is required: write LoadBalancer or DpiSniffer"),
        ("kind", 'must be LoadBalancer or DpiSniffer, is "loadbalancer": did you mean LoadBalancer?'),
        ("kind", 'must be LoadBalancer or DpiSniffer, is "DPISniffer": did you mean DpiSniffer?'),
        ("kind", "must be LoadBalancer or DpiSniffer, is a list"),
    ]


def test_the_same_name_twice_keeps_the_first(manifest: Manifest) -> None:
    second = manifest(addresses=["203.0.113.99"])
    result = validate_documents([("a.yaml", json.dumps(manifest())), ("b.yaml", json.dumps(second))])
    assert [each.source for each in result.loadbalancers] == ["a.yaml"]
    assert lines(result) == [
        "b.yaml: LoadBalancer shop/web: metadata.name: shop/web is already defined in document 1 of a.yaml"
    ]


def test_a_sniffer_comes_with_its_place_and_may_have_a_load_balancers_name(
    manifest: Manifest, sniffer: Manifest
) -> None:
    texts = [("lb.yaml", json.dumps(manifest(name="a"))), ("dpi.yaml", yaml.safe_dump_all([None, sniffer(name="a")]))]
    result = validate_documents(texts)
    assert lines(result) == []
    assert [str(each.object.key) for each in result.loadbalancers] == ["shop/a"]
    assert [(str(each.object.key), each.source, each.document) for each in result.sniffers] == [
        ("shop/a", "dpi.yaml", 1)
    ]


def test_the_same_sniffer_twice_keeps_the_first(sniffer: Manifest) -> None:
    second = json.dumps(sniffer(paused=True))
    result = validate_documents([("a.yaml", json.dumps(sniffer())), ("b.yaml", second)])
    assert [each.source for each in result.sniffers] == ["a.yaml"]
    assert lines(result) == [
        "b.yaml: DpiSniffer shop/edge: metadata.name: shop/edge is already defined in document 1 of a.yaml"
    ]


def test_a_sniffer_without_a_spec_or_above_256_kib_is_refused(sniffer: Manifest) -> None:
    without = {key: value for key, value in sniffer().items() if key != "spec"}
    assert lines(validate_documents([("a", json.dumps(without))])) == ["a: DpiSniffer shop/edge: spec: is required"]
    large = sniffer(signatures={"files": ["x" * 300_000]})
    assert "spec" in {problem.path for problem in validate_documents([("a", json.dumps(large))]).problems}


def test_an_overlap_is_told_to_the_later_one_unless_it_holds_the_port(manifest: Manifest) -> None:
    texts = [("a.yaml", json.dumps(manifest())), ("b.yaml", json.dumps(manifest(name="api")))]
    [problem] = validate_documents(texts).problems
    assert (problem.source, problem.object, problem.path) == ("b.yaml", "LoadBalancer shop/api", "spec.ports[0].port")
    assert "held by LoadBalancer shop/web" in problem.reason
    holders = {Claim(ip_address("203.0.113.10"), Protocol.TCP, 80): ObjectKey("shop", "api")}
    [problem] = validate_documents(texts, holders=holders).problems
    assert problem.object == "LoadBalancer shop/web"


def test_objects_as_the_cluster_prints_them_are_taken(manifest: Manifest) -> None:
    printed = {**manifest(), "status": {"observedGeneration": 3, "whatever": None}}
    printed["metadata"] |= {
        "creationTimestamp": None,
        "resourceVersion": "7",
        "managedFields": [{"fieldsV1": {"f:spec": {}}}],
        "uid": "0b1c",
        "generation": 3,
        "labels": {"a": "b"},
        "annotations": {"c": "d"},
    }
    assert lines(validate_documents([("lb.yaml", yaml.safe_dump(printed))])) == []


def test_a_namespace_is_default_when_there_is_none(manifest: Manifest) -> None:
    document = manifest()
    del document["metadata"]["namespace"]
    [loaded] = validate_documents([("lb", json.dumps(document))]).loadbalancers
    assert loaded.object.key == ObjectKey("default", "web")


def test_names_follow_rfc_1123(manifest: Manifest) -> None:
    for name in ("Web", "-web", "web-", "web_1", "a" * 254, "", "a..b", "web\n"):
        result = validate_documents([("lb", json.dumps(manifest(name=name)))])
        assert [problem.path for problem in result.problems] == ["metadata.name"], name
    for namespace in ("Shop", "a.b", "a" * 64):
        result = validate_documents([("lb", json.dumps(manifest(namespace=namespace)))])
        assert [problem.path for problem in result.problems] == ["metadata.namespace"], namespace
    assert not validate_documents([("lb", json.dumps(manifest(name="web.v2-1")))]).problems


def test_a_spec_above_256_kib_is_refused(manifest: Manifest) -> None:
    text = json.dumps(manifest(interfaces=["x" * 300_000]))
    found = {problem.path: problem.reason for problem in validate_documents([("lb", text)]).problems}
    assert found["spec"].endswith("at most 262144 are allowed")


def test_the_reference_example_is_refused_only_for_what_is_not_built_yet() -> None:
    text = """
apiVersion: sluicegate.io/v1alpha1
kind: LoadBalancer
metadata: {name: web, namespace: shop}
spec:
  nodeSelector: {matchLabels: {role: edge}}
  interfaces: [eth0, "ens*"]
  addresses: ["203.0.113.10", "2001:db8::10"]
  ports: [{name: http, protocol: TCP, port: 80, targetPort: 8080}]
  algorithm: LeastLoad
  forwarding: {mode: FullNAT}
  backends: {static: [{address: "10.0.0.5", weight: 100}, {address: "10.0.0.6", port: 8081}]}
  healthCheck: {type: HTTP, port: 8080, path: /healthz, expectedStatuses: [200], intervalSeconds: 2, timeoutSeconds: 1,
    rise: 2, fall: 3}
  dynamicWeights: {type: AgentCheck, agentCheck: {port: 9707}, intervalSeconds: 1, staleAfterSeconds: 10}
  sessionAffinity: {type: ClientIP, timeoutSeconds: 600}
  slowStartSeconds: 10
  drainSeconds: 30
  allowedSources: ["198.51.100.0/24"]
  maxNewConnectionsPerSecond: 50000
  idleTimeouts: {tcpSeconds: 3600, udpSeconds: 60}
"""
    problems = validate_documents([("lb.yaml", text)]).problems
    assert [problem.path for problem in problems] == ["spec.nodeSelector"]
    assert problems[0].reason.endswith("not supported here yet")


def test_the_reference_sniffer_is_refused_only_for_what_is_not_built_yet() -> None:
    text = r"""
apiVersion: sluicegate.io/v1alpha1
kind: DpiSniffer
metadata: {name: edge, namespace: shop}
spec:
  attach: {interfaces: [eth0]}
  sniff:
    - {name: web, protocols: [TCP], destination: {cidrs: ["10.0.0.0/8"], ports: [80, 443, "8000-8999"]}}
    - {name: backup, source: {cidrs: ["10.9.0.0/16"]}, ignore: true}
  budget: {payloadPackets: 16, payloadBytes: 16384, maxPackets: 24, adaptive: true}
  classify: {depth: Lean}
  signatures:
    inline: "alert http any any -> any any (msg:\"probe\"; content:\"/etc/passwd\"; sid:1000001;)"
    configMapRefs: [{name: rules, key: local.rules}]
    files: []
  variables: {HOME_NET: "[10.0.0.0/8]"}
  actions:
    - {name: block, match: {signatureIds: [1000001]}, action: Drop, forSeconds: 60}
    - {name: keep, match: {protocols: [BitTorrent], minRisk: 50}, action: Capture}
  export:
    eve: {type: File, path: /var/log/sluicegate/eve.json}
    pcap: {directory: /var/log/sluicegate, maxBytes: 52428800}
"""
    problems = validate_documents([("dpi.yaml", text)]).problems
    assert [problem.path for problem in problems] == [
        "spec.signatures.configMapRefs",
        "spec.actions[1].action",
        "spec.export.pcap",
    ]
    assert all(problem.reason.endswith("not supported here yet") for problem in problems)


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from(["", "TCP", "HTTP", "10.0.0.5", "::1", "a b"]),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(st.sampled_from(["port", "address", "type", "static", "name", "x"]), parts, max_size=3)
    ),
    max_leaves=10,
)
fields = st.sampled_from(
    ["addresses", "ports", "backends", "healthCheck", "interfaces", "forwarding", "dynamicWeights", "paused", "zzz"]
)


@given(st.dictionaries(fields, junk, max_size=5))
def test_whatever_a_spec_holds_it_is_either_usable_or_explained(spec: dict[str, object]) -> None:
    document = {
        "apiVersion": "sluicegate.io/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": {"name": "web"},
        "spec": {
            "addresses": ["203.0.113.10"],
            "ports": [{"port": 80}],
            "backends": {"static": [{"address": "10.0.0.9"}]},
            **spec,
        },
    }
    result = validate_documents([("lb", json.dumps(document))])
    assert bool(result.loadbalancers) != bool(result.problems)
    assert len(set(result.problems)) == len(result.problems)
    assert all(problem.path.startswith("spec.") and problem.reason for problem in result.problems)


sniffer_junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from(["", "TCP", "80-90", "10.0.0.0/8", "Drop"]),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "ports", "cidrs", "source", "match", "action", "minRisk", "eve", "depth", "inline"]
            ),
            parts,
            max_size=3,
        )
    ),
    max_leaves=10,
)
sniffer_fields = st.sampled_from(
    ["attach", "sniff", "budget", "classify", "signatures", "variables", "actions", "export", "paused", "zzz"]
)


@given(st.dictionaries(sniffer_fields, sniffer_junk, max_size=5))
def test_whatever_a_sniffer_holds_it_is_either_usable_or_explained(spec: dict[str, object]) -> None:
    document = {
        "apiVersion": "sluicegate.io/v1alpha1",
        "kind": "DpiSniffer",
        "metadata": {"name": "edge"},
        "spec": spec,
    }
    result = validate_documents([("dpi", json.dumps(document))])
    assert bool(result.sniffers) != bool(result.problems)
    assert len(set(result.problems)) == len(result.problems)
    assert all(problem.path.startswith("spec.") and problem.reason for problem in result.problems)
