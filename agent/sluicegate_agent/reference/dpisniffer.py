"""dpisniffer.md."""

from __future__ import annotations

from sluicegate_agent.reference.resource import Resource, resource_page
from sluicegate_api.dpisniffer import DpiSniffer, DpiSnifferSpec
from sluicegate_api.status import DpiSnifferStatus
from sluicegate_api.support import of_sniffer

_USE = """
`sluicegate run -f ...` runs it on [live traffic](../how-to/sniffing.md), `sluicegate replay FILE -f ...` on a
[capture](../how-to/replay.md). `sluicegate crds` prints its definition for a cluster.
"""
_STATUS = "Written by the operator in a cluster, by nobody else."


def page() -> str:
    """The text."""
    return resource_page(Resource(DpiSniffer, DpiSnifferSpec, DpiSnifferStatus, of_sniffer, _USE, _STATUS))
