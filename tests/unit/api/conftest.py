"""Load balancers and sniffers for tests, as a file would hold them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate_api.validation import validate_documents

Manifest = dict[str, Any]


@pytest.fixture
def manifest() -> Callable[..., Manifest]:
    """A valid load balancer; keywords replace fields of its spec."""

    def make(*, name: str = "web", namespace: str = "shop", **spec: object) -> Manifest:
        return {
            "apiVersion": "sluicegate.io/v1alpha1",
            "kind": "LoadBalancer",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "addresses": ["203.0.113.10"],
                "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                "backends": {"static": [{"address": "10.0.0.5"}, {"address": "10.0.0.6", "weight": 50}]},
                **spec,
            },
        }

    return make


@pytest.fixture
def problems(manifest: Callable[..., Manifest]) -> Callable[..., list[tuple[str, str]]]:
    """Paths and reasons of all that is wrong with a load balancer whose spec has these fields."""

    def find(**spec: object) -> list[tuple[str, str]]:
        result = validate_documents([("lb.json", json.dumps(manifest(**spec)))])
        return [(problem.path, problem.reason) for problem in result.problems]

    return find


@pytest.fixture
def sniffer() -> Callable[..., Manifest]:
    """A valid sniffer; keywords are fields of its spec."""

    def make(*, name: str = "edge", namespace: str = "shop", **spec: object) -> Manifest:
        return {
            "apiVersion": "sluicegate.io/v1alpha1",
            "kind": "DpiSniffer",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }

    return make


@pytest.fixture
def sniffer_problems(sniffer: Callable[..., Manifest]) -> Callable[..., list[tuple[str, str]]]:
    """Paths and reasons of all that is wrong with a sniffer whose spec has these fields."""

    def find(**spec: object) -> list[tuple[str, str]]:
        result = validate_documents([("dpi.json", json.dumps(sniffer(**spec)))])
        return [(problem.path, problem.reason) for problem in result.problems]

    return find
