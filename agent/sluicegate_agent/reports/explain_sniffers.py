"""What sniffers of files would look at on this machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate_agent.network.model import NetworkSnapshot
from sluicegate_agent.reports.map_memory import MapMemory
from sluicegate_agent.sniffing.assignment import Place, assign
from sluicegate_agent.source.configuration import SnifferEntry


def explain_sniffers(entries: Sequence[SnifferEntry], snapshot: NetworkSnapshot) -> list[dict[str, object]]:
    """One object for each sniffer."""
    places = assign([entry.object for entry in entries if entry.active], snapshot, {})
    return [_sniffer(entry, places.get(entry.object.key, Place()), snapshot) for entry in entries]


def ring_memory(workers: int, ring_bytes: int) -> MapMemory:
    """The rings between the kernel and the workers."""
    total = workers * ring_bytes
    return MapMemory("rings of the sniffer", "ring per worker", workers, total, total)


def _sniffer(entry: SnifferEntry, place: Place, snapshot: NetworkSnapshot) -> dict[str, object]:
    sniffer = entry.object
    spec = sniffer.spec
    budget, eve = spec.budget, spec.export.eve
    notes = list(place.problems)
    if not entry.active:
        notes.append("spec.paused: nothing of it runs until that is false")
    if eve is None:
        notes.append("spec.export.eve is not given: events are counted, and shown by sluicegate observe")
    return {
        "namespace": sniffer.key.namespace,
        "name": sniffer.key.name,
        "source": entry.source,
        "interfaces": [
            {"name": snapshot.links[ifindex].name, "reason": reason} for ifindex, reason in place.interfaces.items()
        ],
        "rules": [
            {"name": rule.name or f"sniff[{index}]", "ignore": rule.ignore}
            for index, rule in enumerate(spec.sniff or ())
        ],
        "budget": {
            "payloadPackets": budget.payload_packets,
            "payloadBytes": budget.payload_bytes,
            "maxPackets": budget.max_packets,
            "adaptive": budget.adaptive,
        },
        "depth": str(spec.classify.depth),
        "signatures": spec.signatures.given,
        "actions": [str(action.action) for action in spec.actions or ()],
        "output": None if eve is None else {"type": str(eve.type), "path": eve.path or ""},
        "notes": notes,
    }
