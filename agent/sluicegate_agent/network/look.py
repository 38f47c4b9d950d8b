"""One look at the network of this namespace, for commands that run without an agent. Needs no privileges."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from sluicegate_agent.datapath.model import IPAddress
from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.network.reader import Reader


def look(watched: Iterable[IPAddress]) -> NetworkSnapshot:
    """The network now, with the ways to the ``watched`` addresses. Raises OSError when the kernel does not tell."""
    with closing(Reader()) as reader:
        tables = reader.tables()
        return NetworkSnapshot(
            links={ifindex: tables.link(row) for ifindex, row in tables.links.items()},
            addresses=frozenset(address for _, address in tables.addresses),
            default_interfaces=reader.default_interfaces(),
            paths={address: reader.path(address, tables) for address in watched},
            forwarding=dict(tables.forwarding),
        )
