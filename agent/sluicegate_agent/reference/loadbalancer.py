"""loadbalancer.md."""

from __future__ import annotations

from sluicegate_agent.reference.resource import Resource, resource_page
from sluicegate_api.loadbalancer import LoadBalancer, LoadBalancerSpec
from sluicegate_api.status import LoadBalancerStatus
from sluicegate_api.support import of_loadbalancer

_USE = """
The same text works in files (`sluicegate run -f`) and, once there is a cluster, as a custom resource
(`sluicegate crds`).
"""
_STATUS = "Written by the operator in a cluster, by nobody else. Outside one `sluicegate status` tells the same."


def page() -> str:
    """The text."""
    return resource_page(Resource(LoadBalancer, LoadBalancerSpec, LoadBalancerStatus, of_loadbalancer, _USE, _STATUS))
