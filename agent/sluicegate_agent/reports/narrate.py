"""What happened between two moments, as lines for the log. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sluicegate_agent.datapath.model import BackendState
from sluicegate_agent.health.model import Health
from sluicegate_agent.planning.desired import BackendOutcome
from sluicegate_agent.planning.ids import BackendKey, ServiceKey
from sluicegate_agent.reports.situation import Situation
from sluicegate_agent.source.configuration import Configuration
from sluicegate_api.backends import endpoint_text


def configuration_changes(before: Configuration, after: Configuration) -> Iterator[str]:
    """Load balancers and sniffers that came, went or changed."""
    old = {entry.object.key: entry.object for entry in before.accepted}
    new = {entry.object.key: entry.object for entry in after.accepted}
    for key, balancer in new.items():
        if key not in old:
            yield f"load balancer {key} is new"
        elif old[key] != balancer:
            yield f"load balancer {key} changed"
    yield from (f"load balancer {key} is gone" for key in old if key not in new)
    known = {entry.object.key: entry.object for entry in before.sniffers.accepted}
    present = {entry.object.key: entry.object for entry in after.sniffers.accepted}
    for key, sniffer in present.items():
        if key not in known:
            yield f"sniffer {key} is new"
        elif known[key] != sniffer:
            yield f"sniffer {key} changed"
    yield from (f"sniffer {key} is gone" for key in known if key not in present)


def transitions(before: Situation, after: Situation) -> Iterator[str]:
    """Interfaces, VIPs and backends whose state is another one now."""
    for ifindex, attached in after.attached.items():
        if before.attached.get(ifindex) != attached:
            yield f"interface {attached.name}: {attached.mode}" + (f", {attached.reason}" if attached.reason else "")
    yield from (
        f"interface {attached.name}: programs removed"
        for ifindex, attached in before.attached.items()
        if ifindex not in after.attached
    )
    yield from (f"VIP {vip} is balanced" for vip in sorted(map(str, after.applied.bound - before.applied.bound)))
    gone = sorted(map(str, before.applied.bound - after.applied.bound))
    yield from (f"VIP {vip} is not balanced any more" for vip in gone)
    yield from _backends(before.desired.backends, after.desired.backends, after.health)
    for key, panic in after.desired.panics.items():
        if before.desired.panics.get(key) != panic:
            yield f"{service_name(key)}: {panic}"
    for key in (service.key for service in after.desired.services if service.key not in after.desired.panics):
        if key in before.desired.panics:
            yield f"{service_name(key)}: enough backends are healthy again"


def _backends(
    before: Mapping[BackendKey, BackendOutcome],
    after: Mapping[BackendKey, BackendOutcome],
    health: Mapping[BackendKey, Health],
) -> Iterator[str]:
    for key, outcome in after.items():
        old = before.get(key)
        if old is None or (old.state, old.problem) != (outcome.state, outcome.problem):
            checked = health[key].reason if key in health and outcome.state is BackendState.DOWN else ""
            reason = outcome.problem or outcome.held or checked
            yield f"{backend_name(key)}: {_word(outcome.state)}" + (f" ({reason})" if reason else "")
    yield from (f"{backend_name(key)}: gone" for key in before if key not in after)


def service_name(key: ServiceKey) -> str:
    """A port of a load balancer in the log."""
    return f"load balancer {key.object}, {key.port} over IPv{key.family}"


def backend_name(key: BackendKey) -> str:
    """A backend in the log."""
    return f"backend {key.service.object} {key.service.port} {endpoint_text(key.address, key.port)}"


def _word(state: BackendState | None) -> str:
    return state.name.lower() if state is not None else "its route is being looked up"
