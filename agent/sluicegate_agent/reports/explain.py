"""What files would make this machine do: ``explain -f``, without an agent. Pure.

Everything is as if all backends passed their checks: what the tables hold, who gets which share, what is asked how
often, and what the kernel's tables cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sluicegate_agent.datapath.model import Algorithm, Endpoint, IPAddress
from sluicegate_agent.network.model import NetworkSnapshot, NoPath
from sluicegate_agent.planning.attachments import arrival_interfaces
from sluicegate_agent.planning.desired import Limits, closed_words
from sluicegate_agent.planning.ids import ServiceKey
from sluicegate_agent.planning.services import Service, ServiceBackend, admit, expand
from sluicegate_agent.planning.targets import health_targets, signal_targets
from sluicegate_agent.programs import needed_features
from sluicegate_agent.reports.explain_sniffers import explain_sniffers
from sluicegate_agent.reports.map_memory import MapMemory, selection_table_bytes
from sluicegate_agent.signals.targets import SignalTarget
from sluicegate_agent.source.configuration import Configuration, Entry
from sluicegate_api.backends import endpoint_text
from sluicegate_api.checks import WeightSource
from sluicegate_api.common import ObjectKey
from sluicegate_api.loadbalancer import LoadBalancer
from sluicegate_api.maglev import maglev_table, table_size
from sluicegate_api.roundrobin import round_robin_table

_ALGORITHMS = {
    Algorithm.MAGLEV: "Maglev",
    Algorithm.ROUND_ROBIN: "RoundRobin",
    Algorithm.LEAST_LOAD: "LeastLoad",
}


def addresses_of(configuration: Configuration) -> frozenset[IPAddress]:
    """Backends to which ways are to be looked up."""
    return frozenset(
        backend.key.address
        for balancer in configuration.effective()
        for service in expand(balancer)
        for backend in service.backends
    )


def explain(
    configuration: Configuration,
    snapshot: NetworkSnapshot,
    limits: Limits,
    memory: Sequence[MapMemory],
    notes: Sequence[str] = (),
) -> dict[str, object]:
    """The document. ``memory`` are the tables of a set of programs, without those for selection.

    ``notes`` are what the caller could not find out.
    """
    effective = configuration.effective()
    expanded = [service for balancer in effective for service in expand(balancer)]
    admitted = admit(expanded, snapshot.addresses, (), limits.sources)
    services: dict[ObjectKey, list[Service]] = {}
    for service in admitted.services:
        services.setdefault(service.key.object, []).append(service)
    tables = {service.key: _table(service) for service in admitted.services}
    balancers = [
        _balancer(entry, services.get(entry.object.key, ()), tables, admitted.refused, snapshot)
        for entry in configuration.accepted
    ]
    return {
        "loadbalancers": balancers,
        "sniffers": explain_sniffers(configuration.sniffers.accepted, snapshot),
        "features": sorted(needed_features(effective, configuration.running_sniffers())),
        "totals": _totals(admitted.services),
        "memory": _memory(memory, tables),
        "notes": [*notes, *_too_many(admitted.services, limits)],
    }


def _balancer(
    entry: Entry,
    services: Sequence[Service],
    tables: Mapping[ServiceKey, tuple[str, ...]],
    refused: Mapping[tuple[ServiceKey, Endpoint], str],
    snapshot: NetworkSnapshot,
) -> dict[str, object]:
    balancer = entry.object
    interfaces, problems = arrival_interfaces(balancer, snapshot)
    spec = balancer.spec
    notes = [*problems, *(f"VIP {vip}: {why}" for (key, vip), why in refused.items() if key.object == balancer.key)]
    if not entry.active:
        notes.append("spec.paused: nothing of it is programmed until that is false")
    return {
        "namespace": balancer.key.namespace,
        "name": balancer.key.name,
        "source": entry.source,
        "interfaces": [
            {"name": snapshot.links[ifindex].name, "reason": reason}
            for ifindex, reason in interfaces.items()
            if ifindex in snapshot.links
        ],
        "mode": str(spec.forwarding.mode),
        "limits": {
            "affinitySeconds": spec.affinity_seconds,
            "allowedSources": None if spec.allowed_sources is None else [str(each) for each in spec.allowed_sources],
            "maxNewConnectionsPerSecond": spec.max_new_connections_per_second,
            "drainSeconds": spec.drain_seconds,
            "slowStartSeconds": spec.slow_start_seconds,
        },
        "services": [_service(service, balancer, tables[service.key], snapshot) for service in services],
        "notes": notes,
    }


def _service(
    service: Service, balancer: LoadBalancer, table: tuple[str, ...], snapshot: NetworkSnapshot
) -> dict[str, object]:
    slots = Counter(table)
    return {
        "port": service.key.port,
        "family": service.key.family,
        "frontends": [
            {"address": str(vip.address), "protocol": vip.protocol.name, "port": vip.port} for vip in service.vips
        ],
        "algorithm": _ALGORITHMS[service.algorithm],
        "mode": str(balancer.spec.forwarding.mode),
        "idleSeconds": service.idle_seconds,
        "tableSlots": len(table),
        "backends": [_backend(each, slots, len(table), snapshot) for each in service.backends],
        "healthCheck": _health(service),
        "signals": _signals(service),
        "notes": list(_service_notes(service, table)),
    }


def _backend(backend: ServiceBackend, slots: Counter[str], size: int, snapshot: NetworkSnapshot) -> dict[str, object]:
    count = slots[_name(backend)]
    path = snapshot.paths.get(backend.key.address)
    return {
        "address": str(backend.key.address),
        "port": backend.key.port,
        "weight": backend.weight,
        "slots": count,
        "share": round(count / size, 6) if size else 0.0,
        "note": path.reason if isinstance(path, NoPath) else "",
    }


def _health(service: Service) -> dict[str, object] | None:
    check = service.health_check
    if check is None:
        return None
    return {
        "type": str(check.type),
        "port": check.port,
        "intervalSeconds": check.interval_seconds,
        "perSecond": _per_second(target.interval for target in health_targets([service]).values()),
    }


def _signals(service: Service) -> dict[str, object] | None:
    if service.weights.type is WeightSource.NONE:
        return None
    return {
        "type": str(service.weights.type),
        "intervalSeconds": service.weights.interval_seconds,
        "staleAfterSeconds": service.weights.stale_after_seconds,
        "perSecond": _per_second(_asked(signal_targets([service]).values())),
    }


def _asked(targets: Iterable[SignalTarget]) -> Iterator[float]:
    """Intervals of the questions that go out: equal ones are asked once."""
    return iter({target.question: target.interval for target in targets}.values())


def _service_notes(service: Service, table: tuple[str, ...]) -> Iterator[str]:
    family = service.key.family
    if not service.backends:
        yield f"no IPv{family} backend for its IPv{family} VIPs: a VIP uses backends of its own family"
    elif not table:
        yield "every backend has weight 0: new connections are refused"
    if service.closed:
        yield closed_words(family)
    if service.health_check is None and service.backends:
        yield "backends are not probed: a dead one keeps its share until it is taken out"


def _table(service: Service) -> tuple[str, ...]:
    weights = {_name(backend): backend.weight for backend in service.backends}
    if service.algorithm is Algorithm.ROUND_ROBIN:
        return round_robin_table(weights)
    return maglev_table(weights, table_size(len(weights)))


def _name(backend: ServiceBackend) -> str:
    return endpoint_text(backend.key.address, backend.key.port)


def _totals(services: Sequence[Service]) -> dict[str, object]:
    return {
        "services": len(services),
        "frontends": sum(len(service.vips) for service in services),
        "backends": sum(len(service.backends) for service in services),
        "healthChecksPerSecond": _per_second(target.interval for target in health_targets(services).values()),
        "signalQuestionsPerSecond": _per_second(_asked(signal_targets(services).values())),
    }


def _too_many(services: Sequence[Service], limits: Limits) -> list[str]:
    """What finds no room in the tables; entry 0 of each stays unused."""
    counts = (
        ("services", len(services), limits.services, ""),
        ("frontends", sum(len(service.vips) for service in services), limits.frontends, ""),
        (
            "backends",
            sum(len(service.backends) for service in services),
            limits.backends,
            ": raise SLUICEGATE_BACKENDS",
        ),
    )
    return [
        f"{count} {name} do not fit into the {size - 1} that the kernel's table holds{remedy}"
        for name, count, size, remedy in counts
        if count > size - 1
    ]


def _memory(memory: Sequence[MapMemory], tables: Mapping[ServiceKey, tuple[str, ...]]) -> dict[str, object]:
    selection = sum(selection_table_bytes(len(table)) for table in tables.values())
    rows = [
        {"name": row.name, "kind": row.kind, "entries": row.entries, "bytes": row.bytes, "bytesWhenFull": row.full}
        for row in memory
    ]
    slots = sum(map(len, tables.values()))
    rows.append(
        {
            "name": "selection tables",
            "kind": "array per service",
            "entries": slots,
            "bytes": selection,
            "bytesWhenFull": selection,
        }
    )
    return {
        "bytes": selection + sum(row.bytes for row in memory),
        "bytesWhenFull": selection + sum(row.full for row in memory),
        "maps": rows,
    }


def _per_second(intervals: Iterable[float]) -> float:
    return round(sum(1 / interval for interval in intervals), 3)
