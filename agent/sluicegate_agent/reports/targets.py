"""Load balancers by the names that people give them. Pure."""

from __future__ import annotations

from sluicegate_agent.reports.situation import Situation
from sluicegate_api.common import ObjectKey


class UnknownTargetError(Exception):
    """There is no such load balancer; the message lists those that there are."""


def find_target(situation: Situation, target: str) -> ObjectKey:
    """The key of ``NAME`` or ``NAMESPACE/NAME`` among all objects that were read.

    Raises UnknownTargetError, also for a name that is in two namespaces.
    """
    configuration = situation.configuration
    keys = [entry.object.key for entry in configuration.accepted]
    keys += [key for key, _ in configuration.refused_objects]
    namespace, _, name = target.rpartition("/")
    found = [key for key in keys if key.name == name and namespace in {"", key.namespace}]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(f"lb/{key}" for key in found)
        raise UnknownTargetError(f"{name} is in several namespaces; say which: {choices}")
    listed = ", ".join(f"lb/{key}" for key in keys) or "none"
    raise UnknownTargetError(f"there is no load balancer {target}; the agent knows {listed}")
