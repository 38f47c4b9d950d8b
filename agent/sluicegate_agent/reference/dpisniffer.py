"""dpisniffer.md."""

from __future__ import annotations

from sluicegate_agent.reference.resource import Resource, resource_page
from sluicegate_api.dpisniffer import DpiSniffer, DpiSnifferSpec
from sluicegate_api.status import DpiSnifferStatus
from sluicegate_api.support import NOT_YET, of_sniffer

_USE = f"""
`sluicegate replay FILE -f ...` runs it on a capture. Sniffing live traffic is "{NOT_YET}": `sluicegate run`
refuses the resource. `sluicegate crds` prints its definition for a cluster.
"""
_STATUS = "Written by the operator in a cluster, by nobody else."


def page() -> str:
    """The text."""
    return resource_page(Resource(DpiSniffer, DpiSnifferSpec, DpiSnifferStatus, of_sniffer, _USE, _STATUS))
